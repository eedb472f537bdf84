import fc from 'fast-check';
import { expect, it } from 'vitest';
import { Bytes } from './bytes.ts';

const hex = (bytes: Bytes): string => Buffer.from(bytes.done()).toString('hex');

it('writes integers little-endian', () => {
  const bytes = new Bytes()
    .u8(1)
    .u16(0x203)
    .u32(0x4050607)
    .u64(0x8090a0b0c0d0e0fn)
    .u64(2 ** 40 + 5);
  expect(hex(bytes)).toBe('01030207060504' + '0f0e0d0c0b0a0908' + '0500000000010000');
});

it("writes signed integers of each size in two's complement", () => {
  const bytes = new Bytes().int(-1, 1).int(-2, 2).int(-3, 4).int(-4, 8).int(0xffff_ffff_ffff_fffbn, 8);
  expect(hex(bytes)).toBe('ff' + 'feff' + 'fdffffff' + 'fcffffffffffffff' + 'fbffffffffffffff');
});

it('writes text, strings with terminator, alignment and patches', () => {
  const bytes = new Bytes().text('é').cstring('ab').align(8).u64(0).u32(0);
  bytes.patchU64(8, 0x1122);
  bytes.patchU32(16, 0xfffffffe);
  expect(hex(bytes)).toBe('c3a9616200000000' + '2211000000000000' + 'feffffff');
  bytes.clear();
  expect(hex(bytes.u8(7).zeros(3))).toBe('07000000');
});

it('writes varints that read back as the same number, as bigint or number', () => {
  const read = (bytes: Uint8Array): bigint =>
    bytes.reduceRight((value, byte) => (value << 7n) | BigInt(byte & 0x7f), 0n);
  fc.assert(
    fc.property(fc.bigInt({ min: 0n, max: (1n << 64n) - 1n }), (value) => {
      const bytes = new Bytes().varint(value).done();
      expect(read(bytes)).toBe(value);
      expect([...bytes].map((byte) => byte >= 0x80)).toEqual([...bytes].map((_, i) => i < bytes.length - 1));
    }),
  );
  fc.assert(
    fc.property(fc.maxSafeNat(), (value) => {
      expect(new Bytes().varint(value).done()).toEqual(new Bytes().varint(BigInt(value)).done());
    }),
  );
});

it('grows at any write without losing what was written', () => {
  const bytes = new Bytes();
  for (let i = 0; i < 10_000; i++) bytes.u32(i);
  const view = new DataView(bytes.done().slice().buffer);
  expect(bytes.length).toBe(40_000);
  for (let i = 0; i < 10_000; i++) expect(view.getUint32(i * 4, true)).toBe(i);
});
