import { describe, expect, it } from 'vitest';
import { isMultiboot, loadMultiboot } from './multiboot.ts';

const MAGIC = 0x1badb002;
const MEMORY = 16 * 2 ** 20;

/** A file with a header that gives addresses (flag 16): loaded to 0x100000 as a whole, `bss` bytes behind it, entry at 0x100030. */
function image(flags = 1 << 16, bss = 0): Uint8Array {
  const bytes = new Uint8Array(64).fill(0x90);
  const view = new DataView(bytes.buffer);
  const load = 0x100000;
  [MAGIC, flags, -(MAGIC + flags), load + 4, load, load + 64, bss === 0 ? 0 : load + 64 + bss, load + 0x30].forEach(
    (word, i) => {
      view.setUint32(4 + 4 * i, word >>> 0, true);
    },
  );
  return bytes;
}

const text = (bytes: Uint8Array, from: number): string => {
  const rest = bytes.subarray(from);
  return new TextDecoder().decode(rest.subarray(0, rest.indexOf(0)));
};

describe('a Multiboot image', () => {
  it('is known by its header within the first 8 KiB', () => {
    expect(isMultiboot(image())).toBe(true);
    const late = new Uint8Array(8300);
    late.set(image(), 8192);
    expect(isMultiboot(late)).toBe(false);
    const broken = image();
    broken[12] ^= 1;
    expect(isMultiboot(broken)).toBe(false);
  });

  it('is placed where its header says, with zeros behind it', () => {
    const { segments, entry } = loadMultiboot(image(undefined, 32), 'x', { memory: MEMORY });
    expect(entry).toBe(0x100030);
    expect(segments[0].address).toBe(0x100000);
    expect(segments[0].bytes.length).toBe(96);
    expect([...segments[0].bytes.subarray(62, 66)]).toEqual([0x90, 0x90, 0, 0]);
  });

  it('gets name and arguments, memory sizes, a memory map and its module', () => {
    const initrd = new TextEncoder().encode('NR_CPUS=2\n');
    const loaded = loadMultiboot(image(), 'x.flat', { memory: MEMORY, append: 'one two', initrd });
    const at = loaded.segments.findIndex(({ address }) => address === loaded.info);
    const block = loaded.segments[at].bytes;
    const view = new DataView(block.buffer, block.byteOffset, block.byteLength);
    const word = (offset: number): number => view.getUint32(offset, true);
    expect(word(0)).toBe((1 << 0) | (1 << 2) | (1 << 3) | (1 << 6) | (1 << 9));
    expect([word(4), word(8)]).toEqual([639, 15 * 1024]);
    expect(text(block, word(16) - loaded.info)).toBe('x.flat one two');
    expect(text(block, word(64) - loaded.info)).toBe('kvmscope');
    const map = word(48) - loaded.info;
    const ranges = Array.from({ length: word(44) / 24 }, (_, i) =>
      [4, 12, 20].map((field) => word(map + 24 * i + field)),
    );
    expect(ranges).toEqual([
      [0, 0x9fc00, 1],
      [0x9fc00, 0x400, 2],
      [0xe0000, 0x20000, 2],
      [0x100000, 0xf00000, 1],
    ]);
    const module = word(24) - loaded.info;
    expect([word(20), word(module), word(module + 4)]).toEqual([1, 0x101000, 0x101000 + initrd.length]);
    expect(loaded.segments.find(({ address }) => address === 0x101000)?.bytes).toEqual(initrd);
  });

  it.each<[string, () => unknown, string]>([
    ['without a header', () => loadMultiboot(new Uint8Array(100), 'x', { memory: MEMORY }), 'x: no Multiboot header'],
    [
      'with requirements that are not known',
      () => loadMultiboot(image((1 << 16) | 4), 'x', { memory: MEMORY }),
      'flags 0x10004',
    ],
    ['that is neither ELF nor gives addresses', () => loadMultiboot(image(0), 'x', { memory: MEMORY }), 'no ELF file'],
    [
      'whose entry point lies elsewhere',
      () => {
        const bytes = image();
        new DataView(bytes.buffer).setUint32(32, 0xfffffff0, true);
        return loadMultiboot(bytes, 'x', { memory: MEMORY });
      },
      'x: its entry point 0xfffffff0 is not in the image',
    ],
    [
      'over the loader’s tables',
      () => {
        const bytes = image();
        const view = new DataView(bytes.buffer);
        for (const at of [16, 20, 32]) view.setUint32(at, view.getUint32(at, true) - 0x100000 + 0x9dff8, true);
        for (const at of [24, 28]) view.setUint32(at, 0, true);
        return loadMultiboot(bytes, 'x', { memory: MEMORY });
      },
      'x: it covers 0x9e000…0xfffff',
    ],
    [
      'larger than RAM',
      () => loadMultiboot(image(undefined, 2 ** 24), 'x', { memory: MEMORY }),
      'give the machine more with --mem',
    ],
    [
      'with a module larger than RAM',
      () => loadMultiboot(image(), 'x', { memory: 2 ** 21, initrd: new Uint8Array(2 ** 21) }),
      'the initrd of 2097152 bytes does not fit',
    ],
    [
      'with endless arguments',
      () => loadMultiboot(image(), 'x', { memory: MEMORY, append: 'a'.repeat(5000) }),
      'too long',
    ],
  ])('%s is one clear error', (_, load, message) => {
    expect(load).toThrow(message);
  });
});
