/**
 * An engine that lets a unicorn.js module execute guest code, for whoever wants a second opinion from QEMU's translator.
 *
 * Unicorn knows instructions but no system: it delivers nothing through the IDT, changes no privilege level, has no exits and no
 * vCPUs. So the work is shared. Unicorn executes the instructions of `instruction-class.ts` that need none of this, at a fixed
 * privilege and without paging of its own: its TLB asks for every page and gets what the system side's page walk says. Everything
 * else (system instructions, events, exceptions, MMIO, whatever faults) is one step of the WebAssembly core, which holds the registers
 * of all vCPUs between bursts, and starts the instruction anew, so that a fault has its error code and its exit.
 *
 * RAM exists twice. A page is copied to Unicorn when its TLB first asks for it; stores of the guest there are mirrored here at once;
 * pages that the system side or the host writes are copied again before the next burst.
 *
 * What the module makes necessary (unicorn.js 2.1.4):
 * - The translator frees no temporaries, and a block of code with more than some 30 stores destroys the module. So long straight code
 *   is cut by exit addresses; the instruction at a cut is a step of the system side.
 * - Instructions are counted by a code hook (about 0.2 µs each): `count` of `emu_start` costs as much and flushes all translations
 *   whenever it comes or goes.
 * - A store to code of the block that is running starts the instruction anew, hook included. A burst ends behind a store to code.
 * - A store across a page is reported with the physical address of its first byte only.
 */
import { KvmscopeError } from '../../errors.ts';
import * as L from '../core/layout.ts';
import { type Cpu, type CpuOptions, type CpuState, type EngineShare, UNICORN_MAX_MEMORY, type Vendor } from '../cpu.ts';
import type { Exit, InternalExit } from '../exit.ts';
import { WasmCpu, type WasmCpuState } from '../wasm-cpu.ts';
import { decode, PLAIN, REP16, REP64, SYSTEM, UNKNOWN } from './instruction-class.ts';
import { loadUnicorn, type UnicornEngine, type UnicornModule } from './unicorn-module.ts';

const PAGE = 4096;
/** Sum of `Decoded.weight` in one block that the translator surely survives. */
const BLOCK_WEIGHT = 320;
/** Exit addresses that are kept; beyond, all translations are dropped and they begin anew. */
const MAX_CUTS = 1024;
/** So many changed pages are copied at once. */
const MANY_PAGES = 64;
/** Blocks that are looked at ahead of a burst. */
const MAX_AHEAD = 4096;

const RFLAGS_TF = 0x100;
const RFLAGS_IF = 0x200;
const RFLAGS_RF = 0x10000;
const RFLAGS_VM = 0x20000;
const RFLAGS_AC = 0x40000;
const CR0_AM = 0x40000;
const DR7_ENABLED = 0xff;

const DATA_SEGMENTS = [L.SEG_ES, L.SEG_SS, L.SEG_DS, L.SEG_FS, L.SEG_GS] as const;
const FLAT = 0xffffffff;
const ATTR_DB = 0x4000;
const ATTR_UNUSABLE = 0x10000;

/** Code from 0 to 4 GiB and writable data segments of 4 GiB: nothing for a check to find. So never in real mode. */
function hasFlatSegments(state: WasmCpuState): boolean {
  const attr = (segment: number): number => state.lo(L.R_ATTR + segment);
  if (state.lo(L.R_BASE + L.SEG_CS) !== 0 || state.lo(L.R_LIMIT + L.SEG_CS) !== FLAT) return false;
  if ((attr(L.SEG_CS) & 0x9a) !== 0x9a) return false;
  return DATA_SEGMENTS.every(
    (segment) => state.lo(L.R_LIMIT + segment) === FLAT && (attr(segment) & (ATTR_UNUSABLE | 0x9e)) === 0x92,
  );
}

/**
 * What Unicorn lacks and how it shows in a vCPU's state: while a row holds, the system side executes everything. The instructions that
 * it always executes are those that `instruction-class.ts` does not list.
 */
