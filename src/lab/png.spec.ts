/** Text drawn with fonts that come along. */
import { inflateSync } from 'node:zlib';
import { describe, expect, it, vi } from 'vitest';
import { pngRenderer } from './png.ts';

/** How many bytes of a PNG's lines, still filtered, are not zero: 0 for an image without content. */
function content(png: Uint8Array): number {
  const bytes = Buffer.from(png);
  const line = 1 + 4 * bytes.readUInt32BE(16);
  const parts: Buffer[] = [];
  for (let at = 8; at < bytes.length; at += 12 + bytes.readUInt32BE(at)) {
    const type = bytes.toString('latin1', at + 4, at + 8);
    if (type === 'IDAT') parts.push(bytes.subarray(at + 8, at + 8 + bytes.readUInt32BE(at)));
  }
  return inflateSync(Buffer.concat(parts)).filter((byte, i) => i % line !== 0 && byte !== 0).length;
}

const svg = (text: string): string =>
  `<svg xmlns="http://www.w3.org/2000/svg" width="40" height="20"><text x="2" y="15" style="font:12px sans-serif">${text}</text></svg>`;

describe('pngRenderer', () => {
  it('draws letters, Greek ones too', async () => {
    const draw = await pngRenderer();
    const drawn = (text: string): number => content(draw(svg(text)));
    expect(drawn(' ')).toBe(0);
    expect(drawn('s')).toBeGreaterThan(50);
    expect(drawn('µs')).toBeGreaterThan(drawn('s') + 50);
  });

  it('says in one line which packages are missing', async () => {
    vi.resetModules();
    const resolve = (): never => {
      throw Object.assign(new Error('Cannot find module'), { code: 'MODULE_NOT_FOUND' });
    };
    vi.doMock('node:module', () => ({ createRequire: () => ({ resolve }) }));
    const { pngRenderer: without } = await import('./png.ts');
    await expect(without()).rejects.toThrow(
      /^a PNG needs the npm packages @resvg\/resvg-wasm dejavu-fonts-ttf: npm install @resvg\/resvg-wasm dejavu-fonts-ttf$/,
    );
    vi.doUnmock('node:module');
  });
});
