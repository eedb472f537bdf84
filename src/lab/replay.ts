/**
 * Replays recordings of a real KVM against the model: every case is performed as it was recorded (through guest instructions or
 * through the host's MSR path) on the VM its file describes, and every recorded effect is compared, on every vCPU.
 */
import { readdirSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { KvmscopeError } from '../errors.ts';
import { type Era, NEWEST_ERA, resolveEra } from '../kvm/eras.ts';
import type { KvmVcpu } from '../kvm/vcpu.ts';
import { type CallerMode, RecordedMachine } from './recorded-vm.ts';
import {
  type Effects,
  type HypercallCase,
  type IcrCase,
  type MsrCase,
  type RecordedCase,
  type Recording,
  readRecording,
  type SequenceCase,
} from './recording.ts';

/** One field that differs. `expected` is what was recorded; undefined: nothing of the kind. */
export interface ReplayDifference {
  /** e.g. `gp`, `rax`, `ch.3.irr`. */
  readonly field: string;
  readonly expected: unknown;
  readonly actual: unknown;
}

/** A case that came out otherwise than recorded. */
export interface ReplayMismatch {
  readonly file: string;
  readonly line: number;
  /** The recorded line. */
  readonly text: string;
  readonly differences: readonly ReplayDifference[];
}

export interface ReplayedFile {
  readonly path: string;
  readonly config: string;
  /** KVM version it was replayed with. */
  readonly era: string;
  readonly vcpus: number;
  readonly cases: number;
  readonly mismatches: readonly ReplayMismatch[];
}

export interface ReplayReport {
  readonly files: readonly ReplayedFile[];
  readonly cases: number;
  /** Number of cases that differ. */
  readonly mismatches: number;
  /** Nothing differs. */
  readonly pass: boolean;
  /** Time spent on setting up VMs and performing cases. */
  readonly seconds: number;
}

export interface ReplayOptions {
  /** KVM version for all files; default the recorded kernel's, and 6.18 for a file that names none. */
  readonly kvm?: string;
  /** Called after each file. */
  readonly onFile?: (file: ReplayedFile) => void;
  /** Called now and then with the share of the work that is done, 0 … 1. */
  readonly onProgress?: (done: number) => void;
}

/** Kernel of the recordings that this format comes from. */
const DEFAULT_ERA = '6.18';
/** Cases between two calls of onProgress. */
const PROGRESS_STEP = 256;
const MSR_ICR = 0x830;

/** The era of a recording: that of its kernel, or the newest if the kernel is newer than all known. */
function eraOf(recording: Recording, asked: string | undefined): Era {
  const { kernel } = recording.vm;
  if (asked !== undefined || kernel === undefined) return resolveEra(asked ?? DEFAULT_ERA);
  try {
    return resolveEra(kernel);
  } catch {
    const [major, minor] = kernel.split('.').map(Number) as [number, number];
    const [newMajor, newMinor] = NEWEST_ERA.name.split('.').map(Number) as [number, number];
    if (major > newMajor || (major === newMajor && minor > newMinor)) return NEWEST_ERA;
    throw new KvmscopeError(
      'recording',
      `${recording.path}: kernel ${kernel} is older than all eras; choose one with --kvm`,
    );
  }
}

/** 32-bit calls were recorded from real mode; where that cannot be, from protected mode. */
function callerMode(recorded: RecordedCase): CallerMode {
  if (recorded.cpl === 3) return recorded.bits === 64 ? 'long64-user' : 'prot32-user';
  if (recorded.bits === 64 || !('from' in recorded)) return 'long64';
  return recorded.kind === 'icr' && recorded.via === 'guest-mmio' ? 'prot32' : 'real16';
}

class Replayer {
  private readonly recording: Recording;
  private readonly era: Era;
  private readonly machines = new Map<CallerMode, RecordedMachine>();
  private differences: ReplayDifference[] = [];

  constructor(recording: Recording, era: Era) {
    this.recording = recording;
    this.era = era;
  }

  async run(onCase: (index: number) => void): Promise<ReplayMismatch[]> {
    const { path, cases } = this.recording;
    const mismatches: ReplayMismatch[] = [];
    for (const [index, recorded] of cases.entries()) {
      this.differences = [];
      const mode = callerMode(recorded);
      let machine = this.machines.get(mode);
      if (machine === undefined) {
        machine = await this.setUp(mode);
        if (this.machines.size === 0 && mismatches.length === 0) this.checkLdrs(machine, mismatches);
        this.machines.set(mode, machine);
      }
      this.perform(machine, recorded);
      if (this.differences.length > 0) {
        mismatches.push({ file: path, line: recorded.line, text: recorded.text, differences: this.differences });
      }
      if (machine.crashed) {
        machine.dispose();
        this.machines.delete(mode);
      }
      if (index % PROGRESS_STEP === 0) onCase(index);
    }
    for (const machine of this.machines.values()) machine.dispose();
    return mismatches;
  }

  private async setUp(mode: CallerMode): Promise<RecordedMachine> {
    const { path, meta, vm } = this.recording;
    try {
      return await RecordedMachine.create(vm, this.era, mode);
    } catch (error) {
      if (!(error instanceof KvmscopeError)) throw error;
      throw new KvmscopeError('recording', `${path}:${meta.line}: ${error.message}`);
    }
  }

  /** LDRs that follow from the x2APIC id are recorded facts, too. */
  private checkLdrs({ kvm }: RecordedMachine, mismatches: ReplayMismatch[]): void {
    const { path, meta, vm } = this.recording;
    const differences = vm.apics.flatMap(({ ldr }, index): ReplayDifference[] => {
      const { lapic, apicId } = kvm.vcpus[index] as KvmVcpu;
      if (!lapic.x2apic || ldr === 0 || ldr === lapic.ldr) return [];
      return [{ field: `apics.${apicId}.ldr`, expected: BigInt(ldr), actual: BigInt(lapic.ldr) }];
    });
    if (differences.length > 0) mismatches.push({ file: path, line: meta.line, text: meta.text, differences });
  }

  private perform(machine: RecordedMachine, recorded: RecordedCase): void {
    switch (recorded.kind) {
      case 'icr':
        this.icr(machine, recorded);
        break;
      case 'hypercall':
        this.hypercall(machine, recorded);
        break;
      case 'sequence':
        this.sequence(machine, recorded);
        break;
      case 'msr':
        this.msr(machine, recorded);
        break;
    }
  }

  private icr(machine: RecordedMachine, recorded: IcrCase): void {
    const { via, from, icr } = recorded;
    const guest = via !== 'set-msrs';
    machine.reset(recorded.base, guest ? from : -1);
    let exit: string;
    if (!guest) exit = machine.setMsr(from, MSR_ICR, icr) ? 'vec 13' : 'next';
    else exit = via === 'guest-wrmsr' ? machine.guestWrmsr(from, MSR_ICR, icr) : machine.guestMmio(from, icr);
    if (recorded.gp !== undefined) this.same('gp', recorded.gp, exit === 'vec 13' ? 1 : 0);
    this.ending(recorded.exit, exit);
    if (recorded.readBack !== undefined) this.same('rb', recorded.readBack, machine.readIcr(from));
    this.changes(machine, recorded.changes, from);
  }

  private hypercall(machine: RecordedMachine, recorded: HypercallCase): void {
    const { from, registers, bits } = recorded;
    machine.reset(recorded.base, from);
    const exit = machine.guestCall(from, registers);
    this.ending(recorded.exit, exit);
    const rax = machine.rax(from);
    if (recorded.rax !== undefined) this.same('rax', recorded.rax, rax);
    const ret = BigInt.asIntN(bits, rax);
    if (recorded.ret !== undefined && recorded.ret !== ret) this.differ('ret', Number(recorded.ret), Number(ret));
    const spoiled = machine.spoiled(from, registers);
    if (spoiled.length > 0) this.differ('unchanged registers', [], spoiled);
    this.changes(machine, recorded.changes, -1);
  }

  private sequence(machine: RecordedMachine, recorded: SequenceCase): void {
    machine.reset(recorded.base, -1);
    for (const { from, icr } of recorded.writes) {
      if (recorded.via === 'set-msrs') machine.setMsr(from, MSR_ICR, icr);
      else machine.guestWrite(recorded.via, from, MSR_ICR, icr);
    }
    const { ids } = this.recording.vm;
    for (const [index, id] of ids.entries()) {
      const actual = machine.state(index);
      const expected = recorded.state[id];
      if (expected !== undefined) this.effects(`st.${id}`, expected, actual);
    }
    this.strangers('st', recorded.state);
  }

  private msr(machine: RecordedMachine, recorded: MsrCase): void {
    const { from, msr } = recorded;
    machine.reset(recorded.base, -1);
    const value = machine.getMsr(from, msr);
    if (recorded.readable !== undefined) this.same('read', recorded.readable, value !== undefined);
    if (recorded.value !== undefined) this.same('value', recorded.value, value ?? 0n);
    for (const write of recorded.writes) {
      machine.reset(recorded.base, -1);
      this.same(write.key, write.accepted, !machine.setMsr(from, msr, write.value));
    }
  }

  // ---- comparing ----

  private differ(field: string, expected: unknown, actual: unknown): void {
    this.differences.push({ field, expected, actual });
  }

  private same(field: string, expected: bigint | number | boolean, actual: bigint | number | boolean): void {
    if (expected !== actual) this.differ(field, expected, actual);
  }

  /** `exit`: where the guest was afterwards. A single step ended behind the instruction. */
  private ending(recorded: string | undefined, actual: string): void {
    const expected = recorded === undefined || recorded === 'step' ? 'next' : recorded;
    if (recorded === undefined && actual === 'vec 13') return;
    if (expected !== actual) this.differ('exit', recorded, actual);
  }

  private changes(machine: RecordedMachine, recorded: Readonly<Record<string, Effects>>, sender: number): void {
    const { ids } = this.recording.vm;
    for (let index = 0; index < ids.length; index++) {
      const id = ids[index] as number;
      const actual = machine.change(index, index === sender);
      const expected = recorded[id];
      if (actual === null && expected === undefined) continue;
      this.effects(`ch.${id}`, expected ?? {}, actual ?? {});
    }
    this.strangers('ch', recorded);
  }

  /** Effects on vCPUs that the meta line does not name. */
  private strangers(key: string, recorded: Readonly<Record<string, Effects>>): void {
    for (const id of Object.keys(recorded)) {
      if (!this.recording.vm.ids.includes(Number(id))) this.differ(`${key}.${id}`, recorded[id], undefined);
    }
  }

  private effects(where: string, expected: Effects, actual: Effects): void {
    for (const key of Object.keys(expected)) {
      if (!equal(expected[key], actual[key])) this.differ(`${where}.${key}`, expected[key], actual[key]);
    }
    for (const key of Object.keys(actual)) {
      if (expected[key] !== undefined) continue;
      // A SIPI with vector 0xF0 leaves CS as it was, and the recorder only saw changes.
      if (key === 'sipi' && actual.sipi === 0xf0 && expected.mp === 0) continue;
      this.differ(`${where}.${key}`, undefined, actual[key]);
    }
  }
}

/** Numbers may stand as strings, and the order of vectors does not matter. */
function equal(expected: unknown, actual: unknown): boolean {
  if (Array.isArray(expected) && Array.isArray(actual)) {
    return expected.length === actual.length && expected.every((vector) => actual.includes(vector));
  }
  if (expected === actual) return true;
  if (expected === undefined || actual === undefined || Array.isArray(expected) || Array.isArray(actual)) return false;
  return Number(expected) === Number(actual);
}

/** Recordings under files and folders (`.jsonl` in folders), sorted. Throws KvmscopeError('not-found'). */
export function findRecordings(paths: readonly string[]): string[] {
  const found = new Set<string>();
  for (const path of paths) {
    const stat = statSync(path, { throwIfNoEntry: false });
    if (stat === undefined) throw new KvmscopeError('not-found', `no such file or folder: ${path}`);
    if (!stat.isDirectory()) {
      found.add(path);
      continue;
    }
    const inside = readdirSync(path, { recursive: true, encoding: 'utf8' }).filter((name) => name.endsWith('.jsonl'));
    if (inside.length === 0) throw new KvmscopeError('not-found', `no recordings (*.jsonl) in ${path}`);
    for (const name of inside) found.add(join(path, name));
  }
  return [...found].sort();
}

/** Replays one recording. `onCase` is called now and then with the index of the case reached. */
export async function replayRecording(
  recording: Recording,
  options: Pick<ReplayOptions, 'kvm'> = {},
  onCase: (index: number) => void = () => {},
): Promise<ReplayedFile> {
  const era = eraOf(recording, options.kvm);
  const mismatches = await new Replayer(recording, era).run(onCase);
  const { path, vm, cases } = recording;
  return { path, config: vm.config, era: era.name, vcpus: vm.ids.length, cases: cases.length, mismatches };
}

/**
 * Replays the recordings under `paths`. A file that cannot be read throws KvmscopeError('recording' or 'not-found') before anything
 * is replayed; mismatches are results.
 */
export async function replay(paths: readonly string[], options: ReplayOptions = {}): Promise<ReplayReport> {
  if (options.kvm !== undefined) resolveEra(options.kvm);
  const recordings = findRecordings(paths).map(readRecording);
  const total = recordings.reduce((sum, { cases }) => sum + cases.length, 0);
  const files: ReplayedFile[] = [];
  const started = performance.now();
  let cases = 0;
  for (const recording of recordings) {
    const before = cases;
    const file = await replayRecording(recording, options, (index) => options.onProgress?.((before + index) / total));
    files.push(file);
    cases += file.cases;
    options.onFile?.(file);
  }
  const seconds = (performance.now() - started) / 1000;
  const mismatches = files.reduce((sum, file) => sum + file.mismatches.length, 0);
  return { files, cases, mismatches, pass: mismatches === 0, seconds };
}
