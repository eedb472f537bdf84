import { describe, expect, it } from 'vitest';
import { assemble } from './assembler.ts';

function bytesOf(source: string, bits: 16 | 32 | 64 = 64): string {
  const { bytes } = assemble(source, { fileName: 't.S', bits });
  return Buffer.from(bytes).toString('hex');
}

const messageOf = (source: string, bits: 16 | 32 | 64 = 64): string => {
  try {
    assemble(source, { fileName: 't.S', bits });
  } catch (error) {
    return (error as Error).message.split('\n')[0].replace('t.S:1:', '').replace('error: ', '');
  }
  return 'no error';
};

describe('the shortest form', () => {
  it.each([
    ['add eax, 5', '83c005'],
    ['add al, 5', '0405'],
    ['add eax, 0x80', '0580000000'],
    ['add ecx, 0xfffffff0', '83c1f0'],
    ['and rax, 0xfffffffffffffff0', '4883e0f0'],
    ['mov rax, 5', '48c7c005000000'],
    ['mov rax, 0xffffffff', '48b8ffffffff00000000'],
    ['movabs rax, 5', '48b80500000000000000'],
    ['push 5', '6a05'],
    ['push 0x1234', '6834120000'],
    ['pushw 0x1234', '66683412'],
    ['xchg eax, ecx', '91'],
    ['xchg eax, eax', '87c0'],
    ['xchg rax, rax', '90'],
    ['shl eax, 1', 'd1e0'],
    ['shl eax', 'd1e0'],
    ['sal eax, 3', 'c1e003'],
    ['imul eax, 5', '6bc005'],
    ['int 3', 'cc'],
    ['test [rax], ecx', '8508'],
    ['test ecx, [rax]', '8508'],
  ])('of %s is %s', (source, bytes) => {
    expect(bytesOf(source)).toBe(bytes);
  });

  it('of INC, moffs and far pointers differs by mode', () => {
    expect(bytesOf('inc eax', 32)).toBe('40');
    expect(bytesOf('inc eax', 64)).toBe('ffc0');
    expect(bytesOf('mov eax, [0x5000]', 32)).toBe('a100500000');
    expect(bytesOf('mov eax, [0x5000]', 64)).toBe('8b042500500000');
    expect(bytesOf('mov eax, [0xfee00300]', 64)).toBe('a10003e0fe00000000');
    expect(bytesOf('jmp 0x08:0x1234', 16)).toBe('ea34120800');
    expect(bytesOf('ljmp 0x08:0x1234', 32)).toBe('ea341200000800');
    expect(bytesOf('data32 ljmp 0x08:0x1234', 16)).toBe('66ea341200000800');
  });
});

describe('system instructions', () => {
  it.each([
    ['vmcall', 64, '0f01c1'],
    ['vmmcall', 64, '0f01d9'],
    ['wrmsr', 64, '0f30'],
    ['lgdt [0x5000]', 16, '0f01160050'],
    ['data32 lgdt [0x5000]', 16, '660f01160050'],
    ['lgdt [0x5000]', 32, '0f011500500000'],
    ['lgdt [rax]', 64, '0f0110'],
    ['lidt fword ptr [0x5000]', 16, '660f011e0050'],
    ['ltr ax', 16, '0f00d8'],
    ['ltr ax', 64, '0f00d8'],
    ['lldt ax', 32, '0f00d0'],
    ['lmsw ax', 32, '0f01f0'],
    ['verw ax', 64, '0f00e8'],
    ['mov ds, ax', 64, '8ed8'],
    ['mov ds, eax', 64, '8ed8'],
    ['mov ds, eax', 16, '8ed8'],
    ['mov eax, ds', 32, '8cd8'],
    ['mov ax, ds', 32, '668cd8'],
    ['lar eax, cx', 64, '0f02c1'],
    ['mov cr3, rax', 64, '0f22d8'],
    ['mov cr8, rax', 64, '440f22c0'],
    ['mov eax, cr0', 16, '0f20c0'],
    ['mov dr7, eax', 32, '0f23f8'],
    ['iret', 16, 'cf'],
    ['iretd', 16, '66cf'],
    ['iretq', 64, '48cf'],
    ['retf', 32, 'cb'],
    ['lretq', 64, '48cb'],
    ['retfq 8', 64, '48ca0800'],
    ['sysretq', 64, '480f07'],
    ['sysret', 32, '0f07'],
    ['swapgs', 64, '0f01f8'],
    ['pushfq', 64, '9c'],
    ['pushf', 16, '9c'],
    ['popfd', 32, '9d'],
    ['jmp fword ptr [rax]', 64, 'ff28'],
    ['jmp far ptr [eax]', 32, 'ff28'],
    ['ljmp [rax]', 64, 'ff28'],
    ['rex.W ljmp [rax]', 64, '48ff28'],
    ['jmp dword ptr [bx]', 16, 'ff2f'],
    ['call 8:0x10', 16, '9a10000800'],
    ['invlpg [rax]', 64, '0f0138'],
    ['cmpxchg8b [rax]', 64, '0fc708'],
    ['lock cmpxchg16b [rax]', 64, 'f0480fc708'],
    ['vmrun rax', 64, '0f01d8'],
    ['vmrun eax', 64, '670f01d8'],
    ['monitor', 64, '0f01c8'],
    ['xlat', 64, 'd7'],
    ['aam', 32, 'd40a'],
    ['in al, dx', 64, 'ec'],
    ['out 0xf4, eax', 64, 'e7f4'],
    ['endbr64', 64, 'f30f1efa'],
    ['fninit', 64, 'dbe3'],
    ['fld st(1)', 64, 'd9c1'],
    ['faddp', 64, 'dec1'],
    ['fsubrp st(2)', 64, 'dee2'],
    ['fmul st(3)', 64, 'd8cb'],
    ['fxch', 64, 'd9c9'],
    ['fucomip st(2)', 64, 'dfea'],
    ['fcom', 64, 'd8d1'],
    ['movaps xmm0, [rax]', 64, '0f2800'],
    ['shlx eax, ebx, ecx', 64, 'c4e271f7c3'],
  ] as const)('%s in .code%i is %s', (source, bits, bytes) => {
    expect(bytesOf(source, bits)).toBe(bytes);
  });
});

