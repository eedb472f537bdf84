// A worker thread of a fuzzing campaign: registers tsx, as scripts/kvmscope.js does for the main thread, and hands over.
import { register } from 'tsx/esm/api';

register();
await import('../src/lab/fuzz/worker-thread.ts');
