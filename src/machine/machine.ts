/**
 * A virtual machine: an engine, KVM over it, RAM with a program in it, a board, and the loop that gives
 * vCPUs their slices. Deterministic: the same program, options and seed give the same run, event by event.
 */

import { R_RIP, R_TSC_OFFSET, S_STEPS } from '../cpu/core/layout.ts';
import type { Cpu, CpuOptions, EngineShare } from '../cpu/cpu.ts';
import { REGISTERS, registerByName } from '../cpu/registers.ts';
import { KvmscopeError } from '../errors.ts';
import { CostModel } from '../kvm/cost-model.ts';
import type { VcpuRunResult } from '../kvm/types.ts';
import { Kvm } from '../kvm/x86.ts';
import { assemble, type Program } from '../program/assembler.ts';
import { includeReader, loadProgram } from '../program/load.ts';
import { loadMultiboot, MULTIBOOT_MAGIC } from '../program/multiboot.ts';
import { didYouMean } from '../program/suggest.ts';
import { startApic } from './apic-start.ts';
import { BareBoard } from './board/bare.ts';
import type { PcBoard } from './board/pc.ts';
import type { Board } from './board/types.ts';
import {
  BOOT_LAYOUT,
  checkEntry,
  needsBootTables,
  parkRegisters,
  setBootRegisters,
  setMultibootRegisters,
  setRealEntry,
  vcpuBlock,
  writeBootTables,
} from './boot-state.ts';
import { CONSOLE_FULL, Console } from './console.ts';
import { acquireEngine, releaseEngine } from './engines.ts';
import { Fingerprint, type FingerprintOptions } from './fingerprint.ts';
import { resolveBudget, resolveOptions, resolveSchedule, resolveSeed, resolveSteps, resolveTier2 } from './options.ts';
import { Recorder } from './recorder.ts';
import { Scheduler } from './scheduler.ts';
import { MachineSnapshot } from './snapshot.ts';
import type { MachineOptions, RunEnd, RunResult, VcpuView } from './types.ts';
import { readRegisters, sumCounters, viewVcpu } from './view.ts';
import type {
  BootOptions,
  LoadOptions,
  RegisterValues,
  ResolvedMachineOptions,
  RunOptions,
  Snapshot,
  Vm,
} from './vm.ts';

/** Steps of the budget that one VM exit costs, so that exit storms end soon. */
export const EXIT_COST = 50;
/** Steps of the budget that one interrupt message to one local APIC costs: a broadcast is work for the host, too. */
export const MESSAGE_COST = 5;

/** Time that passes at a PAUSE of the only vCPU that runs, on a machine whose time is modelled. */
const SPIN_NS = 10_000;

export interface VmOptions extends MachineOptions {
  /** Engine to run on instead of the built-in one; its vCPUs, RAM and vendor must be those of the other options. */
  readonly cpu?: Cpu;
}

/** What a PC is made of, loaded with the first of them: most VMs have the bare board. */
const loadPc = async () => ({ ...(await import('./board/pc.ts')), ...(await import('./board/acpi.ts')) });
type Pc = Awaited<ReturnType<typeof loadPc>>;

/** Makes a virtual machine. Throws KvmscopeError('usage' or 'memory') for options that make no sense. */
export async function createVm(options: VmOptions = {}): Promise<Vm> {
  const resolved = resolveOptions(options);
  const { vcpus, memory, vendor } = resolved;
  const shape: CpuOptions = { vcpus, memory, vendor, tier2: resolveTier2(options.tier2) };
  const pc = resolved.board === 'pc' ? await loadPc() : undefined;
  const given = options.cpu;
  if (given === undefined) {
    const { cpu, fresh } = await acquireEngine(shape, resolved.engine);
    return new Machine(resolved, pc, cpu, fresh, () => releaseEngine(cpu, resolved.engine));
  }
  if (given.vcpuCount !== shape.vcpus || given.memory.length !== shape.memory || given.vendor !== shape.vendor) {
    throw new KvmscopeError(
      'usage',
      `the engine has ${given.vcpuCount} vCPUs, ${given.memory.length} bytes of RAM, vendor ${given.vendor}; ` +
        `the options ask for ${shape.vcpus}, ${shape.memory}, ${shape.vendor}`,
    );
  }
  return new Machine(resolved, pc, given, false, () => {});
}

