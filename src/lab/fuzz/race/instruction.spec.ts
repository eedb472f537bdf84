import { describe, expect, it } from 'vitest';
import { assemble } from '../../../program/assembler.ts';
import {
  decodeInstruction,
  type Instruction,
  OPAQUE,
  PLAIN,
  SPECIAL,
  SPECIAL_CLOCK,
  SPECIAL_INTERRUPTS,
  SPECIAL_IRET,
  SPECIAL_OWN,
  SPECIAL_RDMSR,
  SPECIAL_VM,
  SPECIAL_WRMSR,
} from './instruction.ts';

const decoded = (text: string): Instruction => {
  const { bytes } = assemble(`.code64\n${text}`, { fileName: 'one.S', origin: 0x1000 });
  const padded = new Uint8Array(32);
  padded.set(bytes);
  return decodeInstruction(padded, 0);
};

describe('decodeInstruction', () => {
  it.each([
    'nop',
    'mov eax, 5',
    'mov rax, 0x123456789abcdef0',
    'xor ecx, ecx',
    'add rbx, r9',
    'cmp al, 3',
    'lea rax, [rbx+rcx*4+8]',
    'inc r12d',
    'shl rax, 12',
    'jne 1f\n1:',
    'movzx eax, bl',
    'cmovz eax, ebx',
    'bswap rax',
  ])('%s touches no memory', (text) => {
    expect(decoded(text)).toMatchObject({ kind: PLAIN, size: 0, stackSize: 0 });
  });

  it.each([
    ['mov eax, [rbx]', { size: 4, writes: false, base: 3, index: -1, displacement: 0 }],
    ['mov [r13+r12*8-16], rax', { size: 8, writes: true, base: 13, index: 12, scale: 8, displacement: -16 }],
    ['mov byte ptr [0x5000], 1', { size: 1, writes: true, base: -1, index: -1, displacement: 0x5000 }],
    ['mov qword ptr [rip+0x20], 7', { size: 8, writes: true, base: -2, displacement: 0x20, length: 11 }],
    ['cmp qword ptr [rip+8], 0', { size: 8, writes: false, base: -2, displacement: 8, length: 8 }],
    ['lock inc dword ptr [rsp+4]', { size: 4, writes: true, base: 4, index: -1, displacement: 4 }],
    ['lock xadd [rdi], rax', { size: 8, writes: true, base: 7 }],
    ['test dword ptr [rax], 1', { size: 4, writes: false, base: 0 }],
    ['movzx eax, word ptr [rdx+1]', { size: 2, writes: false, base: 2, displacement: 1 }],
    ['lidt [rip+6]', { size: 10, writes: false, base: -2, length: 7 }],
  ])('%s touches %o', (text, operand) => {
    expect(decoded(text)).toMatchObject({ kind: PLAIN, stackSize: 0, ...operand });
  });

  it.each([
    ['push rax', { stackOffset: -8, stackSize: 8, stackWrites: true }],
    ['pop r9', { stackOffset: 0, stackSize: 8, stackWrites: false }],
    ['ret', { stackOffset: 0, stackSize: 8, stackWrites: false }],
    ['call 1f\n1:', { stackOffset: -8, stackSize: 8, stackWrites: true }],
  ])('%s touches the stack', (text, stack) => {
    expect(decoded(text)).toMatchObject({ kind: PLAIN, size: 0, ...stack });
  });

  it.each([
    ['pause', SPECIAL_OWN],
    ['cpuid', SPECIAL_OWN],
    ['sti', SPECIAL_INTERRUPTS],
    ['cli', SPECIAL_INTERRUPTS],
    ['hlt', SPECIAL_INTERRUPTS],
    ['rdmsr', SPECIAL_RDMSR],
    ['wrmsr', SPECIAL_WRMSR],
    ['rdtsc', SPECIAL_CLOCK],
    ['vmcall', SPECIAL_VM],
    ['vmmcall', SPECIAL_VM],
    ['out 0xe8, eax', SPECIAL_VM],
    ['iretq', SPECIAL_IRET],
  ])('%s is special', (text, special) => {
    expect(decoded(text)).toMatchObject({ kind: SPECIAL, special, size: 0 });
  });

  it.each([
    'rep stosd',
    'movaps [rax], xmm0',
    'mov eax, fs:[0]',
    'fxsave [rax]',
    'mov cr3, rax',
    'bt [rax], ecx',
    'ud2',
  ])('%s may touch anything', (text) => {
    expect(decoded(text).kind).toBe(OPAQUE);
  });
});
