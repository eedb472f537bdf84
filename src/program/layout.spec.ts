import { describe, expect, it } from 'vitest';
import { assemble } from './assembler.ts';
import { noOps } from './layout.ts';

const hex = (bytes: Uint8Array): string => Buffer.from(bytes).toString('hex');
const bytesOf = (source: string, bits: 16 | 32 | 64 = 64): string =>
  hex(assemble(source, { fileName: 't.S', bits }).bytes);

describe('jumps', () => {
  it('are short up to 127 bytes ahead and 128 bytes back', () => {
    expect(bytesOf('jmp a\n.skip 127\na:').slice(0, 4)).toBe('eb7f');
    expect(bytesOf('jmp a\n.skip 128\na:').slice(0, 10)).toBe('e980000000');
    expect(bytesOf('a: .skip 126\njmp a').slice(-4)).toBe('eb80');
    expect(bytesOf('a: .skip 127\njmp a').slice(-10)).toBe('e97cffffff');
    expect(bytesOf('jz a\n.skip 128\na:').slice(0, 12)).toBe('0f8480000000');
  });

  it('have 16-bit displacements in 16-bit code', () => {
    expect(bytesOf('jmp a\n.skip 128\na:', 16).slice(0, 6)).toBe('e98000');
    expect(bytesOf('jc a\n.skip 128\na:', 16).slice(0, 8)).toBe('0f828000');
    expect(bytesOf('data32 jmp a\n.skip 128\na:', 16).slice(0, 12)).toBe('66e980000000');
  });

  it('that grow push others over the limit', () => {
    // The first jump reaches its target only while the second is short.
    expect(bytesOf('jmp a\njmp b\n.skip 125\na: .skip 10\nb:').slice(0, 20)).toBe('e982000000e987000000');
  });

  it('to an absolute address, a weak symbol or by `call` are near', () => {
    expect(bytesOf('jmp 0x1005')).toBe('e900000000');
    expect(bytesOf('.weak a\njmp a\na:')).toBe('e900000000');
    expect(bytesOf('call a\na:')).toBe('e800000000');
  });
});

describe('alignment', () => {
  it('pads code with no-ops, data with zeros, either with a value', () => {
    expect(bytesOf('hlt\n.balign 8')).toBe('f40f1f8000000000');
    expect(bytesOf('hlt\n.balign 4, 0xcc')).toBe('f4cccccc');
    expect(bytesOf('.data\n.byte 1\n.balign 4')).toBe('01000000');
    expect(bytesOf('hlt\n.p2align 3, 0x90')).toBe('f40f1f8000000000');
  });

  it('is left out if it takes more than the limit', () => {
    expect(bytesOf('hlt\n.balign 16, 0, 3\ncli')).toBe('f4fa');
  });
});

describe('noOps', () => {
  it.each([
    [1, 64, '90'],
    [9, 64, '660f1f840000000000'],
    [13, 64, '66662e0f1f8400000000006690'],
    [5, 16, '8db4000090'],
    [12, 16, 'eb0a8db400008db400006690'],
  ] as const)('of %i bytes in .code%i', (count, bits, expected) => {
    expect(hex(noOps(count, bits))).toBe(expected);
  });

  it('of many bytes are jumped over', () => {
    expect(hex(noOps(88, 64)).slice(0, 4)).toBe('eb56');
    expect(hex(noOps(4000, 64)).slice(0, 10)).toBe('e99b0f0000');
    expect(hex(noOps(4000, 16)).slice(0, 12)).toBe('66e99a0f0000');
    expect(noOps(87, 32)[0]).not.toBe(0xeb);
  });
});