class Machine implements Vm {
  readonly options: ResolvedMachineOptions;
  readonly #pc: Pc | undefined;
  readonly #cpu: Cpu;
  readonly #release: () => void;
  readonly #recorder: Recorder | undefined;
  readonly #runnable = (index: number): boolean => this.#kvm.isRunnable(index);
  /** Engine steps of each vCPU when the VM was reset. */
  readonly #stepBase: number[];
  #kvm: Kvm;
  #console = new Console(undefined);
  #board: Board;
  #scheduler: Scheduler;
  #program: Program | undefined;
  /** RAM is zero but for what boot state puts there. */
  #pristine: boolean;
  #disposed = false;
  /** Guest-physical address of the vector at which a suspended guest wants to wake up. */
  #wakingVector = 0;
  /** Hypercalls that reached this VMM since the reset. */
  #hypercallsAnswered = 0;
  readonly #snapshots = new Set<MachineSnapshot>();
  #fingerprint: Fingerprint | undefined;

  constructor(options: ResolvedMachineOptions, pc: Pc | undefined, cpu: Cpu, fresh: boolean, release: () => void) {
    this.options = options;
    this.#pc = pc;
    this.#pristine = fresh;
    this.#cpu = cpu;
    this.#release = release;
    this.#recorder = options.record ? new Recorder(() => this.#kvm?.clock.now ?? 0) : undefined;
    this.#stepBase = new Array<number>(options.vcpus).fill(0);
    this.#scheduler = new Scheduler(options.seed, options.vcpus, options.schedule);
    this.#board = new BareBoard(this.#console.print);
    this.#kvm = this.#reset(BOOT_LAYOUT.origin, []);
    this.#pristine = true;
  }

  get memory(): Uint8Array {
    return this.#cpu.memory;
  }

  get program(): Program | undefined {
    return this.#program;
  }

  get kvm(): Kvm {
    return this.#kvm;
  }

  load(program: string | Program | Uint8Array, options: LoadOptions = {}): Program {
    this.#checkAlive();
    const loaded = toProgram(program, options);
    this.#checkFit(loaded);
    this.#program = loaded;
    this.#kvm = this.#reset(loaded.entry, loaded.segments);
    return loaded;
  }

  loadFile(path: string, { origin = BOOT_LAYOUT.origin }: Pick<LoadOptions, 'origin'> = {}): Program {
    return this.load(loadProgram(path, { origin }));
  }

  boot(image: Uint8Array, options: BootOptions = {}): void {
    this.#checkAlive();
    if (this.#pc === undefined) {
      throw new KvmscopeError('usage', "an image is booted on a PC: make the VM with { board: 'pc' }");
    }
    if (!(image instanceof Uint8Array))
      throw new KvmscopeError('usage', 'an image is the bytes of a file: a Uint8Array');
    const { memory } = this;
    const loaded = loadMultiboot(image, options.name ?? 'image', { ...options, memory: memory.length });
    this.#program = undefined;
    const ids = this.options.apicIds ?? Array.from({ length: this.options.vcpus }, (_, index) => index);
    const tables = this.#pc.acpiTables(ids);
    this.#wakingVector = tables.wakingVector;
    this.#kvm = this.#reset(0, [...tables.segments, ...loaded.segments]);
    setMultibootRegisters(this.#cpu.vcpu(0), loaded.entry, MULTIBOOT_MAGIC, loaded.info);
  }

  run(options: RunOptions = {}): RunResult {
    this.#checkAlive();
    const { budget, seed } = resolveOptions({ ...this.options, ...options });
    this.#schedule(options);
    const start = this.#each((index) => readRegisters(this.#cpu.vcpu(index)));
    const stepsBefore = this.#steps();
    const end = this.#loop(budget);
    return this.#result(end, start, this.#steps() - stepsBefore, seed);
  }

  advance(options: RunOptions = {}): RunEnd {
    this.#checkAlive();
    this.#schedule(options);
    return this.#loop(resolveBudget(options.budget ?? this.options.budget));
  }

  #schedule({ seed, schedule }: RunOptions): void {
    if (seed === undefined && schedule === undefined) return;
    const { options } = this;
    const resolved = resolveSchedule(schedule ?? [], options.vcpus);
    this.#scheduler = new Scheduler(resolveSeed(seed ?? options.seed), options.vcpus, resolved);
  }

