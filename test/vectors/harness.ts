/** Runs one instruction of a table row as guest code and says what every register and every local APIC shows afterwards. */
import { expect } from 'vitest';
import { createVm, type RunResult, type Vendor, type Vm } from '../../src/index.ts';
import type { Effects } from './columns.ts';

/** General registers with values no test relies on, each different in both halves. */
export const BACKGROUND: Readonly<Record<string, bigint>> = {
  rax: 0xa0a0_a0a0_0000_0001n,
  rcx: 0xa0a0_a0a1_0000_0002n,
  rdx: 0xa0a0_a0a2_0000_0003n,
  rbx: 0xa0a0_a0a3_0000_0004n,
  rbp: 0xa0a0_a0a5_0000_0006n,
  rsi: 0xa0a0_a0a6_0000_0007n,
  rdi: 0xa0a0_a0a7_0000_0008n,
  r8: 0xb0b0_b0b0_1111_1111n,
  r9: 0xb0b0_b0b1_2222_2222n,
  r10: 0xb0b0_b0b2_3333_3333n,
  r11: 0xb0b0_b0b3_4444_4444n,
  r12: 0xb0b0_b0b4_5555_5555n,
  r13: 0xb0b0_b0b5_6666_6666n,
  r14: 0xb0b0_b0b6_7777_7777n,
  r15: 0xb0b0_b0b7_8888_8888n,
};

export const VENDORS: readonly Vendor[] = ['intel', 'amd'];

/** Four vCPUs in long mode with enabled x2APICs; the others wait for a SIPI, so that what they receive stays to be seen. */
export const fourVcpus = (kvm: string, vendor: Vendor): Promise<Vm> =>
  createVm({ vcpus: 4, kvm, vendor, memory: 0x20_0000, aps: 'wait-for-sipi', budget: 10_000 });

/** Loads `source`, sets the registers of vCPU 0 over the background and runs. */
export function runWith(vm: Vm, source: string, registers: Readonly<Record<string, bigint>>): RunResult {
  vm.load(source);
  vm.setRegisters(0, { ...BACKGROUND, ...registers });
  return vm.run();
}

/** Every register of vCPU 0 is as it was at the start, but for those in `changed`. */
export function expectRegisters(run: RunResult, changed: Readonly<Record<string, bigint>>): void {
  expect(run.vcpus[0].registers).toEqual({ ...run.start[0], ...changed });
}

/** IRR, ISR, TMR and NMIs of all vCPUs. */
export function expectEffects(run: RunResult, effects: Effects): void {
  const seen = run.vcpus.map(({ lapic, nmiPending }) => ({
    irr: lapic.irr,
    isr: lapic.isr,
    tmr: lapic.tmr,
    nmi: nmiPending,
  }));
  const wanted = run.vcpus.map((_, index) => ({ irr: [], isr: [], tmr: [], nmi: 0, ...effects[index] }));
  expect(seen).toEqual(wanted);
}

/**
 * `body` behind an LIDT, with an interrupt gate for each of `vectors`. The handler of vector V puts V into R15 and halts for good,
 * the interrupted RIP is then on top of the stack (above an error code, if the exception has one).
 */
export function withHandlers(vectors: readonly number[], body: string): string {
  const gates = Array.from({ length: Math.max(...vectors) + 1 }, (_, vector) =>
    vectors.includes(vector) ? `.word handler_${vector}, 8, 0x8e00, 0\n.quad 0` : '.quad 0, 0',
  );
  const handlers = vectors.map((vector) => `handler_${vector}:\nmov r15d, ${vector}\nhlt`);
  return `
_start:
    lidt [idt_register]
${body}
    hlt
${handlers.join('\n')}
    .balign 16
idt:
${gates.join('\n')}
idt_register:
    .word ${gates.length * 16 - 1}
    .quad idt
`;
}

/** A symbol of the loaded program. */
export function symbol(vm: Vm, name: string): bigint {
  const value = vm.program?.symbols.get(name);
  if (value === undefined) throw new Error(`the program has no symbol ${name}`);
  return value;
}

/** The 64-bit word at a guest-physical address. */
export const u64 = (run: RunResult, address: bigint): bigint =>
  new DataView(run.memory.buffer, run.memory.byteOffset).getBigUint64(Number(address), true);
