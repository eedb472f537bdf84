import { describe, expect, it } from 'vitest';
import * as R from '../cpu/core/layout.ts';
import type { Cpu, CpuState } from '../cpu/cpu.ts';
import { registerByName } from '../cpu/registers.ts';
import {
  BOOT_LAYOUT,
  type BootOptions,
  bootMemory,
  checkEntry,
  parkRegisters,
  SELECTOR,
  setBootRegisters,
  vcpuBlock,
  writeBootTables,
} from './boot-state.ts';

const MEMORY = 0x400000;

/** Registers without a CPU behind them, each holding a value boot state must replace. */
class RegisterFile implements Pick<CpuState, 'index' | 'set' | 'get'> {
  readonly index: number;
  readonly #slots = new Map<number, bigint>();

  constructor(index: number) {
    this.index = index;
    for (let id = 0; id < R.S_FIRST; id++) this.#slots.set(id, 0xdeadn);
  }

  set(id: number, lo: number, hi: number): void {
    this.#slots.set(id, (BigInt(hi >>> 0) << 32n) | BigInt(lo >>> 0));
  }

  get(id: number): bigint {
    return this.#slots.get(id) ?? 0n;
  }

  named(name: string): bigint {
    return this.get(registerByName(name)!.id);
  }
}

function start(options: Partial<BootOptions>, index = 0): RegisterFile {
  const state = new RegisterFile(index);
  setBootRegisters(state as unknown as CpuState, { mode: 'long64', cpl: 0, entry: 0x1000, ...options }, MEMORY);
  return state;
}

function tables(options: Partial<BootOptions>, covered: (address: number) => boolean = () => false): DataView {
  const memory = new Uint8Array(MEMORY);
  const cpu = { memory, vcpuCount: 2 } as unknown as Cpu;
  writeBootTables(cpu, { mode: 'long64', cpl: 0, entry: 0x1234, ...options }, covered);
  return new DataView(memory.buffer);
}

/** Walks 4-level tables: the 2 MiB page entry for an address. */
function entryFor(view: DataView, address: number): bigint {
  const next = (entry: bigint) => Number(entry & 0xffff_f000n);
  const pdpt = next(view.getBigUint64(BOOT_LAYOUT.pml4, true));
  const directory = next(view.getBigUint64(pdpt + Math.floor(address / 2 ** 30) * 8, true));
  return view.getBigUint64(directory + (Math.floor(address / 2 ** 21) % 512) * 8, true);
}

describe('setBootRegisters', () => {
  it('starts long64 in 64-bit mode at the entry point', () => {
    const state = start({ entry: 0x5678 });
    expect(state.named('rip')).toBe(0x5678n);
    expect(state.named('rflags')).toBe(2n);
    expect(state.named('rax')).toBe(0n);
    expect(state.named('r15')).toBe(0n);
    expect(state.named('cr0')).toBe(0x80010031n);
    expect(state.named('cr3')).toBe(0x70000n);
    expect(state.named('cr4')).toBe(0x20n);
    expect(state.named('efer')).toBe(0xd01n);
    expect([state.named('cs'), state.named('cs_attr')]).toEqual([0x08n, 0xa09bn]);
    expect([state.named('ss'), state.named('ss_attr')]).toEqual([0x10n, 0xc093n]);
    expect([state.named('tr'), state.named('tr_attr'), state.named('tr_limit')]).toEqual([0x40n, 0x8bn, 0x67n]);
    expect([state.named('gdtr_base'), state.named('gdtr_limit')]).toEqual([0x76000n, 0x4fn]);
    expect([state.named('idtr_base'), state.named('idtr_limit')]).toEqual([0n, 0n]);
    expect([state.named('dr6'), state.named('dr7')]).toEqual([0xffff0ff0n, 0x400n]);
  });

  it('gives every vCPU its own 16-byte aligned stack and TSS below the top of RAM', () => {
    expect(start({}, 0).named('rsp')).toBe(BigInt(MEMORY));
    expect(start({}, 3).named('rsp')).toBe(BigInt(MEMORY - 3 * 0x2000));
    expect(start({}, 3).named('tr_base')).toBe(BigInt(vcpuBlock(MEMORY, 3)));
    expect(start({ cpl: 3 }, 1).named('rsp')).toBe(BigInt(MEMORY - 2 * 0x2000 + 0x1000));
    expect(bootMemory(255)).toBe(0x100000 + 255 * 0x2000);
  });

  it('starts CPL 3 with user segments and IOPL 3', () => {
    const state = start({ cpl: 3 });
    expect([state.named('cs'), state.named('cs_attr')]).toEqual([0x33n, 0xa0fbn]);
    expect([state.named('ss'), state.named('ss_attr')]).toEqual([0x2bn, 0xc0f3n]);
    expect(state.named('rflags')).toBe(0x3002n);
    expect(start({ cpl: 3, mode: 'compat32' }).named('cs')).toBe(0x23n);
  });

  it('starts prot32 without paging and compat32 in long mode with a 32-bit code segment', () => {
    const prot32 = start({ mode: 'prot32' });
    expect([prot32.named('cr0'), prot32.named('cr4'), prot32.named('efer')]).toEqual([0x10031n, 0n, 0n]);
    expect([prot32.named('cs'), prot32.named('cs_attr')]).toEqual([0x18n, 0xc09bn]);
    const compat32 = start({ mode: 'compat32' });
    expect([compat32.named('cs'), compat32.named('cs_attr'), compat32.named('efer')]).toEqual([0x18n, 0xc09bn, 0xd01n]);
  });

  it('starts real16 at 0:entry with stacks of their own for APs', () => {
    const state = start({ mode: 'real16' });
    expect([state.named('cr0'), state.named('cs'), state.named('cs_base'), state.named('rip')]).toEqual([
      0x10n,
      0n,
      0n,
      0x1000n,
    ]);
    expect([state.named('cs_limit'), state.named('ds_limit'), state.named('idtr_limit')]).toEqual([
      0xffffn,
      0xffffn,
      0x3ffn,
    ]);
    expect([state.named('ss'), state.named('rsp')]).toEqual([0n, 0xfff0n]);
    const ap = start({ mode: 'real16' }, 2);
    expect([ap.named('ss'), ap.named('ss_base'), ap.named('rsp')]).toEqual([0x1040n, 0x10400n, 0x400n]);
  });

  it('leaves reset state to the CPU but for the place of the reset vector', () => {
    const state = start({ mode: 'reset' });
    expect([state.named('cs'), state.named('cs_base'), state.named('rip')]).toEqual([0xf000n, 0xf0000n, 0xfff0n]);
    expect(state.named('cr0')).toBe(0xdeadn);
  });

  it('parks halted APs behind a HLT', () => {
    const state = start({}, 1);
    parkRegisters(state as unknown as CpuState, 'long64');
    expect(state.named('rip')).toBe(0x77001n);
    const real = start({ mode: 'real16' }, 1);
    parkRegisters(real as unknown as CpuState, 'real16');
    expect([real.named('cs_base'), real.named('rip')]).toEqual([0x77000n, 1n]);
  });
});

