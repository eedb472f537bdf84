/** How fast rounds are simulated. */
import { IpiBench } from './round.ts';
import type { IpiScenario } from './scenario.ts';

/** A guest that is ready; each call plays one round. For benchmarks: `const round = await ipiRounds({ send: 'pv' }); round.play(100)`. */
export async function ipiRounds(scenario: Partial<IpiScenario> = {}): Promise<IpiBench> {
  const bench = await IpiBench.open(scenario);
  bench.play(WARM_UP);
  return bench;
}

const WARM_UP = 20;
const LEAST_MS = 200;

/** Rounds a second of this process, from at least `LEAST_MS` of its CPU time. The one number here that differs from run to run. */
export async function ipiSpeed(scenario: Partial<IpiScenario>): Promise<number> {
  const bench = await ipiRounds(scenario);
  const cpuMs = (): number => {
    const { user, system } = process.cpuUsage();
    return (user + system) / 1000;
  };
  let rounds = 0;
  const start = cpuMs();
  let spent = 0;
  for (let batch = 8; spent < LEAST_MS; batch = Math.min(batch * 2, 4096)) {
    bench.play(batch);
    rounds += batch;
    spent = cpuMs() - start;
  }
  bench.dispose();
  return (rounds * 1000) / spent;
}
