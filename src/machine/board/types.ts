/** What a machine asks of the board around its vCPUs. */
import type { GuestReport } from '../types.ts';

/** What the guest wants of the machine as a whole. */
export type BoardRequest = 'none' | 'suspend' | 'reset' | 'power-off';

export interface Board {
  readonly notes: readonly string[];
  readonly reports: readonly GuestReport[];
  /** Status written to the debug-exit port, -1 before. */
  exitStatus: number;
  request: BoardRequest;
  /** IN of 1, 2 or 4 bytes; unsigned. */
  read(port: number, size: number): number;
  write(vcpu: number, port: number, size: number, value: number): void;
  /** A read of 1, 2, 4 or 8 bytes outside RAM. */
  readMemory(gpa: bigint, size: number): bigint;
  writeMemory(gpa: bigint, size: number, value: bigint): void;
  /** Remembers something worth knowing, once. */
  note(text: string): void;
  /** Another board in the same state, for a snapshot. */
  copy(): Board;
  /** Becomes what a copy is. */
  assign(from: this): void;
}
