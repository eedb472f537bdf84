import { expect, it } from 'vitest';
import { load, uc } from './engine.fixture.ts';

it('XSETBV sets XCR0, and CPUID knows what there is to set', () => {
  const { run, get } = load(`
    mov eax, 0xd
    xor ecx, ecx
    cpuid
    mov r8d, eax
    mov r9d, ebx
    mov eax, 1
    cpuid
    shr ecx, 26
    and ecx, 3                      # XSAVE, OSXSAVE
    mov r10d, ecx
    mov eax, 3
    xor ecx, ecx
    xor edx, edx
    xsetbv
    xgetbv`);
  run();
  expect(['r8', 'r9', 'r10', 'rax', 'rdx'].map(get)).toEqual([0x203n, 576n, 3n, 3n, 0n]);
});

it.each([
  ['XSETBV without x87 state', 'mov eax, 2\n xor ecx, ecx\n xor edx, edx\nbad: xsetbv'],
  ['XSETBV of XCR1', 'mov eax, 3\n mov ecx, 1\n xor edx, edx\nbad: xsetbv'],
  ['RDPMC', 'bad: rdpmc'],
])('%s is #GP', (_, source) => {
  const { e, run, at, get } = load(source);
  const seen: number[] = [];
  e.hook_add(uc.HOOK_INTR, (_handle: unknown, vector: number) => {
    seen.push(vector);
    e.emu_stop();
  });
  run();
  expect([seen, get('rip')]).toEqual([[13], at('bad')]);
});