const LACKS: readonly { readonly what: string; readonly holds: (state: WasmCpuState) => boolean }[] = [
  {
    what: 'events',
    holds: (state) => {
      if (state.lo(L.S_INJECT) | state.lo(L.S_PENDING_DEBUG) | state.lo(L.S_IOQ_COUNT) | state.lo(L.S_GRANTS))
        return true;
      const { window, interruptibility } = state;
      if (interruptibility & (L.SHADOW_STI | L.SHADOW_MOV_SS)) return true;
      if (window & L.WINDOW_NMI && (interruptibility & L.BLOCKED_BY_NMI) === 0) return true;
      return (window & L.WINDOW_INTERRUPT) !== 0 && (state.lo(L.R_RFLAGS) & RFLAGS_IF) !== 0;
    },
  },
  { what: 'single-stepping', holds: (state) => (state.lo(L.R_RFLAGS) & (RFLAGS_TF | RFLAGS_RF)) !== 0 },
  { what: 'hardware breakpoints', holds: (state) => (state.lo(L.R_DR7) & DR7_ENABLED) !== 0 },
  {
    what: 'alignment checks',
    holds: (state) => (state.lo(L.R_RFLAGS) & RFLAGS_AC) !== 0 && (state.lo(L.R_CR0) & CR0_AM) !== 0 && state.cpl === 3,
  },
  { what: 'virtual-8086 mode', holds: (state) => (state.lo(L.R_RFLAGS) & RFLAGS_VM) !== 0 },
  { what: 'segment limits and types', holds: (state) => !state.is64bit && !hasFlatSegments(state) },
];
/** Name of everything else that the system side executes. */
const SYSTEM_INSTRUCTIONS = 'system instructions and faults';

/** A page outside guest RAM from which Unicorn loads segments, and what lies where in it; mapped only for that. */
const PRIVATE = { page: 0xfffff000, code: 0x80, end: 0xf0, frame: 0x100 } as const;

type Bits = 16 | 32 | 64;

/** What is known of the code in one RAM page, for one size of code. */
interface CodePage {
  readonly frame: number;
  readonly kinds: Uint8Array;
}

/** A page in Unicorn's TLB. */
interface Translation {
  readonly frame: number;
  permissions: number;
}

export class UnicornCpu implements Cpu {
  readonly vcpuCount: number;
  readonly vendor: Vendor;
  readonly memory: Uint8Array;
  failed = false;
  /** Steps since the last `share()`: those of Unicorn, and those of the system side by what Unicorn lacks for them. */
  private executed = 0;
  private readonly systemSteps = new Map<string, number>();

  private readonly system: WasmCpu;
  private readonly module: UnicornModule;
  private readonly engine: UnicornEngine;
  private readonly handle: number;
  private readonly view: DataView;

  // Register transfer: R_RAX … R_RFLAGS as they lie in the state block, R_ZERO left out.
  private readonly values: number;
  private readonly ids: number;
  private readonly pointers: number;
  private readonly transfer = new Uint8Array((L.R_RFLAGS + 1) * 8);

  /** By frame: Unicorn's copy of the page is that of `memory`. */
  private readonly copied: Uint8Array;
  /** Pages copied since the system side last watched its stores. */
  private unwatched: number[] = [];
  /** Pages that Unicorn has and that differ by now. */
  private readonly stale: number[] = [];
  /** Frames of which Unicorn may have translated code. */
  private readonly fetched = new Set<number>();
  /** By code size and frame. */
  private readonly code: Readonly<Record<Bits, Map<number, CodePage>>> = {
    16: new Map(),
    32: new Map(),
    64: new Map(),
  };
  /** By frame: the bytes that were decoded as part of an instruction, a bit each. */
  private readonly decoded = new Map<number, Uint8Array>();
  /** Linear addresses at which straight code has been looked at, and those at which Unicorn stops. */
  private ahead = new Set<bigint>();
  private readonly cuts = new Set<bigint>();
  private cutsChanged = false;

  /** Linear page → what Unicorn's TLB has, while nothing that it depends on changes. */
  private translations = new Map<bigint, Translation>();
  private translationKey = '';

  // Segments: Unicorn's state before any were loaded, those that it has (bases, limits and attributes), those of the vCPU.
  private readonly fresh: number;
  private readonly segments = new Uint8Array(24 * 8);
  private readonly wanted = new Uint8Array(24 * 8);
  private preparing = false;

