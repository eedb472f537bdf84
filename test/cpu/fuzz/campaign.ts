/**
 * Random bytes on the CPU core in every mode, with a state at random: whatever they do, the host goes on, nothing outside guest RAM and the
 * vCPU changes, the state stays one that a processor can be in, and the same case in other portions, or with all of it translated by the
 * second tier, ends the same way.
 */
import * as L from '../../../src/cpu/core/layout.ts';
import type { CpuSnapshot, CpuState, Tier2, Vendor } from '../../../src/cpu/cpu.ts';
import type { Exit } from '../../../src/cpu/exit.ts';
import { REGISTERS } from '../../../src/cpu/registers.ts';
import { WasmCpu } from '../../../src/cpu/wasm-cpu.ts';
import { Image, RAM } from './image.ts';
import { code } from './instructions.ts';
import { Random } from './random.ts';
import { randomStart, type Start, setRequests, setState, violations } from './state.ts';

/** Steps and exits of one case at most. */
const STEPS = 120;
const EXITS = 24;
/** One case in so many is also run on the second tier, which takes a hundred times as long. */
const COMPILED = 16;
/** Cases that share an image of guest memory. */
const IMAGE_CASES = 4096;
/** How often memory outside RAM is looked at. */
const GUARD_CASES = 64;
/** The vCPU under test has one before it and one behind it. */
const VCPU = 1;
const VCPUS = 3;

export interface Finding {
  readonly seed: number;
  readonly number: number;
  readonly what: string;
  /** Mode, paging, CPL, address and bytes. */
  readonly start: string;
}

export interface Summary {
  readonly seed: number;
  readonly cases: number;
  readonly steps: number;
  /** Exits by reason; internal ones by what they say. */
  readonly exits: Readonly<Record<string, number>>;
  readonly modes: Readonly<Record<string, number>>;
  readonly findings: readonly Finding[];
}

/** How a run of a case ended, to be compared. */
interface Outcome {
  readonly exits: string[];
  readonly registers: bigint[];
  readonly ram: Buffer | undefined;
}

const RFLAGS = REGISTERS.findIndex(({ name }) => name === 'rflags');

const hex = (bytes: readonly number[]): string => bytes.map((byte) => byte.toString(16).padStart(2, '0')).join('');

/** An engine with the image of memory that cases start from. */
interface Rig {
  readonly cpu: WasmCpu;
  readonly state: CpuState;
  readonly image: Image;
  snapshot: CpuSnapshot | undefined;
}

export class Campaign {
  readonly #seed: number;
  readonly #interpreter: Rig;
  readonly #compiler: Rig;
  readonly #wasm: Uint8Array;
  readonly #random: Random;
  #guards: readonly Guard[] = [];
  readonly #exits: Record<string, number> = {};
  readonly #modes: Record<string, number> = {};
  readonly #findings: Finding[] = [];
  #imageNumber = -1;
  #steps = 0;
  #cases = 0;

