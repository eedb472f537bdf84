/**
 * A process that starts an engine and executes a first million instructions: `tsx test/bench/cold.ts ENGINE`. Prints {load, million}: CPU
 * seconds from here to a machine with the program in it, and of the instructions. Engine `api` is our own module of the unicorn.js API.
 */
import { cpuSeconds } from './engines/engine.ts';

const begun = cpuSeconds();
const name = process.argv[2] as string;
const { assembleWorkload, WORKLOADS } = await import('./workloads.ts');
const workload = WORKLOADS.find((one) => one.name === 'alu')!;
/** A lap of alu.S has 200,000. */
const LAPS = 5;

async function open() {
  if (name === 'api') {
    const [{ openUnicorn }, { ownModule }] = await Promise.all([
      import('./engines/unicornjs.ts'),
      import('../engines/own-module.ts'),
    ]);
    return openUnicorn(await ownModule(), assembleWorkload(workload, 64));
  }
  const { ENGINES } = await import('./engines/index.ts');
  const engine = await ENGINES[name as keyof typeof ENGINES]();
  return engine.open(assembleWorkload(workload, engine.bits));
}

const guest = await open();
const load = cpuSeconds() - begun;
const million = await guest.run(LAPS);
await guest.close();
console.log(JSON.stringify({ load, million }));
process.exit();
