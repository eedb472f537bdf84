// A worker thread of a fuzzing campaign: loads its code in the way its process has done.
import { workerData } from 'node:worker_threads';
import { load } from './load.js';

await load('lab/fuzz/worker-thread', workerData.compiled);