  // The burst that is running.
  private state: WasmCpuState;
  private bits: Bits = 64;
  private steps = 0;
  private limit = 0;
  private stopped = false;
  private failure: unknown;
  private lastAddress = -1n;
  private repeatLeft = -1;
  private repeatKind = PLAIN;
  /** Where the last store went. */
  private storeAddress = 0;
  private storeSize = 0;
  private pageBase = 1n << 62n;
  private page: CodePage | undefined;
  private crossed: number[] = [];
  /** Code has been written: Unicorn does not see that before its translations are gone. */
  private rewritten = false;

  private readonly internal: InternalExit = { reason: 'internal', code: 0, what: '', addressLo: 0, addressHi: 0 };

  private constructor(module: UnicornModule, options: CpuOptions) {
    if (options.memory > UNICORN_MAX_MEMORY) {
      throw new KvmscopeError(
        'memory',
        `engine unicorn has room for ${UNICORN_MAX_MEMORY} bytes of guest memory, not ${options.memory}`,
      );
    }
    this.system = WasmCpu.createSystem(options, (frame) => this.stored(frame));
    this.vcpuCount = options.vcpus;
    this.vendor = options.vendor;
    this.memory = this.system.memory;
    this.state = this.system.vcpu(0);
    this.view = new DataView(this.memory.buffer, this.memory.byteOffset, this.memory.byteLength);
    this.copied = new Uint8Array(options.memory / PAGE);

    this.module = module;
    const engine = new module.Unicorn(module.ARCH_X86, module.MODE_64);
    this.engine = engine;
    this.handle = module.getValue(engine.handle_ptr, '*');
    engine.ctl_set_cpu_model(module.CPU_X86_BROADWELL);
    engine.ctl_tlb_mode(module.TLB_VIRTUAL);
    engine.mem_map(0n, options.memory, module.PROT_ALL);
    engine.mem_map(BigInt(options.memory), PAGE, module.PROT_ALL);
    this.fresh = engine.context_alloc();
    engine.context_save(this.fresh);
    engine.ctl_exits_enable();
    engine.ctl_set_exits([]);

    const names = [
      'RAX',
      'RCX',
      'RDX',
      'RBX',
      'RSP',
      'RBP',
      'RSI',
      'RDI',
      'R8',
      'R9',
      'R10',
      'R11',
      'R12',
      'R13',
      'R14',
      'R15',
    ];
    const slots = [
      ...names.map((name, slot) => ({ name, slot })),
      { name: 'RFLAGS', slot: L.R_RFLAGS },
      { name: 'RIP', slot: L.R_RIP },
    ];
    this.values = module._malloc(this.transfer.length);
    this.ids = module._malloc(slots.length * 4);
    this.pointers = module._malloc(slots.length * 4);
    slots.forEach(({ name, slot }, i) => {
      module.setValue(this.ids + i * 4, module[`X86_REG_${name}`], 'i32');
      module.setValue(this.pointers + i * 4, this.values + slot * 8, 'i32');
    });
    this.addHooks();
  }

  /**
   * A new engine on a module of its own: the given one, or that at a path, else that of KVMSCOPE_UNICORN, else the installed package.
   * Throws KvmscopeError('engine') if there is none, KvmscopeError('memory') for more than 1 GiB of RAM.
   */
  static async create(options: CpuOptions, module?: string | UnicornModule): Promise<UnicornCpu> {
    return new UnicornCpu(typeof module === 'object' ? module : await loadUnicorn(module), options);
  }

  vcpu(index: number): CpuState {
    return this.system.vcpu(index);
  }

  memoryWritten(address: number, length: number): void {
    this.system.memoryWritten(address, length);
    const end = Math.min(Math.ceil((address + length) / PAGE), this.copied.length);
    for (let frame = Math.floor(address / PAGE); frame < end; frame++) {
      if (this.copied[frame]) this.stored(frame);
      this.forgetCode(frame);
    }
  }