  constructor(seed: number, vendor: Vendor = seed % 2 === 0 ? 'intel' : 'amd') {
    this.#seed = seed;
    this.#random = new Random(seed);
    const rig = (tier2: Tier2): Rig => {
      const cpu = WasmCpu.createSync({ vcpus: VCPUS, memory: RAM, vendor, tier2 });
      return { cpu, state: cpu.vcpu(VCPU), image: new Image(cpu.memory, this.#random), snapshot: undefined };
    };
    this.#interpreter = rig(false);
    this.#compiler = rig('force');
    const { cpu } = this.#interpreter;
    this.#wasm = new Uint8Array(cpu.memory.buffer);
    this.#prepare(0);
    this.#guards = guards(this.#wasm, cpu);
  }

  get summary(): Summary {
    const { findings, exits, modes } = { findings: this.#findings, exits: this.#exits, modes: this.#modes };
    return { seed: this.#seed, cases: this.#cases, steps: this.#steps, exits, modes, findings };
  }

  /** Runs cases `first` … `first + count - 1`. `begin` hears of each before it runs. */
  run(first: number, count: number, begin: (number: number) => void = () => {}): void {
    for (let number = first; number < first + count; number++) {
      begin(number);
      this.#case(number);
    }
    this.#checkGuards(first + count - 1);
  }

  #case(number: number): void {
    this.#prepare(Math.floor(number / IMAGE_CASES));
    this.#cases++;
    let start = '';
    try {
      const first = this.#play(this.#interpreter, number, STEPS, true, (text) => {
        start = text;
      });
      if (number % COMPILED === 1) {
        const difference = compare(
          first,
          this.#play(this.#compiler, number, STEPS, false, () => {}),
        );
        if (difference !== '') this.#find(number, start, `translated: ${difference}`);
      }
      if (number % 4 !== 0) return;
      // In other portions, with code decoded before and translations as they come.
      const portion = number % 8 === 0 ? 1 : 1 + (number % 7);
      const second = this.#play(this.#interpreter, number, portion, false, () => {});
      const difference = compare(first, second);
      if (difference !== '') this.#find(number, start, `in portions of ${portion}: ${difference}`);
    } catch (error) {
      this.#find(number, start, `host exception: ${(error as Error).stack ?? String(error)}`);
    }
    if (number % GUARD_CASES === 0) this.#checkGuards(number);
  }

  /** The image of memory that a case uses, and its snapshot. */
  #prepare(image: number): void {
    if (image === this.#imageNumber) return;
    this.#imageNumber = image;
    for (const rig of [this.#interpreter, this.#compiler]) {
      rig.snapshot?.dispose();
      this.#random.restart(this.#seed, 0x80000000 + image);
      rig.cpu.memoryWritten(0, RAM);
      rig.image.write();
      rig.state.reset('reset', 0);
      // What a reset leaves and RDTSC and RDRAND show.
      rig.state.set(L.S_STEPS, 0, 0);
      rig.state.set(L.S_RANDOM, 0, 0);
      rig.snapshot = rig.cpu.snapshot();
    }
  }

  /** Runs a case from its start, in portions of so many steps. */
  #play(rig: Rig, number: number, portion: number, count: boolean, told: (start: string) => void): Outcome {
    const { cpu, state, image } = rig;
    const random = this.#random;
    cpu.restore(rig.snapshot as CpuSnapshot);
    random.restart(this.#seed, number);
    const start = randomStart(random);
    const bytes = code(start.mode === 'long64', random);
    cpu.memoryWritten(start.at, bytes.length);
    cpu.memory.set(bytes, start.at);
    for (let n = random.below(4); n > 0; n--) image.spoil((address, length) => cpu.memoryWritten(address, length));
    setState(state, start, random);
    setRequests(state, random);
    told(describe(start, bytes));
    if (count) {
      const key = `${start.mode}, paging ${start.paging}`;
      this.#modes[key] = (this.#modes[key] ?? 0) + 1;
      const wrong = violations(state);
      if (wrong.length > 0) throw new Error(`the case itself has no valid state: ${wrong.join('; ')}`);
    }

    const exits: string[] = [];
    const end = state.steps + STEPS;
    let internal = false;
    while (state.steps < end && exits.length < EXITS) {
      const before = state.steps;
      const exit = cpu.run(VCPU, Math.min(portion, end - before));
      // Delivering the exception of the last step is a step, too.
      if (state.steps < before || state.steps > end + 4) throw new Error(`steps went from ${before} to ${state.steps}`);
      if (exit.reason === 'budget') continue;
      const name = exit.reason === 'internal' ? `internal: ${exit.what}` : exit.reason;
      if (count) this.#exits[name] = (this.#exits[name] ?? 0) + 1;
      exits.push(`${name} at step ${state.steps - end + STEPS}`);
      internal = exit.reason === 'internal';
      if (internal || exit.reason === 'shutdown') break;
      answer(state, exit, random);
    }
    if (count) this.#steps += state.steps - end + STEPS;
    const wrong = internal ? [] : violations(state);
    if (count && wrong.length > 0)
      this.#find(number, describe(start, bytes), `no state of a processor: ${wrong.join('; ')}`);
    const registers = REGISTERS.map(({ id }) => state.get(id));
    // A repeated instruction that is interrupted leaves RF set, where and how often it is.
    registers[RFLAGS] &= ~0x10000n;
    registers.push(BigInt(state.interruptibility), BigInt(state.injected));
    return { exits, registers, ram: number % 4 < 2 ? Buffer.from(cpu.memory) : undefined };
  }

  #checkGuards(number: number): void {
    for (const guard of this.#guards) {
      const what = guard.check();
      if (what !== '') this.#find(number, '', `${what} (in this case or up to ${GUARD_CASES - 1} before it)`);
    }
  }

  #find(number: number, start: string, what: string): void {
    this.#findings.push({ seed: this.#seed, number, what, start });
  }
}

const describe = ({ mode, paging, cpl, at }: Start, bytes: readonly number[]): string =>
  `${mode}, paging ${paging}, CPL ${cpl}, at 0x${at.toString(16)}: ${hex(bytes)}`;

/** The first thing in which two outcomes differ; '' if there is none. */
function compare(a: Outcome, b: Outcome): string {
  const exit = a.exits.findIndex((name, i) => name !== b.exits[i]);
  if (exit >= 0 || a.exits.length !== b.exits.length) {
    const at = exit >= 0 ? exit : a.exits.length;
    return `exit ${at} is '${b.exits[at] ?? 'none'}', not '${a.exits[at] ?? 'none'}'`;
  }
  const register = a.registers.findIndex((value, i) => value !== b.registers[i]);
  if (register >= 0) {
    const name = REGISTERS[register]?.name ?? 'interruptibility or injection';
    return `${name} is 0x${b.registers[register].toString(16)}, not 0x${a.registers[register].toString(16)}`;
  }
  if (a.ram === undefined || b.ram === undefined || a.ram.equals(b.ram)) return '';
  const at = a.ram.findIndex((byte, i) => byte !== (b.ram as Buffer)[i]);
  return `byte 0x${at.toString(16)} of RAM is 0x${b.ram[at].toString(16)}, not 0x${a.ram[at].toString(16)}`;
}

