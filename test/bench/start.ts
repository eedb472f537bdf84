/** What a fresh process costs: until something has been shown, until a million instructions have run, and memory. */
import { fileURLToPath } from 'node:url';
import { runNode } from './child.ts';
import type { Engine } from './engines/engine.ts';

export interface StartRow {
  readonly name: string;
  readonly title: string;
  readonly unit: 'seconds' | 'bytes' | 'times';
}

/** One process, which yields a number for each of its rows. */
export interface Probe {
  readonly rows: readonly StartRow[];
  /** At most so many counted rounds. */
  readonly most?: number;
  take(): readonly number[];
}

const ROOT = fileURLToPath(new URL('../..', import.meta.url));
const script = (name: string): string[] => ['--import', 'tsx', fileURLToPath(new URL(name, import.meta.url))];

const seconds = (name: string, title: string): StartRow => ({ name, title, unit: 'seconds' });
const VCPUS = 255;

const demo = (name: string, title: string, cwd: string): Probe => ({
  rows: [seconds(name, title)],
  take: () => [runNode(['scripts/kvmscope.js', 'demo'], cwd).cpu],
});

const cold = (name: string, title: string): Probe => ({
  rows: [
    seconds(`cold-${name}`, `first million instructions, ${title}`),
    seconds(`load-${name}`, `and what it loads before, ${title}`),
  ],
  take: () => {
    const { load, million } = JSON.parse(runNode([...script('cold.ts'), name], ROOT).stdout);
    return [million, load];
  },
});

/** `engines` are those that are here; `against` is the checkout of another commit. */
export function probes(engines: readonly Engine[], against: string | undefined): Probe[] {
  return [
    demo('npm-start', '`npm start`', ROOT),
    ...(against === undefined ? [] : [demo('npm-start-against', '`npm start` of the other checkout', against)]),
    {
      rows: [
        {
          name: 'memory-255',
          title: `resident memory, ${VCPUS} vCPUs with 16 MiB of guest RAM`,
          unit: 'bytes',
        },
      ],
      take: () => [runNode([...script('large.ts'), String(VCPUS)], ROOT).memory],
    },
    {
      rows: [{ name: 'fuzz-jobs', title: 'fuzzing ICR values, two worker threads to one', unit: 'times' }],
      // Seconds of both cores.
      most: 3,
      take: () => [Number(runNode(script('jobs.ts'), ROOT).stdout)],
    },
    // QEMU is a process of its own: what this one takes says nothing of it.
    ...engines.filter(({ name }) => name !== 'qemu').map(({ name, title }) => cold(name, title)),
    ...(engines.some(({ name }) => name === 'interpreter') ? [cold('api', '`kvmscope/unicorn`')] : []),
  ];
}