  run(index: number, budget: number): Exit {
    const { system } = this;
    if (this.failed) return this.internal;
    const state = system.vcpu(index);
    let left = budget;
    while (left > 0) {
      const before = state.steps;
      state.adopt();
      const lacking = LACKS.find((row) => row.holds(state))?.what;
      if (lacking === undefined) {
        try {
          this.burst(state, left);
        } catch (error) {
          return this.broken(error);
        }
        left -= state.steps - before;
        if (left <= 0) break;
      }
      // Whatever ended the burst is an instruction for the system side, or its event comes first.
      const start = state.steps;
      this.watch();
      const exit = system.run(index, 1);
      const taken = state.steps - start;
      left -= taken;
      if (taken > 0) {
        const what = lacking ?? SYSTEM_INSTRUCTIONS;
        this.systemSteps.set(what, (this.systemSteps.get(what) ?? 0) + taken);
      }
      if (exit.reason !== 'budget') return exit;
    }
    this.watch();
    return system.run(index, 0);
  }

  share(): EngineShare {
    const core = [...this.systemSteps].map(([what, steps]) => ({ what, steps }));
    const { executed } = this;
    this.executed = 0;
    this.systemSteps.clear();
    return { engine: 'Unicorn', executed, core };
  }

  /** An error of the module's own leaves it unusable: every later run says so, too. */
  private broken(error: unknown): Exit {
    this.failed = true;
    this.internal.what = `unicorn.js failed: ${String(error).split('\n')[0]}`;
    return this.internal;
  }

  // ---- a burst ----

  private burst(state: WasmCpuState, limit: number): void {
    this.state = state;
    this.bits = state.is64bit ? 64 : state.lo(L.R_ATTR + L.SEG_CS) & ATTR_DB ? 32 : 16;
    this.refresh();
    this.useSegments(state);
    this.useTranslations(state);
    const begin = state.get(L.R_RIP);
    if (this.cuts.size > MAX_CUTS) this.dropCuts();
    this.lookAhead(begin);
    if (this.cutsChanged) {
      this.cutsChanged = false;
      this.engine.ctl_set_exits([...this.cuts]);
    }
    if (this.cuts.has(begin) || this.kindAt(begin) === SYSTEM) return;

    this.steps = 0;
    this.limit = limit;
    this.stopped = false;
    this.failure = undefined;
    this.lastAddress = -1n;
    this.repeatLeft = -1;
    this.load(state);
    let error: unknown;
    try {
      this.engine.emu_start(begin, 0n, 0, 0);
    } catch (thrown) {
      // A string is Unicorn's way of saying that something faulted: the system side repeats the instruction.
      if (typeof thrown !== 'string') throw thrown;
      error = thrown;
    }
    if (this.failure !== undefined) throw this.failure;
    this.store(state);
    // An instruction that did not complete is no step.
    if (!this.stopped && this.steps > 0 && BigInt.asIntN(64, state.get(L.R_RIP)) === this.lastAddress) {
      if (error !== undefined || !this.cuts.has(state.get(L.R_RIP))) this.steps--;
    }
    this.settleCrossings();
    if (this.rewritten) {
      this.rewritten = false;
      this.fetched.clear();
      this.engine.ctl_flush_tb();
    }
    this.executed += this.steps;
    const total = state.steps + this.steps;
    state.set(L.S_STEPS, total >>> 0, Math.floor(total / 2 ** 32));
  }

  private load(state: WasmCpuState): void {
    const { module, transfer } = this;
    state.copySlots(0, transfer);
    module.writeArrayToMemory(transfer, this.values);
    module._uc_reg_write_batch(this.handle, this.ids, this.pointers, 17);
  }

  private store(state: WasmCpuState): void {
    const { module, values } = this;
    module._uc_reg_read_batch(this.handle, this.ids, this.pointers, 18);
    for (let slot = 0; slot <= L.R_RFLAGS; slot++) {
      if (slot === L.R_ZERO) continue;
      const at = values + slot * 8;
      state.set(slot, module.getValue(at, 'i32') >>> 0, module.getValue(at + 4, 'i32') >>> 0);
    }
  }

  // ---- segments ----

