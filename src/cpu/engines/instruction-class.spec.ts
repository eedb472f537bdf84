import { expect, it } from 'vitest';
import { decode, PLAIN, REP16, REP32, REP64, SYSTEM } from './instruction-class.ts';

const bytes = (hex: string): Uint8Array => Uint8Array.from(hex.split(' '), (byte) => Number.parseInt(byte, 16));
const kind = (hex: string, bits: 16 | 32 | 64 = 64): number => decode(bytes(hex), bits).kind;

it.each([
  ['add rbx, rax', '48 01 c3'],
  ['mov rax, [rip]', '48 8b 05 00 00 00 00'],
  ['push rax', '50'],
  ['call', 'e8 00 01 00 00'],
  ['ret', 'c3'],
  ['jne', '75 fe'],
  ['cmpxchg16b [rax]', '48 0f c7 08'],
  ['movsq', '48 a5'],
])('%s is plain', (_name, hex) => {
  expect(kind(hex)).toBe(PLAIN);
});

it.each([
  ['mov ds, eax: loads a descriptor', '8e d8'],
  ['mov eax, ds: the selectors are the system side’s', '8c d8'],
  ['mov rax, cr0', '0f 20 c0'],
  ['push fs', '0f a0'],
  ['jmp rax: its target is not known ahead', 'ff e0'],
  ['jmp far [rax]', 'ff 28'],
  ['retf', 'cb'],
  ['vmcall', '0f 01 c1'],
  ['pause', 'f3 90'],
  ['wrmsr', '0f 30'],
  ['cpuid', '0f a2'],
  ['rdtsc', '0f 31'],
  ['in al, dx', 'ec'],
  ['rep insb', 'f3 6c'],
  ['int 0x80', 'cd 80'],
  ['popf', '9d'],
  ['sti', 'fb'],
  ['hlt', 'f4'],
  ['ud2', '0f 0b'],
  ['an instruction that is cut off', '48 8b'],
])('%s', (_name, hex) => {
  expect(kind(hex)).toBe(SYSTEM);
});

it('tells the width of a repeated string instruction’s counter', () => {
  expect(kind('f3 aa')).toBe(REP64);
  expect(kind('67 f3 aa')).toBe(REP32);
  expect(kind('f2 ae', 32)).toBe(REP32);
  expect(kind('f3 a5', 16)).toBe(REP16);
});

it('says where a block of code ends and where its direct branch leads', () => {
  expect(decode(bytes('eb fe'), 64)).toMatchObject({ length: 2, ends: true, branch: true, target: 0 });
  expect(decode(bytes('75 10'), 16)).toMatchObject({ length: 2, ends: false, branch: true, target: 18 });
  expect(decode(bytes('e8 fb ff ff ff'), 32)).toMatchObject({ length: 5, ends: false, branch: true, target: 0 });
  expect(decode(bytes('c3'), 64)).toMatchObject({ ends: true, branch: true, target: undefined });
  expect(decode(bytes('90'), 64)).toMatchObject({ length: 1, ends: false, branch: false });
  expect(decode(bytes('48'), 64)).toMatchObject({ length: 0, ends: true });
});
