/**
 * One vCPU without KVM, in a chosen mode, with tables built by the host: GDT, IDT, TSS, page tables, and for each vector a handler that
 * is one HLT; only that of 0x80 may be called from CPL 3. A test assembles a snippet at CODE, runs it to the first exit that is not EFER, and looks at where it stopped.
 *
 *     0x2000 GDT      0x3000 IDT      0x4000 TSS      0x5000 handlers, 16 bytes each      0x6000 LDT      0x8000 code
 *     0x7f00 stack in real mode   0x1f000 kernel stack   0x27000 user stack   0x2f000 stack 0 of the TSS   0x37000 stack 1 (IST1)
 *     0x40000 PML4, PDPT, PD, PT (4 KiB pages, first 2 MiB)   0x44000 PAE PDPT   0x45000 PAE PD   0x46000 32-bit PD   0x47000 its PT
 */
import type { Cpu, CpuState, Tier2, Vendor } from '../../src/cpu/cpu.ts';
import type { Exit } from '../../src/cpu/exit.ts';
import { registerByName } from '../../src/cpu/registers.ts';
import { WasmCpu } from '../../src/cpu/wasm-cpu.ts';
import { assemble } from '../../src/program/assembler.ts';

export type Mode = 'real' | 'prot32' | 'long64';

export const GDT = 0x2000;
export const IDT = 0x3000;
export const TSS = 0x4000;
export const HANDLERS = 0x5000;
export const LDT = 0x6000;
export const CODE = 0x8000;
export const KERNEL_STACK = 0x1f000;
export const USER_STACK = 0x27000;
export const TSS_STACK = 0x2f000;
export const IST_STACK = 0x37000;
export const PML4 = 0x40000;
export const PDPT = 0x41000;
export const PD = 0x42000;
export const PT = 0x43000;
export const PAE_PDPT = 0x44000;
export const PAE_PD = 0x45000;
export const PD32 = 0x46000;
export const PT32 = 0x47000;

/** Selectors, defined in every snippet too. */
export const SEL = {
  CODE64: 0x08,
  DATA: 0x10,
  CODE32: 0x18,
  CODE16: 0x20,
  UDATA: 0x2b,
  UCODE64: 0x33,
  UCODE32: 0x3b,
  TSS: 0x40,
  LDT: 0x50,
  /** Data, not present. */
  ABSENT: 0x60,
  READONLY: 0x68,
  /** Code that cannot be read. */
  EXECONLY: 0x70,
  CONFORM: 0x78,
  /** Expand-down data above 0xfff, 32-bit. */
  DOWN: 0x80,
  /** Data of 256 bytes at 0x30000. */
  SMALL: 0x88,
  /** Call gate (16 bytes in IA-32e mode). */
  GATE: 0x90,
  UGATE: 0x93,
  /** Code, not present. */
  NOCODE: 0xa0,
  /** Data with a 16-bit stack pointer. */
  STACK16: 0xa8,
  /** Code with both L and D. */
  CODELD: 0xb0,
  DATA1: 0xb9,
  CODE1: 0xc1,
  /** A second TSS descriptor, available, at the same place. */
  TSS2: 0xc8,
} as const;

/** A segment descriptor; `limit` in bytes or, if `attr` has G (bit 15), in pages. `attr` is in VMX format. */
export function descriptor(base: number, limit: number, attr: number): bigint {
  const low = BigInt(limit & 0xffff) | (BigInt(base & 0xffffff) << 16n);
  const high = (attr & 0xff) | ((limit >> 8) & 0xf00) | (attr & 0xf000) | ((base >>> 24) << 16);
  return low | (BigInt(high >>> 0) << 40n);
}

/** A gate in the format of the mode; type as in SDM table 3-2 with P and DPL: 0x8e interrupt, 0x8f trap, 0xee interrupt with DPL 3. */
export function gate(selector: number, offset: number, type: number, extra = 0): bigint {
  const low = BigInt(offset & 0xffff) | (BigInt(selector) << 16n);
  return low | (BigInt(extra | (type << 8)) << 32n) | (BigInt(offset >>> 16) << 48n);
}