  /** Gives Unicorn the segments of a vCPU if it has others. There is no call for that, so it loads them itself from a private page. */
  private useSegments(state: WasmCpuState): void {
    const { engine, module, wanted } = this;
    state.copySlots(L.R_BASE, wanted);
    if (Buffer.compare(wanted, this.segments) === 0) return;
    this.segments.set(wanted);
    this.translationKey = '';
    engine.context_restore(this.fresh);
    if (this.bits === 64) {
      const at = (slot: number): Uint8Array => wanted.slice((slot - L.R_BASE) * 8, (slot - L.R_BASE + 1) * 8);
      engine.reg_write(module.X86_REG_FS_BASE, at(L.R_BASE + L.SEG_FS));
      engine.reg_write(module.X86_REG_GS_BASE, at(L.R_BASE + L.SEG_GS));
      return;
    }
    this.writePrivatePage(state);
    const table = new DataView(new ArrayBuffer(24));
    table.setUint32(8, PRIVATE.page, true);
    table.setUint32(16, 7 * 8 - 1, true);
    engine.reg_write(module.X86_REG_GDTR, new Uint8Array(table.buffer));
    const stack = new DataView(new ArrayBuffer(8));
    stack.setUint32(0, PRIVATE.page + PRIVATE.frame, true);
    engine.reg_write(module.X86_REG_RSP, new Uint8Array(stack.buffer));
    this.emptyTlb();
    this.preparing = true;
    this.stopped = false;
    try {
      engine.emu_start(BigInt(PRIVATE.page + PRIVATE.code), 0n, 0, 0);
    } catch (error) {
      // At the end Unicorn looks at the exit addresses, and complains of those that are not mapped.
      if (!this.stopped) throw error;
    } finally {
      this.preparing = false;
    }
  }

  /** GDT, code that loads all segments and returns to 16- or 32-bit code, and the frame of this return. */
  private writePrivatePage(state: WasmCpuState): void {
    const page = new DataView(new ArrayBuffer(PAGE));
    for (let segment = L.SEG_ES; segment <= L.SEG_GS; segment++) {
      const base = state.lo(L.R_BASE + segment);
      const size = state.lo(L.R_ATTR + segment) & ATTR_DB;
      const access = segment === L.SEG_CS ? 0x9b : 0x93;
      page.setUint32((segment + 1) * 8, (0xffff | (base << 16)) >>> 0, true);
      const high = ((base >>> 16) & 0xff) | (access << 8) | 0x8f0000 | (size << 8) | (base & 0xff000000);
      page.setUint32((segment + 1) * 8 + 4, high >>> 0, true);
    }
    // MOV AX, selector; MOV Sreg, AX: 66 B8 iw, 8E /r with the segment in bits 5:3. Then REX.W RETF.
    const load = (segment: number): number[] => [0x66, 0xb8, (segment + 1) * 8, 0, 0x8e, 0xc0 | (segment << 3)];
    const code = [...DATA_SEGMENTS.flatMap(load), 0x48, 0xcb];
    code.forEach((byte, i) => {
      page.setUint8(PRIVATE.code + i, byte);
    });
    page.setUint32(PRIVATE.frame, PRIVATE.page + PRIVATE.end, true);
    page.setUint32(PRIVATE.frame + 8, (L.SEG_CS + 1) * 8, true);
    this.engine.mem_write(BigInt(this.memory.length), new Uint8Array(page.buffer));
  }

  // ---- hooks ----

  private addHooks(): void {
    const { module, engine } = this;
    this.addRaw(module.HOOK_TLB_FILL, 'iijiii', (_engine: number, address: bigint, kind: number, result: number) =>
      this.guarded(() => this.fill(BigInt.asUintN(64, address), kind, result)),
    );
    this.addRaw(module.HOOK_CODE, 'vijii', (_engine: number, address: bigint) => {
      this.guarded(() => this.instruction(address));
    });
    engine.hook_add(
      module.HOOK_MEM_WRITE,
      (_engine: unknown, _kind: number, address: bigint, size: number, value: bigint) => {
        this.guarded(() => this.mirror(Number(address), size, value));
      },
    );
  }

  private addRaw(type: number, signature: string, callback: (...values: never[]) => unknown): void {
    const { module } = this;
    const out = module._malloc(16);
    module.setValue(out + 8, 0, 'i32');
    const error = module._uc_hook_add(
      this.handle,
      out,
      type,
      module.addFunction(callback, signature),
      0,
      1n,
      0n,
      out + 8,
    );
    if (error) throw new KvmscopeError('engine', `unicorn.js does not take hooks of type ${type}: error ${error}`);
  }

