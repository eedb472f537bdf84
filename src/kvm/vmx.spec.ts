import { expect, it } from 'vitest';
import * as X from './exits.ts';
import { VMX_EXITS, VMX_HYPERCALL } from './vmx.ts';

it.each<[kind: number, reason: number, name: string]>([
  [X.EXIT_EXCEPTION, 0, 'exception_nmi'],
  [X.EXIT_EXTERNAL_INTERRUPT, 1, 'external_interrupt'],
  [X.EXIT_TRIPLE_FAULT, 2, 'triple_fault'],
  [X.EXIT_INTERRUPT_WINDOW, 7, 'interrupt_window'],
  [X.EXIT_CPUID, 10, 'cpuid'],
  [X.EXIT_HLT, 12, 'hlt'],
  [X.EXIT_HYPERCALL, 18, 'vmcall'],
  [X.EXIT_IO, 30, 'io_instruction'],
  [X.EXIT_RDMSR, 31, 'msr_read'],
  [X.EXIT_WRMSR, 32, 'msr_write'],
  [X.EXIT_NESTED_PAGE_FAULT, 48, 'ept_violation'],
])('exit kind %i is basic reason %i, %s', (kind, number, name) => {
  expect(VMX_EXITS[kind]).toEqual({ number, name });
});

it('has a row for every kind, with names that differ', () => {
  expect(VMX_EXITS).toHaveLength(X.EXIT_KINDS);
  // An incomplete IPI is an APIC write.
  expect(new Set(VMX_EXITS.map((exit) => exit.name)).size).toBe(X.EXIT_KINDS - 1);
});

it('encodes VMCALL', () => {
  expect([...VMX_HYPERCALL]).toEqual([0x0f, 0x01, 0xc1]);
});
