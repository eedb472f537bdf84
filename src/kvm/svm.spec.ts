import { expect, it } from 'vitest';
import * as X from './exits.ts';
import { SVM_EXITS, SVM_HYPERCALL } from './svm.ts';

it.each<[kind: number, code: number, name: string]>([
  [X.EXIT_EXCEPTION, 0x46, 'ud_excp'],
  [X.EXIT_EXTERNAL_INTERRUPT, 0x60, 'interrupt'],
  [X.EXIT_INTERRUPT_WINDOW, 0x64, 'vintr'],
  [X.EXIT_CPUID, 0x72, 'cpuid'],
  [X.EXIT_HLT, 0x78, 'hlt'],
  [X.EXIT_IO, 0x7b, 'io'],
  [X.EXIT_RDMSR, 0x7c, 'msr_read'],
  [X.EXIT_WRMSR, 0x7c, 'msr_write'],
  [X.EXIT_TRIPLE_FAULT, 0x7f, 'shutdown'],
  [X.EXIT_HYPERCALL, 0x81, 'vmmcall'],
  [X.EXIT_NESTED_PAGE_FAULT, 0x400, 'npf'],
])('exit kind %i is code 0x%i, %s', (kind, number, name) => {
  expect(SVM_EXITS[kind]).toEqual({ number, name });
});

it('has a row for every kind', () => {
  expect(SVM_EXITS).toHaveLength(X.EXIT_KINDS);
});

it('encodes VMMCALL', () => {
  expect([...SVM_HYPERCALL]).toEqual([0x0f, 0x01, 0xd9]);
});