  /** An exception must not pass through the module: it would leak one level of nesting for each. */
  private guarded<T>(work: () => T): T | 0 {
    try {
      return work();
    } catch (error) {
      this.failure ??= error;
      this.engine.emu_stop();
      return 0;
    }
  }

  /** Before each instruction: counts it, or stops in front of it. */
  private instruction(address: bigint): void {
    if (this.preparing) {
      if (address === BigInt(PRIVATE.page + PRIVATE.end)) this.stop();
      return;
    }
    if (this.rewritten) {
      this.endRewrite(address);
      return;
    }
    const offset = Number(address - this.pageBase);
    let kind = UNKNOWN;
    if (offset >= 0 && offset < PAGE) kind = (this.page as CodePage).kinds[offset];
    if (kind === UNKNOWN) kind = this.kindAt(BigInt.asUintN(64, address));
    if (kind === PLAIN) {
      if (this.steps >= this.limit) this.stop();
      else {
        this.steps++;
        this.lastAddress = address;
        this.repeatLeft = -1;
      }
      return;
    }
    if (kind === SYSTEM) {
      this.stop();
      return;
    }
    // Unicorn comes by once per iteration, and once more when a count has run out.
    if (this.repeatLeft >= 0 && address === this.lastAddress) {
      if (--this.repeatLeft === 0) return;
    } else {
      this.repeatLeft = this.counter(kind);
      this.repeatKind = kind;
    }
    if (this.steps >= this.limit) this.stop();
    else {
      this.steps++;
      this.lastAddress = address;
    }
  }

  /**
   * The instruction before has written code. If that was code of its own block, Unicorn has taken it back and comes by a second time:
   * it is no step, and what it stored is not in Unicorn's RAM.
   */
  private endRewrite(address: bigint): void {
    this.stop();
    if (address !== this.lastAddress) return;
    if (this.repeatLeft >= 0 && this.counter(this.repeatKind) !== this.repeatLeft) return;
    this.steps--;
    this.takeBack(this.storeAddress, this.storeSize);
  }

  private stop(): void {
    this.stopped = true;
    this.engine.emu_stop();
  }

  /** The count of a REP prefix, at most 2^53. */
  private counter(kind: number): number {
    const { module, values } = this;
    module._uc_reg_read_batch(this.handle, this.ids + 4, this.pointers + 4, 1);
    const at = values + L.R_RCX * 8;
    const low = module.getValue(at, 'i32') >>> 0;
    if (kind === REP16) return low & 0xffff;
    if (kind !== REP64) return low;
    return Math.min(low + (module.getValue(at + 4, 'i32') >>> 0) * 2 ** 32, Number.MAX_SAFE_INTEGER);
  }

  /** Unicorn's TLB has no entry for an access: 1 and the entry, or 0 to have it raise an error. */
  private fill(linear: bigint, kind: number, result: number): number {
    const { module } = this;
    const [access, permission] =
      kind === module.MEM_FETCH
        ? [L.ACCESS_EXEC, module.PROT_EXEC]
        : kind === module.MEM_WRITE
          ? [L.ACCESS_WRITE, module.PROT_WRITE]
          : [L.ACCESS_READ, module.PROT_READ];
    if (this.preparing) return this.fillPrivate(linear, result);
    const physical = this.system.translateAccess(this.state.index, linear, access);
    if (physical < 0 || physical >= this.memory.length) return 0;
    const frame = Math.floor(physical / PAGE);
    this.copy(frame);
    if (permission === module.PROT_EXEC) this.fetched.add(frame);
    const page = linear >> 12n;
    let entry = this.translations.get(page);
    if (entry === undefined || entry.frame !== frame) {
      entry = { frame, permissions: 0 };
      this.translations.set(page, entry);
    }
    entry.permissions |= permission;
    return this.answer(result, frame * PAGE, entry.permissions);
  }

  private fillPrivate(linear: bigint, result: number): number {
    if (linear >> 12n !== BigInt(PRIVATE.page / PAGE)) return 0;
    return this.answer(result, this.memory.length, this.module.PROT_ALL);
  }

  private answer(result: number, physical: number, permissions: number): number {
    const { module } = this;
    module.setValue(result, physical | 0, 'i32');
    module.setValue(result + 4, 0, 'i32');
    module.setValue(result + 8, permissions, 'i32');
    return 1;
  }