describe('writeBootTables', () => {
  it('maps at least 16 MiB and the APIC pages one to one', () => {
    const view = tables({});
    expect(entryFor(view, 0)).toBe(0x83n);
    expect(entryFor(view, 0xe00000)).toBe(0xe00083n);
    expect(entryFor(view, 0x1000000)).toBe(0n);
    expect(entryFor(view, 0xfec00000)).toBe(0xfec00093n);
    expect(entryFor(view, 0xfee00000)).toBe(0xfee00093n);
    expect(entryFor(view, 0xff000000)).toBe(0n);
  });

  it('lets CPL 3 at every page when the program starts there', () => {
    const view = tables({ cpl: 3 });
    expect(entryFor(view, 0)).toBe(0x87n);
    expect(view.getBigUint64(BOOT_LAYOUT.pml4, true)).toBe(0x71007n);
  });

  it('writes the GDT the selectors speak of', () => {
    const view = tables({});
    const descriptor = (selector: number) => view.getBigUint64(BOOT_LAYOUT.gdt + (selector & ~7), true);
    expect(descriptor(0)).toBe(0n);
    expect(descriptor(SELECTOR.code64)).toBe(0x00af9b000000ffffn);
    expect(descriptor(SELECTOR.data)).toBe(0x00cf93000000ffffn);
    expect(descriptor(SELECTOR.code32)).toBe(0x00cf9b000000ffffn);
    expect(descriptor(SELECTOR.userCode32)).toBe(0x00cffb000000ffffn);
    expect(descriptor(SELECTOR.userData)).toBe(0x00cff3000000ffffn);
    expect(descriptor(SELECTOR.userCode64)).toBe(0x00affb000000ffffn);
    expect(descriptor(SELECTOR.code16)).toBe(0x00009b000000ffffn);
    // Base 0x3fe000 (vCPU 0's block), limit 0x67, busy TSS.
    expect(descriptor(SELECTOR.tss)).toBe(0x00008b3fe0000067n);
  });

  it('writes RSP0 or SS0:ESP0 and no I/O permissions into each TSS', () => {
    const block = vcpuBlock(MEMORY, 1);
    const long = tables({});
    expect(long.getBigUint64(block + 4, true)).toBe(BigInt(block + 0x2000));
    expect(long.getUint16(block + 0x66, true)).toBe(0x68);
    const prot = tables({ mode: 'prot32' });
    expect([prot.getUint32(block + 4, true), prot.getUint16(block + 8, true)]).toEqual([block + 0x2000, 0x10]);
  });

  it('puts a far jump at the reset vector unless the program is there', () => {
    const bytes = (view: DataView) => Array.from({ length: 5 }, (_, i) => view.getUint8(0xffff0 + i));
    expect(bytes(tables({ mode: 'reset' }))).toEqual([0xea, 0x34, 0x12, 0, 0]);
    expect(bytes(tables({ mode: 'reset' }, (address) => address === 0xffff0))).toEqual([0, 0, 0, 0, 0]);
  });

  it('writes nothing but the parking loop in real16', () => {
    const view = tables({ mode: 'real16' });
    expect(view.getUint8(0x77000)).toBe(0xf4);
    expect(view.getUint32(0x70000, true)).toBe(0);
  });
});

it('wants entry points below 64 KiB in real mode', () => {
  expect(() => checkEntry('long64', 0x10000)).not.toThrow();
  expect(() => checkEntry('real16', 0x10000)).toThrow(
    'entry point 0x10000 is above 0xffff, out of reach in mode real16',
  );
});
