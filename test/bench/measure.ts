/** Timing: work in turns within one run, medians with their spread, ratios of neighbours in time. */

/** Least, middle and greatest of some numbers. */
export interface Sample {
  readonly median: number;
  readonly min: number;
  readonly max: number;
}

/** One of several things that are measured side by side: `run` does the work `times` times and says how many CPU seconds it took. */
export interface Runner {
  run(times: number): Promise<number>;
}

/** Seconds of one time of the work, one number per round, by runner. */
export type Rounds = readonly (readonly number[])[];

export interface Effort {
  readonly rounds: number;
  /** CPU seconds that a runner works in each round. */
  readonly round: number;
  /** CPU seconds that it works before the first. */
  readonly warmUp: number;
}

const LIMIT = 1 << 24;

/** The middle one; of an even number of values the upper one of the middle. */
export function summarize(values: readonly number[]): Sample {
  const sorted = [...values].sort((a, b) => a - b);
  return { median: sorted[sorted.length >> 1], min: sorted[0], max: sorted[sorted.length - 1] };
}

/** Another unit, in which more may be less. */
export function convert({ median, min, max }: Sample, to: (value: number) => number): Sample {
  const [a, b] = [to(min), to(max)];
  return { median: to(median), min: Math.min(a, b), max: Math.max(a, b) };
}

/** (max - min) / median. */
export const spread = ({ median, min, max }: Sample): number => (max - min) / median;

/** How often `a` would have done the work while `b` did it once: of each round, so that what disturbs a round disturbs both. */
export const ratio = (a: readonly number[], b: readonly number[]): Sample =>
  summarize(a.map((seconds, round) => b[round] / seconds));

/** Warms each runner up and finds how many times make a round of its own. */
async function calibrate(runner: Runner, { round, warmUp }: Effort): Promise<number> {
  let times = 1;
  for (let spent = 0; ; ) {
    const seconds = await runner.run(times);
    spent += seconds;
    if (spent >= warmUp && (seconds >= round / 2 || times >= LIMIT)) {
      return Math.min(LIMIT, Math.max(1, Math.round((times * round) / Math.max(seconds, 1e-6))));
    }
    if (seconds < round) times = Math.min(LIMIT, times * 2);
  }
}

/** Measures runners in turns, each time beginning with another one. */
export async function measure(runners: readonly Runner[], effort: Effort): Promise<Rounds> {
  const times: number[] = [];
  for (const runner of runners) times.push(await calibrate(runner, effort));
  const seconds: number[][] = runners.map(() => []);
  for (let round = 0; round < effort.rounds; round++) {
    for (let turn = 0; turn < runners.length; turn++) {
      const n = (round + turn) % runners.length;
      // A clock that has not moved counts as its smallest step.
      seconds[n].push(Math.max(await runners[n].run(times[n]), 1e-6) / times[n]);
    }
  }
  return seconds;
}
