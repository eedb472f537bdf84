/** A virtual machine as a library user sees it; `machine.ts` implements it. */
import type { Kvm } from '../kvm/x86.ts';
import type { Program } from '../program/assembler.ts';
import type { FingerprintOptions } from './fingerprint.ts';
import type { Schedule } from './schedule.ts';
import type { MachineOptions, RunEnd, RunResult, StartMode, VcpuView } from './types.ts';

/** Limits of one `run()`; what is absent comes from the options the VM was made with. */
export interface RunOptions {
  /** Steps (instructions and REP iterations, and one per exit) over all vCPUs. */
  readonly budget?: number;
  /** Starts the scheduler's generator anew. */
  readonly seed?: number;
  /** Which vCPUs make the first steps of this run (`0*3,1,0,2*5`); then the scheduler goes on from its seed. */
  readonly schedule?: string | Schedule;
}

/** How `Vm.load` reads what it is given. */
export interface LoadOptions {
  /** Name for error messages and the line map of source text; default 'program.S'. */
  readonly fileName?: string;
  /** Where a flat binary goes and source text starts; default 0x1000. */
  readonly origin?: number;
}

/** What `Vm.boot` hands to an image. */
export interface BootOptions {
  /** Name of the image: its first argument, and for error messages. Default 'image'. */
  readonly name?: string;
  /** The arguments behind the name. */
  readonly append?: string;
  /** A module. kvm-unit-tests reads its environment from it, `NAME=value` lines. */
  readonly initrd?: Uint8Array;
}

/** Registers by name (`registers.ts`); numbers are taken as 64-bit two's complement. */
export type RegisterValues = Readonly<Record<string, bigint | number>>;

/** A state of a VM to go back to with `Vm.restore`. */
export interface Snapshot {
  /** Lets go of it and of the pages that only it needs. */
  dispose(): void;
}

export interface Vm {
  /** The options in force, every default filled in. */
  readonly options: ResolvedMachineOptions;
  /** Guest RAM from guest-physical address 0, to read. Change it with `write`. */
  readonly memory: Uint8Array;
  /** The program of the last `load`. */
  readonly program: Program | undefined;
  /** KVM of this VM: MSRs, LAPICs, MP states, counters. */
  readonly kvm: Kvm;
  /**
   * Resets the whole VM and puts a program into it: source text (GNU Intel syntax, 64-bit code unless it says `.code16` or
   * `.code32`), an assembled `Program`, or the bytes of an ELF file or flat binary. Settings in an expectation header are not
   * applied here, since the machine already exists: `openProgram` reads them and gives the options for `createVm`.
   */
  load(program: string | Program | Uint8Array, options?: LoadOptions): Program;
  /** `load` of a file: a source (`.S`, `.s`, `.asm`), an ELF file, or else a flat binary. */
  loadFile(path: string, options?: Pick<LoadOptions, 'origin'>): Program;
  /**
   * Resets a VM with a `pc` board and starts a Multiboot 1 image in it, as its firmware would. Throws KvmscopeError('image') for what is
   * no such image.
   */
  boot(image: Uint8Array, options?: BootOptions): void;
  /** Runs until the guest ends, nothing can happen any more, or the budget is used up. Call again to go on. */
  run(options?: RunOptions): RunResult;
  /**
   * `run` for hot loops: tells only how it ended. What is recorded meanwhile is in the result of the next `run`, so make the VM with
   * `record: false`.
   */
  advance(options?: RunOptions): RunEnd;
  /** One KVM_RUN of one vCPU with a budget of `steps` (default 1), outside the scheduler. Returns the state afterwards. */
  step(vcpu?: number, steps?: number): VcpuView;
  /**
   * One step of a schedule by a vCPU that is runnable: `run` with a schedule does the same, step by step. Tells whether that ended the
   * run, or that the vCPU asked to let others run (PAUSE, KVM_HC_SCHED_YIELD).
   */
  turn(vcpu: number): RunEnd | 'yield' | undefined;
  /** The state of one vCPU now, as a copy. */
  vcpu(index: number): VcpuView;
  setRegisters(index: number, values: RegisterValues): void;
  /** Writes guest RAM and tells the engine. */
  write(address: number, bytes: Uint8Array): void;
  /**
   * The whole state now: RAM, vCPUs, KVM with APICs, timers and clock, devices, scheduler, record. RAM is copy-on-write by page.
   * Throws KvmscopeError('usage') if the engine has no snapshots.
   */
  snapshot(): Snapshot;
  /**
   * Goes back to a snapshot of this VM, as often as wanted, also to one from before `load`. Costs as much as has changed since the
   * snapshot last taken or restored, or for another one as much as the two differ. A run from there is the run that followed the
   * snapshot, event by event. Throws KvmscopeError('usage') for a snapshot of another VM or one that was disposed of.
   */
  restore(snapshot: Snapshot): void;
  /**
   * A number from 0 to 2^53 - 1 for the state now: the same for states from which the same steps lead to the same places. Numbers can be
   * compared while the same snapshot is the one last taken or restored. Statistics do not count unless asked for, time only where a
   * timer or a paravirtual clock runs. Throws KvmscopeError('usage') if the engine has no snapshots.
   */
  fingerprint(options?: FingerprintOptions): number;
  /** Gives the engine back for reuse; the VM, its snapshots and `memory` of its results must not be used afterwards. */
  dispose(): void;
}

/** MachineOptions with every default filled in. */
export type ResolvedMachineOptions = Readonly<
  Required<Omit<MachineOptions, 'apicIds' | 'pvFeatures' | 'mode' | 'onConsole' | 'schedule' | 'tier2'>> & {
    mode: StartMode;
    schedule: Schedule;
    apicIds?: readonly number[];
    pvFeatures?: number;
    onConsole?: (text: string) => void;
  }
>;