  turn(vcpu: number): RunEnd | 'yield' | undefined {
    this.#checkAlive();
    this.#checkIndex(vcpu);
    this.#board.exitStatus = -1;
    this.#pristine = false;
    return this.#instruction(vcpu);
  }

  step(vcpu = 0, steps = 1): VcpuView {
    this.#checkAlive();
    this.#checkIndex(vcpu);
    this.#pristine = false;
    this.#turn(vcpu, resolveSteps(steps));
    return this.vcpu(vcpu);
  }

  vcpu(index: number): VcpuView {
    this.#checkIndex(index);
    return viewVcpu(this.#kvm, index, this.#cpu.vcpu(index).steps - this.#stepBase[index]);
  }

  setRegisters(index: number, values: RegisterValues): void {
    this.#checkIndex(index);
    const state = this.#cpu.vcpu(index);
    for (const [name, value] of Object.entries(values)) {
      const register = registerByName(name);
      if (register === undefined) {
        const known = REGISTERS.map((r) => r.name);
        throw new KvmscopeError('usage', `unknown register "${name}"${didYouMean(name, known)}`);
      }
      if (typeof value !== 'bigint' && !Number.isInteger(value))
        throw new KvmscopeError('usage', `${name} takes a whole number, not ${String(value)}`);
      state.put(register.id, BigInt.asUintN(Math.max(register.bits, 64), BigInt(value)));
    }
  }

  write(address: number, bytes: Uint8Array): void {
    if (!Number.isInteger(address) || address < 0 || address + bytes.length > this.memory.length) {
      const where = `0x${address.toString(16)}`;
      throw new KvmscopeError(
        'memory',
        `${bytes.length} bytes at ${where} do not fit ${this.memory.length} bytes of RAM`,
      );
    }
    this.#pristine = false;
    this.#cpu.memoryWritten(address, bytes.length);
    this.memory.set(bytes, address);
  }

  snapshot(): Snapshot {
    this.#checkAlive();
    const cpu = this.#cpu.snapshot?.();
    if (cpu === undefined) {
      throw new KvmscopeError('usage', 'the engine of this VM has no snapshots; the built-in one has');
    }
    const consoleState = new Console(undefined);
    consoleState.assign(this.#console);
    const snapshot = new MachineSnapshot(
      this,
      cpu,
      {
        kvm: this.#kvm,
        kvmState: this.#kvm.save(),
        console: this.#console,
        consoleState,
        board: this.#board,
        boardState: this.#board.copy(),
        scheduler: this.#scheduler.copy(),
        recorder: this.#recorder?.save(),
        program: this.#program,
        stepBase: [...this.#stepBase],
        pristine: this.#pristine,
        wakingVector: this.#wakingVector,
        hypercallsAnswered: this.#hypercallsAnswered,
      },
      (forgotten) => this.#snapshots.delete(forgotten),
    );
    this.#snapshots.add(snapshot);
    return snapshot;
  }

  restore(snapshot: Snapshot): void {
    this.#checkAlive();
    if (!(snapshot instanceof MachineSnapshot) || snapshot.vm !== this) {
      throw new KvmscopeError('usage', 'this snapshot was taken of another VM');
    }
    const { cpu, state } = snapshot;
    this.#cpu.restore?.(cpu);
    this.#kvm = state.kvm;
    this.#console = state.console;
    this.#console.assign(state.consoleState);
    this.#board = state.board;
    this.#board.assign(state.boardState);
    this.#kvm.restore(state.kvmState);
    this.#scheduler.assign(state.scheduler);
    if (state.recorder !== undefined) this.#recorder?.restore(state.recorder);
    this.#program = state.program;
    for (let index = 0; index < state.stepBase.length; index++) this.#stepBase[index] = state.stepBase[index];
    this.#pristine = state.pristine;
    this.#wakingVector = state.wakingVector;
    this.#hypercallsAnswered = state.hypercallsAnswered;
  }

  fingerprint(options: FingerprintOptions = {}): number {
    this.#checkAlive();
    if (this.#cpu.memoryHash === undefined) {
      throw new KvmscopeError('usage', 'the engine of this VM has no snapshots; the built-in one has');
    }
    this.#fingerprint ??= new Fingerprint(this.#cpu);
    const hash = this.#fingerprint.of(this.#kvm, options);
    hash.number(this.#board.exitStatus);
    for (const { vcpu, value } of this.#board.reports) {
      hash.word(vcpu);
      hash.number(value);
    }
    if (this.#console.text !== '') hash.text(this.#console.text);
    return hash.value;
  }

  dispose(): void {
    if (this.#disposed) return;
    for (const snapshot of this.#snapshots) snapshot.dispose();
    this.#disposed = true;
    this.#release();
  }

  // ---- reset and load ----

  /** Wipes RAM, vCPUs, KVM and devices, puts `segments` into RAM and sets the start state. */
  #reset(entry: number, segments: Program['segments']): Kvm {
    const { options } = this;
    const cpu = this.#cpu;
    cpu.memoryWritten(0, cpu.memory.length);
    this.#wipeMemory();
    for (const segment of segments) cpu.memory.set(segment.bytes, segment.address);
    if (segments.length > 0) this.#pristine = false;
    const boot = { mode: options.mode, cpl: options.cpl, entry };
    const covered = (address: number): boolean =>
      segments.some((s) => address >= s.address && address < s.address + s.bytes.length);
    writeBootTables(cpu, boot, covered);

    for (let index = 0; index < options.vcpus; index++) wipe(cpu, index);
    const kvm = new Kvm({
      cpu,
      era: options.kvm,
      inKernelApic: options.apic !== 'none',
      x2apicApi: options.x2apicApi,
      enforcePvFeatures: options.enforcePvFeatures,
      disabledQuirks: options.disabledQuirks,
      vectorHashing: options.vectorHashing,
      apicv: options.apicv,
      avic: options.avic,
      exitHypercalls: options.exitHypercalls,
      wallClock: options.wallClock,
      hiddenFeatures: options.hiddenFeatures,
      ...(options.board === 'pc' ? { irqchip: true, pit: options.pit, costs: new CostModel() } : {}),
      ...(options.apicIds === undefined ? {} : { apicIds: options.apicIds }),
      ...(options.pvFeatures === undefined ? {} : { pvFeatures: options.pvFeatures }),
      ...(this.#recorder === undefined ? {} : { observer: this.#recorder }),
    });
    for (let index = 0; index < options.vcpus; index++) {
      const state = cpu.vcpu(index);
      setBootRegisters(state, boot, cpu.memory.length);
      startApic(kvm, index, options.apic);
      const ap = index === 0 ? 'run' : options.aps;
      kvm.vcpus[index].mpState = ap === 'run' ? 'runnable' : ap === 'halted' ? 'halted' : 'uninitialized';
      if (ap === 'halted') parkRegisters(state, options.mode);
      this.#stepBase[index] = state.steps;
      state.put(R_TSC_OFFSET, BigInt.asUintN(64, BigInt(-state.steps)));
    }
    this.#recorder?.take();
    this.#console = new Console(options.onConsole);
    this.#board = this.#makeBoard(kvm);
    this.#hypercallsAnswered = 0;
    this.#scheduler = new Scheduler(options.seed, options.vcpus, options.schedule);
    return kvm;
  }

  #makeBoard(kvm: Kvm): Board {
    const { options } = this;
    if (this.#pc === undefined) return new BareBoard(this.#console.print);
    const board = new this.#pc.PcBoard(kvm, options, this.#console.print);
    board.firmware();
    return board;
  }

  /** Zeroes RAM; on an engine that has run nothing only where boot state has been. */
  #wipeMemory(): void {
    const { memory } = this.#cpu;
    if (!this.#pristine) {
      memory.fill(0);
      return;
    }
    memory.fill(0, BOOT_LAYOUT.start, BOOT_LAYOUT.end);
    memory.fill(0, BOOT_LAYOUT.resetVector, BOOT_LAYOUT.resetVector + 16);
    if (needsBootTables(this.options.mode)) memory.fill(0, vcpuBlock(memory.length, this.options.vcpus - 1));
  }

  #checkFit(program: Program): void {
    const { mode } = this.options;
    const size = this.memory.length;
    if (program.segments.every(({ bytes }) => bytes.length === 0)) {
      throw new KvmscopeError('image', 'the program is empty: there is nothing to run');
    }
    for (const { address, bytes } of program.segments) {
      const end = address + bytes.length;
      if (address < 0 || end > size) {
        throw new KvmscopeError(
          'memory',
          `the program reaches to 0x${end.toString(16)}, beyond ${size} bytes of RAM; give the VM more memory`,
        );
      }
      if (!needsBootTables(mode)) continue;
      if (address < BOOT_LAYOUT.end && end > BOOT_LAYOUT.start) {
        throw new KvmscopeError(
          'memory',
          `the program covers 0x${BOOT_LAYOUT.start.toString(16)}…0x${(BOOT_LAYOUT.end - 1).toString(16)}, ` +
            `where page tables and GDT of mode ${mode} lie; move it with .org`,
        );
      }
      if (end > vcpuBlock(size, this.options.vcpus - 1)) {
        throw new KvmscopeError(
          'memory',
          `the program reaches to 0x${end.toString(16)}, into the stacks at the top of ${size} bytes of RAM; give the VM more memory`,
        );
      }
    }
    checkEntry(mode, program.entry);
  }

  // ---- running ----

  #loop(budget: number): RunEnd {
    this.#board.exitStatus = -1;
    this.#pristine = false;
    this.#scheduler.lookAround();
    let left = budget;
    for (;;) {
      if (left <= 0) return { kind: 'budget', steps: budget };
      const next = this.#scheduler.scheduled(this.#runnable);
      if (next >= 0) {
        const before = this.#cost(next);
        const end = this.#instruction(next);
        if (end !== undefined && end !== 'yield') return end;
        left -= Math.max(1, this.#cost(next) - before);
        continue;
      }
      const index = this.#scheduler.pick(this.#runnable, this.#kvm.stirred);
      if (index < 0) {
        // Time jumps to the next timer; a jump costs what an exit costs, so that idling for ever ends, too.
        if (!this.#kvm.sleepUntilTimer()) return { kind: 'halted' };
        left -= EXIT_COST;
        continue;
      }
      const slice = Math.min(this.#scheduler.slice(), left);
      const before = this.#cost(index);
      const end = this.#turn(index, slice, before);
      if (end !== undefined && end !== 'yield') return end;
      left -= Math.max(1, this.#cost(index) - before);
    }
  }

  /** One step of a schedule. An instruction whose memory access KVM answers is no boundary until it has come to its end. */
  #instruction(index: number): RunEnd | 'yield' | undefined {
    const vcpu = this.#kvm.vcpus[index];
    let end = this.#turn(index, 1);
    while (vcpu.finishing && (end === undefined || end === 'yield')) end = this.#turn(index, 1);
    return end;
  }

  /** Runs one vCPU until `steps` are used up, it yields or blocks, or the run ends. */
  #turn(index: number, steps: number, costBefore = this.#cost(index)): RunEnd | 'yield' | undefined {
    const kvm = this.#kvm;
    let left = steps;
    let before = costBefore;
    while (left > 0) {
      const result = kvm.run(index, left);
      switch (result.kind) {
        case 'budget':
        case 'blocked':
          return undefined;
        case 'yield':
          this.#spin(index);
          return 'yield';
        case 'io':
          this.#io(index, result);
          if (this.#board.request !== 'none') return this.#request();
          if (this.#board.exitStatus >= 0) return { kind: 'exit', status: this.#board.exitStatus };
          break;
        case 'mmio':
          this.#mmio(index, result);
          break;
        case 'hypercall':
          this.#completeHypercall(index);
          break;
        case 'shutdown':
          return { kind: 'shutdown', vcpu: index, rip: this.#cpu.vcpu(index).get(R_RIP) };
        case 'host-bug': {
          const { bug, cve, detail } = result;
          return { kind: 'host-bug', vcpu: index, bug, detail, ...(cve === undefined ? {} : { cve }) };
        }
        case 'internal-error':
          return { kind: 'internal-error', vcpu: index, detail: result.detail };
      }
      const cost = this.#cost(index);
      left -= Math.max(1, cost - before);
      before = cost;
    }
    return undefined;
  }

  /** What the guest asked of the machine as a whole ends the run. */
  #request(): RunEnd | undefined {
    const board = this.#board;
    const { request } = board;
    board.request = 'none';
    if (request !== 'suspend') return { kind: request === 'reset' ? 'reset' : 'power-off' };
    if (!(board as PcBoard).sleep()) return { kind: 'halted' };
    this.#resume(board as PcBoard);
    return undefined;
  }

  /** Firmware after a suspend to RAM: everything but RAM is reset, and vCPU 0 goes on at the waking vector in real mode. */
  #resume(board: PcBoard): void {
    const vector = new DataView(this.memory.buffer, this.memory.byteOffset).getUint32(this.#wakingVector, true);
    for (let index = 0; index < this.options.vcpus; index++) this.#kvm.resetVcpu(index);
    setRealEntry(this.#cpu.vcpu(0), vector);
    board.firmware();
    this.#scheduler.lookAround();
  }

  /** A vCPU spins while nobody else runs: on a PC, where time is modelled, it passes until something happens. */
  #spin(index: number): void {
    if (this.options.board !== 'pc') return;
    for (let other = 0; other < this.options.vcpus; other++) if (other !== index && this.#runnable(other)) return;
    const { clock } = this.#kvm;
    this.#kvm.advanceTime(Math.max(0, Math.min(SPIN_NS, clock.next - clock.now)));
  }

  #io(index: number, exit: Extract<VcpuRunResult, { kind: 'io' }>): void {
    const { port, size } = exit;
    if (exit.direction === 'in') {
      this.#kvm.completeIo(index, this.#board.read(port, size));
    } else {
      const { value } = exit;
      this.#kvm.completeIo(index, 0);
      this.#board.write(index, port, size, value);
    }
  }

  /** A VMM without encrypted guests has nothing to do for MAP_GPA_RANGE but to answer. */
  #completeHypercall(index: number): void {
    const { hypercallReturns } = this.options;
    const answer = hypercallReturns[Math.min(this.#hypercallsAnswered++, hypercallReturns.length - 1)];
    if (answer === 'untouched') this.#kvm.completeHypercall(index);
    else this.#kvm.completeHypercall(index, BigInt.asUintN(64, BigInt(answer)));
  }

  #mmio(index: number, exit: Extract<VcpuRunResult, { kind: 'mmio' }>): void {
    const { gpa, size } = exit;
    if (exit.direction === 'read') {
      this.#kvm.completeMmio(index, this.#board.readMemory(gpa, size));
      return;
    }
    this.#kvm.completeMmio(index, 0n);
    this.#board.writeMemory(gpa, size, exit.value);
  }

  /** What a vCPU has used of the budget, up to a constant: only differences within its turn mean something. */
  #cost(index: number): number {
    const { stat } = this.#kvm.vcpus[index];
    const { messages } = this.#kvm;
    return this.#cpu.vcpu(index).steps + EXIT_COST * (stat.exits + stat.fastpath) + MESSAGE_COST * messages;
  }

  #steps(): number {
    let sum = 0;
    for (let index = 0; index < this.options.vcpus; index++) sum += this.#cpu.vcpu(index).steps - this.#stepBase[index];
    return sum;
  }

  // ---- results ----

  #result(end: RunEnd, start: RunResult['start'], steps: number, seed: number): RunResult {
    const recorded = this.#recorder?.take();
    if (recorded?.full === true)
      this.#board.note('the record is full: later exits and events are counted but not kept');
    if (this.#console.full) this.#board.note(CONSOLE_FULL);
    const vcpus = this.#each((index) => this.vcpu(index));
    const share = this.#cpu.share?.();
    return {
      end,
      era: this.options.kvm,
      vendor: this.options.vendor,
      seed,
      vcpus,
      start,
      exits: recorded?.exits ?? [],
      trace: recorded?.trace ?? [],
      times: recorded?.times ?? [],
      counters: sumCounters(vcpus.map((vcpu) => vcpu.counters)),
      console: this.#console.text,
      reports: [...this.#board.reports],
      steps,
      notes: [
        ...this.#board.notes,
        ...scheduleNotes(this.#scheduler),
        ...(share === undefined ? [] : [shareText(share)]),
      ],
      ...(share === undefined ? {} : { share }),
      memory: this.memory,
    };
  }

  #each<T>(make: (index: number) => T): T[] {
    return Array.from({ length: this.options.vcpus }, (_, index) => make(index));
  }

  #checkIndex(index: number): void {
    if (!Number.isInteger(index) || index < 0 || index >= this.options.vcpus) {
      throw new KvmscopeError('usage', `no vCPU ${index}: the VM has ${this.options.vcpus}, counted from 0`);
    }
  }

  #checkAlive(): void {
    if (this.#disposed) throw new KvmscopeError('usage', 'this VM has been disposed of');
  }
}

/** In one line. */
function shareText({ engine, executed, core }: EngineShare): string {
  const rest = core.reduce((sum, { steps }) => sum + steps, 0);
  const parts = core.map(({ what, steps }) => `${steps} ${what}`).join(', ');
  return `${engine} executed ${executed} of ${executed + rest} steps${rest === 0 ? '' : `, the core the rest: ${parts}`}`;
}

/** What of an explicit schedule did not happen. */
function scheduleNotes({ skipped, remaining }: Scheduler): string[] {
  const steps = (n: number): string => `${n} step${n === 1 ? '' : 's'}`;
  return [
    ...(skipped === 0 ? [] : [`${steps(skipped)} of the schedule were skipped: the vCPU slept`]),
    ...(remaining === 0 ? [] : [`the run ended ${steps(remaining)} before the end of its schedule`]),
  ];
}

/** Brings one vCPU of a used engine to a state without history. */
function wipe(cpu: Cpu, index: number): void {
  const state = cpu.vcpu(index);
  state.reset('reset', 0);
  // Steps are the TSC: a used engine must not show in RDTSC or in tsc_offset.
  state.set(S_STEPS, 0, 0);
  state.inject(0, 0, 0);
  state.interruptibility = 0;
  state.window = 0;
  state.exceptionBitmap = 0;
  state.intercepts = 0;
  state.flushTlb();
}

function toProgram(program: string | Program | Uint8Array, options: LoadOptions): Program {
  const origin = options.origin ?? BOOT_LAYOUT.origin;
  if (typeof program === 'string') {
    const fileName = options.fileName ?? 'program.S';
    return assemble(program, { fileName, readInclude: includeReader(fileName), origin });
  }
  if (program instanceof Uint8Array) return loadProgram(program, { origin });
  return program;
}
