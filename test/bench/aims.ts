/** What the project wants to reach, beside what a run shows. */
import type { EngineName } from './engines/engine.ts';
import type { Report } from './report.ts';
import { WORKLOADS } from './workloads.ts';

export interface Aim {
  readonly what: string;
  readonly wanted: string;
  /** What was measured, in the unit of `wanted`; nothing if a part of it was not. */
  readonly measured?: string;
  readonly met?: boolean;
}

const MIB = 1 << 20;
const COMPUTE = ['alu', 'copy', 'sieve', 'branches', 'calls', 'pages'];
const MEMORY_AND_BRANCHES = COMPUTE.filter((name) => name !== 'alu');

export const number = (value: number): string =>
  value >= 100 ? Math.round(value).toLocaleString('en-US') : value >= 10 ? value.toFixed(1) : value.toFixed(2);

/** The engine that a VM uses unless told otherwise. */
export const usual = (report: Report): EngineName =>
  report.engines.some(({ name, missing }) => name === 'jit' && missing === undefined) ? 'jit' : 'interpreter';

export function aims(report: Report): Aim[] {
  const side = (workload: string) => report.side.find(({ name }) => name === workload);
  const title = (workload: string): string => WORKLOADS.find(({ name }) => name === workload)?.title ?? workload;
  const alone = (row: string): number | undefined => report.alone.find(({ name }) => name === row)?.value.median;
  const start = (row: string): number | undefined => report.start.find(({ name }) => name === row)?.value.median;
  const each = (workload: string, engine: EngineName): number | undefined =>
    side(workload)?.cells[engine]?.value.median;
  const divide = (a: number | undefined, b: number | undefined): number | undefined =>
    a === undefined || b === undefined ? undefined : a / b;

  const aim = (what: string, sign: '≥' | '≤', bound: number, value: number | undefined, unit = ''): Aim => {
    const wanted = `${sign} ${bound.toLocaleString('en-US')}${unit}`;
    if (value === undefined) return { what, wanted };
    return { what, wanted, measured: `${number(value)}${unit}`, met: sign === '≥' ? value >= bound : value <= bound };
  };
  const faster = (names: readonly string[], ours: EngineName, theirs: EngineName, bound: number): Aim[] =>
    names.map((name) => {
      const who = ours === 'jit' ? 'second tier' : 'interpreter';
      const other = { v86: 'v86', qemu: 'QEMU TCG', unicornjs: 'unicorn.js' }[theirs as string];
      const value = side(name)?.cells[ours]?.to[theirs]?.median;
      return aim(`${who} to ${other}, ${title(name)}`, '≥', bound, value, ' ×');
    });

  const ours = usual(report);
  const nanoseconds = (workload: string): number | undefined => {
    const seconds = each(workload, ours);
    return seconds === undefined ? undefined : seconds * 1e9;
  };
  const perSecond = (seconds: number | undefined): number | undefined => divide(1, seconds);
  const million = start(`cold-${ours}`);
  const millionOfUnicorn = start('cold-unicornjs');
  const memory = start('memory-255');
  return [
    ...faster(COMPUTE, 'jit', 'v86', 1.2),
    ...faster(MEMORY_AND_BRANCHES, 'jit', 'qemu', 0.7),
    ...faster(['alu'], 'interpreter', 'unicornjs', 1.5),
    ...faster(MEMORY_AND_BRANCHES, 'interpreter', 'unicornjs', 3),
    aim('first million instructions, unicorn.js to kvmscope', '≥', 5, divide(millionOfUnicorn, million), ' ×'),
    aim('`vmcall` round trip', '≤', 150, nanoseconds('vmcall'), ' ns'),
    aim('`wrmsr 0x830` round trip', '≤', 150, nanoseconds('icr'), ' ns'),
    aim('v86 `out` round trip to `vmcall`', '≥', 15, divide(each('out', 'v86'), each('vmcall', ours)), ' ×'),
    ...['vmcall', 'icr'].map((name) => {
      const value = side(name)?.cells[ours]?.to.unicornjs?.median;
      return aim(`round trip on unicorn.js to ours, ${title(name)}`, '≥', 30, value, ' ×');
    }),
    aim('restores of 4 vCPUs with a short run', '≥', 300_000, perSecond(alone('restore-ipi')), ' a second'),
    aim(
      'broadcast to 40 targets to that to 10, of 80 vCPUs (linear is 4)',
      '≤',
      4,
      divide(alone('broadcast-pv-40-of-80'), alone('broadcast-pv-10-of-80')),
      ' ×',
    ),
    aim(
      'broadcast to 10 targets, of 255 vCPUs to of 80',
      '≤',
      1.1,
      divide(alone('broadcast-pv-10-of-255'), alone('broadcast-pv-10-of-80')),
      ' ×',
    ),
    aim('fuzz cases of ICR values, KVM alone', '≥', 1_000_000, perSecond(alone('fuzz-direct')), ' a second'),
    aim('fuzz cases, as guest instructions', '≥', 100_000, perSecond(alone('fuzz-guest')), ' a second'),
    aim('fuzzing with two worker threads to one', '≥', 1.7, start('fuzz-jobs'), ' ×'),
    aim('memory of 255 vCPUs with 16 MiB', '≤', 200, divide(memory, MIB), ' MiB'),
    ...(start('npm-start-against') === undefined
      ? []
      : [
          aim(
            '`npm start` to that of the other checkout',
            '≤',
            1,
            divide(start('npm-start'), start('npm-start-against')),
            ' ×',
          ),
        ]),
  ];
}
