/** What a snapshot of a whole VM holds; `machine.ts` takes and restores it. */
import type { CpuSnapshot } from '../cpu/cpu.ts';
import type { Kvm, KvmState } from '../kvm/x86.ts';
import type { Program } from '../program/assembler.ts';
import type { Board } from './board/types.ts';
import type { Console } from './console.ts';
import type { RecorderState } from './recorder.ts';
import type { Scheduler } from './scheduler.ts';
import type { Snapshot, Vm } from './vm.ts';

/** Everything but the engine's part and what never changes. */
export interface MachineState {
  /** `Vm.load` makes a new one; the snapshot goes back to its own. */
  readonly kvm: Kvm;
  readonly kvmState: KvmState;
  readonly console: Console;
  readonly consoleState: Console;
  readonly board: Board;
  readonly boardState: Board;
  readonly scheduler: Scheduler;
  readonly recorder: RecorderState | undefined;
  readonly program: Program | undefined;
  readonly stepBase: readonly number[];
  readonly pristine: boolean;
  readonly wakingVector: number;
  readonly hypercallsAnswered: number;
}

export class MachineSnapshot implements Snapshot {
  readonly vm: Vm;
  readonly cpu: CpuSnapshot;
  readonly state: MachineState;
  readonly #forget: (snapshot: MachineSnapshot) => void;

  constructor(vm: Vm, cpu: CpuSnapshot, state: MachineState, forget: (snapshot: MachineSnapshot) => void) {
    this.vm = vm;
    this.cpu = cpu;
    this.state = state;
    this.#forget = forget;
  }

  dispose(): void {
    this.cpu.dispose();
    this.#forget(this);
  }
}
