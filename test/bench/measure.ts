/** Timing: work measured in turns within one process, medians with their spread. */

export interface Sample {
  /** Operations per second: median, least and greatest of the rounds. */
  readonly median: number;
  readonly min: number;
  readonly max: number;
}

export interface Workload {
  readonly name: string;
  /** What one operation is, e.g. 'guest instruction'. */
  readonly unit: string;
  /** Name of the workload in the same run that this one is set in relation to. */
  readonly against?: string;
  /** Does the work once and returns how many operations that was. */
  run(): number;
}

export interface Row extends Sample {
  readonly name: string;
  readonly unit: string;
  readonly ratio?: { readonly to: string; readonly value: number };
}

/** CPU seconds of this process, so that other processes on the machine disturb less than with wall time. */
const cpuSeconds = (): number => {
  const { user, system } = process.cpuUsage();
  return (user + system) / 1e6;
};

/** Runs every workload once per round, in turn, after two warm-up rounds; `rounds` counted rounds. */
export function measure(workloads: readonly Workload[], rounds: number): Row[] {
  const rates = new Map<string, number[]>(workloads.map((w) => [w.name, []]));
  for (let round = -2; round < rounds; round++) {
    for (const workload of workloads) {
      const start = cpuSeconds();
      const operations = workload.run();
      const rate = operations / (cpuSeconds() - start);
      if (round >= 0) (rates.get(workload.name) as number[]).push(rate);
    }
  }
  const samples = new Map<string, Sample>();
  for (const [name, list] of rates) {
    list.sort((a, b) => a - b);
    samples.set(name, { median: list[list.length >> 1], min: list[0], max: list[list.length - 1] });
  }
  return workloads.map(({ name, unit, against }) => {
    const sample = samples.get(name) as Sample;
    if (against === undefined) return { name, unit, ...sample };
    return {
      name,
      unit,
      ...sample,
      ratio: { to: against, value: sample.median / (samples.get(against) as Sample).median },
    };
  });
}