/** What a VMM does with an exit, or might. */
function answer(state: CpuState, exit: Exit, random: Random): void {
  switch (exit.reason) {
    case 'io':
      state.completeIo(random.u32());
      return;
    case 'mmio':
      state.completeMmio(random.u32(), random.u32());
      return;
    case 'interrupt-window':
      state.window &= ~L.WINDOW_INTERRUPT;
      if (random.oneIn(2)) state.inject((0x80000000 | random.below(256)) >>> 0, 0, 0);
      return;
    case 'nmi-window':
      state.window &= ~L.WINDOW_NMI;
      if (random.oneIn(2)) state.inject(0x80000202, 0, 0);
      return;
    case 'exception': {
      const { vector, hasErrorCode, errorCode } = exit;
      state.inject((0x80000300 | vector | (hasErrorCode ? 0x800 : 0)) >>> 0, errorCode, 0);
      return;
    }
    case 'cr8':
      if (exit.direction === 'read') state.set(exit.gpr, random.below(16), 0);
      break;
    case 'rdmsr':
      state.set(L.R_RAX, random.u32(), 0);
      state.set(L.R_RDX, random.u32(), 0);
      break;
    case 'wrmsr':
      if (random.oneIn(4)) {
        state.inject(0x80000b0d, 0, 0);
        return;
      }
      break;
    case 'cpuid':
      for (const id of [L.R_RAX, L.R_RBX, L.R_RCX, L.R_RDX]) state.set(id, random.u32(), 0);
      break;
    case 'xsetbv':
      state.inject(0x80000306, 0, 0);
      return;
  }
  state.skipInstruction();
}

/** A part of the wasm memory outside guest RAM that no case may change. */
interface Guard {
  /** What has changed; '' if nothing has. */
  check(): string;
}

const hexOf = (address: number): string => `0x${address.toString(16)}`;

/** Where a vCPU's state block lies: found by a value that is nowhere else. */
function blockOf(wasm: Uint8Array, state: CpuState): number {
  const marker = Buffer.from('5aa5c33cf00f9669', 'hex');
  state.put(L.R_R15, marker.readBigUInt64LE());
  const at = Buffer.from(wasm.buffer, 0, wasm.length).indexOf(marker);
  state.put(L.R_R15, 0n);
  return at - L.R_R15 * 8;
}

/** Call before anything has run and after a first snapshot. */
function guards(wasm: Uint8Array, cpu: WasmCpu): Guard[] {
  const ramBase = cpu.memory.byteOffset;
  const [first, tested, last] = [0, VCPU, VCPUS - 1].map((index) => blockOf(wasm, cpu.vcpu(index))) as [
    number,
    number,
    number,
  ];
  const range = (name: string, from: number, to: number): Guard => {
    const before = Buffer.from(wasm.slice(from, to));
    const now = Buffer.from(wasm.buffer, from, to - from);
    return {
      check: () => {
        if (before.equals(now)) return '';
        const at = before.findIndex((byte, i) => byte !== now[i]);
        before.set(now);
        return `${name} has changed at ${hexOf(from + at)}`;
      },
    };
  };
  // Tables of the core; zeros between them may be its scratch.
  const constants = [...wasm.subarray(0, first).entries()].filter(([, byte]) => byte !== 0);
  const tlbs = new Uint32Array(wasm.buffer, tested + L.S_SLOTS * 8, L.TLB_BYTES / 4);
  const version = new Uint32Array(wasm.buffer, tested + L.S_TLB_VERSION * 8, 1);
  return [
    range('the vCPU before', first, first + L.STATE_STRIDE),
    range('the vCPU behind, or what follows it', last, (last + L.STATE_STRIDE + 0xffff) & ~0xffff),
    range('memory behind RAM', ramBase + RAM, wasm.length),
    {
      check: () => {
        const changed = constants.find(([at, byte]) => wasm[at] !== byte);
        return changed === undefined ? '' : `a table of the core has changed at ${hexOf(changed[0])}`;
      },
    },
    {
      check: () => {
        for (let at = 0; at < tlbs.length; at += 4) {
          if ((tlbs[at] & L.TLB_VERSION_MASK) !== version[0]) continue;
          // An entry holds the distance from the low half of the linear address.
          const [host, frame] = [(tlbs[at + 2] + (tlbs[at] & ~0xfff)) >>> 0, tlbs[at + 3]];
          if (host !== ramBase + frame * 4096 || frame >= RAM / 4096)
            return `a translation leads to ${hexOf(host)}, frame ${frame}`;
        }
        return '';
      },
    },
  ];
}