export interface Stop {
  /** Exit reason, 'hlt' in a handler. */
  readonly reason: Exit['reason'];
  /** Vector of the handler it halted in. */
  readonly vector: number | undefined;
  /** Error code, if the handler's vector has one. */
  readonly error: number | undefined;
  /** Label of the snippet that the handler would return to, or its address in hex; for other stops, of RIP. */
  readonly at: string;
  /** Frame of the handler above the error code: IP, CS, FLAGS, …, in units of the gate's size. */
  readonly frame: readonly bigint[];
}

const WITH_ERROR = new Set([8, 10, 11, 12, 13, 14, 17]);

export class Bare {
  readonly cpu: Cpu;
  readonly state: CpuState;
  readonly mode: Mode;
  readonly #view: DataView;
  #labels: ReadonlyMap<string, bigint> = new Map();

  constructor(cpu: Cpu, mode: Mode) {
    this.cpu = cpu;
    this.state = cpu.vcpu(0);
    this.mode = mode;
    this.#view = new DataView(cpu.memory.buffer, cpu.memory.byteOffset, cpu.memory.byteLength);
  }

  get(name: string): bigint {
    return this.state.get(registerByName(name)!.id);
  }
  put(values: Readonly<Record<string, bigint | number>>): void {
    for (const [name, value] of Object.entries(values)) this.state.put(registerByName(name)!.id, BigInt(value));
  }
  segment(name: string, selector: number, attr: number, limit = 0xffffffff, base = 0): void {
    this.put({ [name]: selector, [`${name}_base`]: base, [`${name}_limit`]: limit, [`${name}_attr`]: attr });
  }
  read64(address: number): bigint {
    return this.#view.getBigUint64(address, true);
  }
  read32(address: number): number {
    return this.#view.getUint32(address, true);
  }
  read16(address: number): number {
    return this.#view.getUint16(address, true);
  }
  write64(address: number, value: bigint): void {
    this.cpu.memoryWritten(address, 8);
    this.#view.setBigUint64(address, value, true);
  }
  write32(address: number, value: number): void {
    this.cpu.memoryWritten(address, 4);
    this.#view.setUint32(address, value, true);
  }
  write16(address: number, value: number): void {
    this.cpu.memoryWritten(address, 2);
    this.#view.setUint16(address, value, true);
  }
  /** Sets the gate of a vector: code selector, P/DPL/type byte, IST. */
  gate(vector: number, selector: number, type: number, ist = 0, offset = HANDLERS + vector * 16): void {
    if (this.mode === 'long64') {
      this.write64(IDT + vector * 16, gate(selector, offset, type, ist));
      this.write64(IDT + vector * 16 + 8, 0n);
    } else this.write64(IDT + vector * 8, gate(selector, offset, type));
  }
  label(name: string): bigint {
    return this.#labels.get(name)!;
  }

  /** Assembles `source` at CODE for the vCPU's mode and continues there. */
  load(source: string): void {
    const bits = this.mode === 'real' ? 16 : this.mode === 'prot32' ? 32 : 64;
    const defines = Object.fromEntries(Object.entries(SEL).map(([name, value]) => [name, BigInt(value)]));
    const program = assemble(source, { fileName: 'snippet.S', origin: CODE, bits, defines });
    for (const { address, bytes } of program.segments) {
      this.cpu.memoryWritten(address, bytes.length);
      this.cpu.memory.set(bytes, address);
    }
    this.#labels = program.symbols;
    this.put({ rip: CODE });
  }