  /** A store of the guest is about to happen in Unicorn's RAM. */
  private mirror(address: number, size: number, value: bigint): void {
    if (this.preparing) return;
    if ((address & (PAGE - 1)) + size > PAGE) {
      this.crossed.push(Math.floor(address / PAGE));
      return;
    }
    this.storeAddress = address;
    this.storeSize = size;
    const { view } = this;
    if (size === 8) view.setBigUint64(address, BigInt.asUintN(64, value), true);
    else {
      const low = Number(BigInt.asUintN(32, value));
      if (size === 4) view.setUint32(address, low, true);
      else if (size === 2) view.setUint16(address, low, true);
      else view.setUint8(address, low);
    }
    this.changed(address, size);
  }

  /** RAM of both sides has changed alike: what was decoded from it is void. */
  private changed(address: number, size: number): void {
    this.system.memoryWritten(address, size);
    const frame = Math.floor(address / PAGE);
    const bits = this.decoded.get(frame);
    if (bits === undefined) return;
    for (let at = address & (PAGE - 1), end = at + size; at < end; at++) {
      if (bits[at >> 3] & (1 << (at & 7))) {
        this.forgetCode(frame);
        this.rewritten = true;
        return;
      }
    }
  }

  /** Takes over what stores across pages wrote: the second page is one that follows a mapping of the first. */
  private settleCrossings(): void {
    if (this.crossed.length === 0) return;
    const frames = new Set(this.crossed);
    this.crossed = [];
    for (const frame of frames) this.takeBack(frame * PAGE + PAGE - 16, 16);
    for (const [page, { frame }] of this.translations) {
      const next = frames.has(frame) ? this.translations.get(page + 1n) : undefined;
      if (next !== undefined) this.takeBack(next.frame * PAGE, 16);
    }
  }

  /** Takes over what Unicorn's RAM holds. */
  private takeBack(address: number, size: number): void {
    const bytes = this.engine.mem_read(BigInt(address), size);
    for (let i = 0; i < size; i++) {
      if (this.memory[address + i] === bytes[i]) continue;
      this.memory[address + i] = bytes[i];
      this.changed(address + i, 1);
    }
  }

  // ---- RAM on both sides ----

  /** The system side or the host has written a page that Unicorn has. */
  private stored(frame: number): void {
    if (!this.copied[frame]) return;
    this.copied[frame] = 0;
    this.stale.push(frame);
  }

  /** Gives Unicorn a page if it does not have it as it is. */
  private copy(frame: number): void {
    if (this.copied[frame]) return;
    this.copied[frame] = 1;
    this.unwatched.push(frame);
    this.engine.mem_write(BigInt(frame * PAGE), this.memory.subarray(frame * PAGE, (frame + 1) * PAGE));
  }

  /** Brings the pages that have changed to Unicorn: a few at once, many when its TLB next asks for them. */
  private refresh(): void {
    const { stale, engine } = this;
    if (stale.length === 0) return;
    if (stale.some((frame) => this.fetched.has(frame))) {
      // Writing RAM from outside leaves translations of the old code in place.
      this.fetched.clear();
      engine.ctl_flush_tb();
    }
    for (const frame of stale) this.forgetCode(frame);
    if (stale.length <= MANY_PAGES) for (const frame of stale) this.copy(frame);
    else this.emptyTlb();
    stale.length = 0;
  }

  private watch(): void {
    if (this.unwatched.length === 0) return;
    this.system.watchPages(this.unwatched);
    this.unwatched = [];
  }

  // ---- translations ----

  /** Empties Unicorn's TLB if what its entries come from has changed. */
  private useTranslations(state: WasmCpuState): void {
    const flags = state.lo(L.R_RFLAGS) & RFLAGS_AC;
    const key = `${state.index} ${state.lo(L.S_TLB_VERSION)} ${state.cpl} ${flags} ${this.bits}`;
    if (key === this.translationKey) return;
    this.translationKey = key;
    this.emptyTlb();
  }

  private emptyTlb(): void {
    this.translations.clear();
    this.forgetPage();
    this.engine.ctl_flush_tlb();
  }

  // ---- code ----

  private forgetPage(): void {
    this.pageBase = 1n << 62n;
    this.page = undefined;
  }