describe('string instructions', () => {
  it.each([
    ['rep movsb', 64, 'f3a4'],
    ['rep stosd', 16, '66f3ab'],
    ['rep movsq', 64, 'f348a5'],
    ['rep\nmovsb', 64, 'f3a4'],
    ['repne scasb', 64, 'f2ae'],
    ['movs byte ptr es:[rdi], byte ptr fs:[rsi]', 64, '64a4'],
    ['movsd es:[edi], ds:[esi]', 16, '6766a5'],
    ['stos dword ptr es:[edi], eax', 64, '67ab'],
    ['outs dx, byte ptr [esi]', 64, '676e'],
    ['lodsb', 32, 'ac'],
    ['addr32 rep movsd', 16, '6766f3a5'],
    ['insd', 64, '6d'],
  ] as const)('%s in .code%i is %s', (source, bits, bytes) => {
    expect(bytesOf(source, bits)).toBe(bytes);
  });
});

describe('addresses', () => {
  it.each([
    ['mov eax, [rax]', '8b00'],
    ['mov eax, [rbp]', '8b4500'],
    ['mov eax, [r13]', '418b4500'],
    ['mov eax, [rsp]', '8b0424'],
    ['mov eax, [r12]', '418b0424'],
    ['mov eax, [rax+rsp]', '8b0404'],
    ['mov eax, [rax*2]', '8b044500000000'],
    ['mov eax, [rax][rbx*4+8]', '8b449808'],
    ['mov eax, 8[rax]', '8b4008'],
    ['mov eax, [rax-128]', '8b4080'],
    ['mov eax, [rax+128]', '8b8080000000'],
    ['mov eax, [eax+4]', '678b4004'],
    ['mov eax, fs:[0x10]', '648b042510000000'],
    ['mov eax, ds:[rbp]', '3e8b4500'],
    ['mov eax, ds:[rax]', '8b00'],
    ['mov eax, [rip+8]', '8b0508000000'],
    ['mov eax, qword ptr [rax]', ''],
    ['lea rax, [rip+here]; here:', '488d0500000000'],
    ['lea rax, here[rip]; here:', '488d0500000000'],
  ])('%s is %s', (source, bytes) => {
    if (bytes === '') expect(messageOf(source)).toBe('5: no form of "mov" takes eax, 64-bit memory');
    else expect(bytesOf(source)).toBe(bytes);
  });

  it('of 16 bits add bx or bp and si or di', () => {
    expect(bytesOf('mov ax, [si+bx+4]', 16)).toBe('8b4004');
    expect(bytesOf('mov ax, [bp]', 16)).toBe('8b4600');
    expect(bytesOf('mov ax, es:[di]', 16)).toBe('268b05');
    expect(messageOf('mov ax, [ax]', 16)).toBe('10: 16-bit addresses use bx, bp, si and di');
    expect(messageOf('mov ax, [bx+bp]', 16)).toBe('10: 16-bit addresses add bx or bp and si or di');
  });
});

