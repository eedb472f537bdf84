/** What the benchmark asks of everything that executes guest code. */
import type { Bits, Image } from '../workloads.ts';

export const ENGINE_NAMES = ['interpreter', 'jit', 'v86', 'libunicorn', 'qemu', 'unicornjs'] as const;
export type EngineName = (typeof ENGINE_NAMES)[number];

export interface Engine {
  readonly name: EngineName;
  /** Heading of its column. */
  readonly title: string;
  /** Which form of a workload it executes. */
  readonly bits: Bits;
  /** Why it cannot be measured here. */
  readonly missing?: string;
  /** Names of workloads that it cannot do, and why. */
  readonly lacks: Readonly<Record<string, string>>;
  /** Names of workloads that it does in another way than kvmscope, which leaves the guest for KVM, and what it does. */
  readonly does?: Readonly<Record<string, string>>;
  open(image: Image): Promise<Machine>;
}

/** A machine with a workload in it. */
export interface Machine {
  /** Makes so many laps and returns the seconds of CPU time that they took. */
  run(laps: number): Promise<number>;
  /** The result of the last lap. */
  result(): number;
  close(): Promise<void> | void;
}

/** CPU seconds of this process, all its threads: other processes disturb less than with wall time. */
export function cpuSeconds(): number {
  const { user, system } = process.cpuUsage();
  return (user + system) / 1e6;
}

/** The guest went elsewhere than to the end of its laps. */
export const wentAstray = (engine: string, what: string): Error =>
  new Error(`${engine} did not finish its laps: ${what}`);

/** Of `Engine.does`. */
export const NO_TRAP = 'executes it by itself, without a trap';