  /** Code in a page may have changed. */
  private forgetCode(frame: number): void {
    if (!this.decoded.delete(frame)) return;
    for (const pages of Object.values(this.code)) pages.delete(frame);
    this.ahead.clear();
    this.forgetPage();
  }

  /** Code page of a linear address, undefined where no code can be fetched. Becomes the current one. */
  private codePage(linear: bigint): CodePage | undefined {
    const base = BigInt.asIntN(64, linear & ~0xfffn);
    if (base === this.pageBase) return this.page;
    const known = this.translations.get(linear >> 12n);
    let frame: number;
    if (known !== undefined && known.permissions & this.module.PROT_EXEC) ({ frame } = known);
    else {
      const physical = this.system.vcpu(this.state.index).translate(linear);
      if (physical < 0 || physical >= this.memory.length) return undefined;
      frame = Math.floor(physical / PAGE);
    }
    const pages = this.code[this.bits];
    let page = pages.get(frame);
    if (page === undefined) {
      page = { frame, kinds: new Uint8Array(PAGE) };
      pages.set(frame, page);
      if (!this.decoded.has(frame)) this.decoded.set(frame, new Uint8Array(PAGE / 8));
    }
    this.pageBase = base;
    this.page = page;
    return page;
  }

  private decodeAt(page: CodePage, offset: number): ReturnType<typeof decode> {
    const start = page.frame * PAGE + offset;
    const found = decode(this.memory.subarray(start, (page.frame + 1) * PAGE), this.bits);
    page.kinds[offset] = found.kind;
    const bits = this.decoded.get(page.frame) as Uint8Array;
    // What cannot be decoded may become an instruction by a change of any byte up to the longest one's end.
    for (let at = offset, end = Math.min(offset + (found.length || 15), PAGE); at < end; at++)
      bits[at >> 3] |= 1 << (at & 7);
    return found;
  }

  private kindAt(linear: bigint): number {
    const page = this.codePage(linear);
    if (page === undefined) return SYSTEM;
    const offset = Number(linear & 0xfffn);
    return page.kinds[offset] || this.decodeAt(page, offset).kind;
  }

  /**
   * Follows the code from `start` along direct branches as far as it has not been seen, and cuts straight pieces that are too long for
   * the translator.
   */
  private lookAhead(start: bigint): void {
    if (this.ahead.has(start)) return;
    const todo = [start];
    for (let count = 0; count < MAX_AHEAD; count++) {
      const next = todo.pop();
      if (next === undefined) return;
      if (!this.ahead.has(next)) this.followBlock(next, todo);
    }
    // Enough for now: what is left is looked at when Unicorn gets there.
    for (const address of todo) if (!this.ahead.has(address)) this.cut(address);
  }

  private cut(address: bigint): void {
    if (this.cuts.has(address)) return;
    this.cuts.add(address);
    this.cutsChanged = true;
  }

  private followBlock(start: bigint, todo: bigint[]): void {
    this.ahead.add(start);
    const mask = this.bits === 64 ? 0xffff_ffff_ffff_ffffn : 0xffff_ffffn;
    let weight = 0;
    /** The last instruction for the system side: Unicorn stops there anyhow, elsewhere a cut costs a burst whenever control passes. */
    let system: bigint | undefined;
    for (let at = start; ; ) {
      const page = this.codePage(at);
      if (page === undefined) return;
      const instruction = this.decodeAt(page, Number(at & 0xfffn));
      weight += instruction.weight;
      // Of an instruction that goes on in the next page nothing is known here: that is for the system side, too.
      if (weight > BLOCK_WEIGHT || instruction.length === 0) {
        this.cut(system ?? at);
        return;
      }
      if (instruction.kind === SYSTEM) system = at;
      const after = (at + BigInt(instruction.length)) & mask;
      if (instruction.target !== undefined) todo.push((at + BigInt(instruction.target)) & mask);
      if (instruction.ends) return;
      if (instruction.branch) {
        todo.push(after);
        return;
      }
      at = after;
    }
  }

  /** Every exit address costs a little at the end of each burst. */
  private dropCuts(): void {
    this.cuts.clear();
    this.cutsChanged = true;
    this.ahead.clear();
    this.engine.ctl_flush_tb();
  }
}