describe('a bare symbol', () => {
  const prelude = '.equ constant, 0x10\nlabel:\n';

  it('is memory if it is a label, a number if it is a constant', () => {
    expect(bytesOf(`${prelude}mov eax, label`)).toBe('8b042500100000');
    expect(bytesOf(`${prelude}mov eax, offset label`)).toBe('b800100000');
    expect(bytesOf(`${prelude}mov eax, constant`)).toBe('b810000000');
    expect(bytesOf(`${prelude}mov eax, [constant]`)).toBe('8b042510000000');
    expect(bytesOf(`${prelude}push label`)).toBe('ff342500100000');
  });

  it('that is defined later is memory, a difference of such a number', () => {
    expect(bytesOf('mov eax, later\nlater = 5')).toBe('8b042505000000');
    expect(bytesOf('mov eax, b-a\na: nop\nb:')).toBe('b80100000090');
  });
});

describe('what is wrong', () => {
  it.each([
    ['vmcal', '1: unknown instruction "vmcal"; did you mean "vmcall"?'],
    ['zzzzzz', '1: unknown instruction "zzzzzz"'],
    ['mov eax', '1: "mov" takes 2 operands, not 1'],
    ['hlt 5', '1: "hlt" takes no operands, not 1'],
    ['mov eax, rbx', '5: no form of "mov" takes eax, rbx'],
    [
      'mov [rax], 5',
      '5: the size of the memory operand of "mov" is open: write byte ptr, word ptr, dword ptr or qword ptr',
    ],
    [
      'or [rax], 0xffffffff',
      '4: the size of the memory operand of "or" is open: write byte ptr, word ptr, dword ptr or qword ptr',
    ],
    ['mov al, 256', '9: 0x100 does not fit the operand of "mov"'],
    ['add rax, 0xfffffff0', '10: 0xfffffff0 does not fit the operand of "add"'],
    ['push 0x80000000', '6: 0x80000000 does not fit the operand of "push"'],
    [
      'mov ebx, [0xfee00300]',
      '10: displacement 0xfee00300 does not fit 32 bits sign-extended; load it into a register',
    ],
    ['mov eax, [rax+rbx+rcx]', '19: an address has at most two registers'],
    ['mov eax, [rax*3]', '14: a register can only be multiplied by 1, 2, 4 or 8'],
    ['mov eax, [rax-rbx]', '15: a register cannot be subtracted'],
    ['mov eax, [rsp*2]', '11: register rsp cannot be an index'],
    ['mov eax, [rax+ebx]', '15: the registers of an address must have one size'],
    ['mov eax, rax+5', '10: a sum with registers needs brackets'],
    ['mov eax, [rax', '14: expected "]" at the end of the statement'],
    ['mov eax, dword [rax]', '16: "dword" must be followed by "ptr"'],
    ['mov ah, sil', '1: "mov" cannot be encoded with these operands: '],
    ['push eax', '6: no form of "push" takes eax'],
    ['sysret', '1: "sysret" is ambiguous in 64-bit code: write sysretq to 64-bit or sysretd to 32-bit code'],
    ['lock mov [rax], eax', '6: "mov" takes no lock; as a statement of its own ("lock;") it goes anywhere'],
    ['rep add eax, 5', '5: "add" takes no rep; as a statement of its own ("rep;") it goes anywhere'],
    ['lock lock inc dword ptr [rax]', '6: prefix "lock" stands twice'],
    ['jmp short there; .skip 200; there:', '5: the target is 200 bytes away, too far for a displacement of 8 bits'],
    ['loop there; .skip 200; there:', '6: the target is 200 bytes away, too far for a displacement of 8 bits'],
    ['addr16 movsb', '8: addr16 does not exist in 64-bit code'],
    ['movs', '1: "movs" needs a size: write movsb, movsw or movsd, or operands'],
    ['daa', '1: "daa" exists only in .code16 and .code32 (this is .code64)'],
  ])('%s: one clear message', (source, message) => {
    expect(messageOf(source)).toContain(message);
  });

  it('names registers and instructions of other modes', () => {
    expect(messageOf('mov rax, 5', 32)).toBe('5: register rax exists only in 64-bit code (this is .code32)');
    expect(messageOf('swapgs', 16)).toBe('1: "swapgs" exists only in .code64 (this is .code16)');
    expect(messageOf('data32 nop', 32)).toBe('8: data32 is redundant in .code32');
  });
});