  /** Runs to the next exit; EFER is kept for the guest, as KVM does. */
  go(budget = 1000): Stop {
    for (;;) {
      const exit = this.cpu.run(0, budget);
      if (exit.reason === 'rdmsr' && exit.msr === 0xc0000080) {
        this.put({ rax: this.get('efer') & 0xffffffffn, rdx: this.get('efer') >> 32n });
      } else if (exit.reason === 'wrmsr' && exit.msr === 0xc0000080) {
        const kept = this.get('efer') & 0x400n;
        this.put({ efer: (BigInt(exit.dataHi) << 32n) | BigInt(exit.dataLo) | kept });
      } else return this.#stop(exit);
      this.state.skipInstruction();
    }
  }
  /** Continues after the HLT it stopped at. */
  resume(): Stop {
    this.state.skipInstruction();
    return this.go();
  }
  run(source: string): Stop {
    this.load(source);
    return this.go();
  }
  /** Runs and reduces the stop to what a fault says: vector, error code, place. */
  fault(source: string): Pick<Stop, 'vector' | 'error' | 'at'> {
    const { vector, error, at } = this.run(source);
    return { vector, error, at };
  }

  #name(address: bigint): string {
    for (const [name, value] of this.#labels) if (value === address) return name;
    return `0x${address.toString(16)}`;
  }
  #stop(exit: Exit): Stop {
    const rip = this.get('rip');
    const reason = exit.reason;
    const slot = Number(rip) - HANDLERS;
    if (reason !== 'hlt' || slot < 0 || slot >= 0x1000 || slot % 16 !== 0) {
      return { reason, vector: undefined, error: undefined, at: this.#name(rip), frame: [] };
    }
    const vector = slot / 16;
    const size = this.state.is64bit ? 8 : (this.get('cs_attr') & 0x4000n) !== 0n ? 4 : 2;
    const top = Number(this.get('ss_base') + this.get('rsp'));
    const values = Array.from({ length: 10 }, (_, i) => {
      const at = top + i * size;
      return size === 8 ? this.read64(at) : BigInt(size === 4 ? this.read32(at) : this.read16(at));
    });
    const hasError = this.mode !== 'real' && WITH_ERROR.has(vector);
    const frame = hasError ? values.slice(1) : values;
    return { reason, vector, error: hasError ? Number(values[0]) : undefined, at: this.#name(frame[0]), frame };
  }
}

export interface BareOptions {
  readonly vendor?: Vendor;
  readonly cpl?: 0 | 3;
  readonly tier2?: Tier2;
}

/** A vCPU in this mode at this privilege level, IF clear. */
export async function bare(mode: Mode, { vendor = 'intel', cpl = 0, tier2 }: BareOptions = {}): Promise<Bare> {
  const shape = { vcpus: 1, memory: 0x200000, vendor, ...(tier2 === undefined ? {} : { tier2 }) };
  const b = new Bare(await WasmCpu.create(shape), mode);
  b.state.reset('reset', 0);
  for (let vector = 0; vector < 256; vector++) b.cpu.memory[HANDLERS + vector * 16] = 0xf4;

  const long = mode === 'long64';
  const tables: readonly (readonly [number, bigint])[] = [
    [SEL.CODE64, descriptor(0, 0xfffff, 0xa09a)],
    [SEL.DATA, descriptor(0, 0xfffff, 0xc092)],
    [SEL.CODE32, descriptor(0, 0xfffff, 0xc09a)],
    [SEL.CODE16, descriptor(0, 0xffff, 0x009a)],
    [SEL.UDATA, descriptor(0, 0xfffff, 0xc0f2)],
    [SEL.UCODE64, descriptor(0, 0xfffff, 0xa0fa)],
    [SEL.UCODE32, descriptor(0, 0xfffff, 0xc0fa)],
    [SEL.TSS, descriptor(TSS, 0x88, 0x8b)],
    [SEL.LDT, descriptor(LDT, 0x3f, 0x82)],
    [SEL.ABSENT, descriptor(0, 0xfffff, 0xc012)],
    [SEL.READONLY, descriptor(0, 0xfffff, 0xc090)],
    [SEL.EXECONLY, descriptor(0, 0xfffff, 0xc098)],
    [SEL.CONFORM, descriptor(0, 0xfffff, long ? 0xa09e : 0xc09e)],
    [SEL.DOWN, descriptor(0, 0xfff, 0x4096)],
    [SEL.SMALL, descriptor(0x30000, 0xff, 0x4092)],
    [SEL.NOCODE, descriptor(0, 0xfffff, long ? 0xa01a : 0xc01a)],
    [SEL.STACK16, descriptor(0, 0xffff, 0x0092)],
    [SEL.CODELD, descriptor(0, 0xfffff, 0xe09a)],
    [SEL.DATA1, descriptor(0, 0xfffff, 0xc0b2)],
    [SEL.CODE1, descriptor(0, 0xfffff, long ? 0xa0ba : 0xc0ba)],
    [SEL.TSS2, descriptor(TSS, 0x88, 0x89)],
  ];
  for (const [selector, value] of tables) b.write64(GDT + (selector & ~7), value);

  for (let page = 0; page < 512; page++) b.write64(PT + page * 8, BigInt((page << 12) | 7));
  b.write64(PML4, BigInt(PDPT | 7));
  b.write64(PDPT, BigInt(PD | 7));
  b.write64(PD, BigInt(PT | 7));
  b.write64(PAE_PDPT, BigInt(PAE_PD | 1));
  b.write64(PAE_PD, BigInt(PT | 7));
  b.write32(PD32, PT32 | 7);
  for (let page = 0; page < 512; page++) b.write32(PT32 + page * 4, (page << 12) | 7);

  if (mode === 'real') {
    for (let vector = 0; vector < 256; vector++) b.write32(vector * 4, HANDLERS + vector * 16);
    for (const name of ['es', 'ds', 'ss', 'fs', 'gs']) b.segment(name, 0, 0x93, 0xffff);
    b.segment('cs', 0, 0x9b, 0xffff);
    b.put({ cr0: 0x10, rsp: 0x7f00, idtr_base: 0, idtr_limit: 0x3ff });
    return b;
  }

  const handlerCode = long ? SEL.CODE64 : SEL.CODE32;
  for (let vector = 0; vector < 256; vector++) b.gate(vector, handlerCode, 0x8e);
  b.gate(0x80, handlerCode, 0xee);
  if (long) {
    b.write64(TSS + 4, BigInt(TSS_STACK));
    b.write64(TSS + 0x24, BigInt(IST_STACK));
  } else {
    b.write32(TSS + 4, TSS_STACK);
    b.write32(TSS + 8, SEL.DATA);
    b.write32(TSS + 12, IST_STACK);
    b.write32(TSS + 16, SEL.DATA1);
  }
  // I/O permission map: ports 0 to 0xff, all denied.
  b.write16(TSS + 0x66, 0x68);
  for (let i = 0; i <= 0x20; i++) b.cpu.memory[TSS + 0x68 + i] = 0xff;

  const user = cpl === 3;
  const data = user ? SEL.UDATA : SEL.DATA;
  for (const name of ['es', 'ds', 'ss', 'fs', 'gs']) b.segment(name, data, user ? 0xc0f3 : 0xc093);
  if (long) b.segment('cs', user ? SEL.UCODE64 : SEL.CODE64, user ? 0xa0fb : 0xa09b);
  else b.segment('cs', user ? SEL.UCODE32 : SEL.CODE32, user ? 0xc0fb : 0xc09b);
  b.segment('tr', SEL.TSS, 0x8b, 0x88, TSS);
  b.segment('ldtr', 0, 0x10000, 0);
  b.put({
    cr0: long ? 0x80010031 : 0x31,
    cr3: long ? PML4 : 0,
    cr4: long ? 0x20 : 0,
    efer: long ? 0xd01 : 0,
    gdtr_base: GDT,
    gdtr_limit: 0xff,
    idtr_base: IDT,
    idtr_limit: long ? 0xfff : 0x7ff,
    rsp: user ? USER_STACK : KERNEL_STACK,
    rflags: 2,
  });
  return b;
}
