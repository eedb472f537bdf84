/** SVG as PNG, through the optional packages @resvg/resvg-wasm and dejavu-fonts-ttf: no fonts of the machine are needed or used. */
import { readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import type { Resvg } from '@resvg/resvg-wasm';
import { KvmscopeError } from '../errors.ts';

const FONT = 'DejaVu Sans';
/** Pixels of the PNG for one of the SVG: sharp on dense screens and in print. */
const PIXELS = 2;

interface Renderer {
  readonly Resvg: typeof Resvg;
  readonly fonts: Uint8Array[];
}

let renderer: Promise<Renderer> | undefined;

async function load(): Promise<Renderer> {
  const { resolve } = createRequire(import.meta.url);
  try {
    const { initWasm, Resvg } = await import('@resvg/resvg-wasm');
    const fonts = ['DejaVuSans.ttf', 'DejaVuSans-Bold.ttf'].map((name) =>
      readFileSync(resolve(`dejavu-fonts-ttf/ttf/${name}`)),
    );
    await initWasm(readFileSync(resolve('@resvg/resvg-wasm/index_bg.wasm')));
    return { Resvg, fonts };
  } catch (error) {
    if (!/^(ERR_)?MODULE_NOT_FOUND$/.test((error as NodeJS.ErrnoException).code ?? '')) throw error;
    const packages = '@resvg/resvg-wasm dejavu-fonts-ttf';
    throw new KvmscopeError('engine', `a PNG needs the npm packages ${packages}: npm install ${packages}`);
  }
}

/** What draws SVG text as the bytes of a PNG file. Throws KvmscopeError('engine') if a package is missing. */
export async function pngRenderer(): Promise<(svg: string) => Uint8Array> {
  renderer ??= load();
  const { Resvg, fonts } = await renderer;
  return (svg) => {
    const font = { fontBuffers: fonts, defaultFontFamily: FONT, sansSerifFamily: FONT };
    const image = new Resvg(svg, { fitTo: { mode: 'zoom', value: PIXELS }, font });
    const png = image.render().asPng();
    image.free();
    return png;
  };
}
