/**
 * Which code runs: the JavaScript in build/ that `npm run prepare` compiles src/ to, if it was made from exactly these sources; else src/
 * itself, through tsx, which takes three times as long to start. Plain JavaScript, since it decides how TypeScript is loaded.
 */
import { readdirSync, readFileSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';

export const ROOT = fileURLToPath(new URL('..', import.meta.url));

/** What build/ was compiled from, as `sources()` had it before; written last, so that it says that build/ is complete. */
export const stampOf = (/** @type {string} */ root) => join(root, 'build/sources.txt');

/**
 * What build/ is made from, a line each: path, time of the last change in ms, size in bytes. Equal lists are equal sources; a comparison
 * with the age of build/ would miss deleted and renamed files, and older ones that another branch or a copy brings.
 * @param {string} root
 */
export function sources(root) {
  /** @type {string[]} */
  const lines = [];
  const add = (/** @type {string} */ path) => {
    const { mtimeMs, size } = statSync(`${root}/${path}`);
    lines.push(`${path} ${mtimeMs} ${size}\n`);
  };
  // By itself, not `recursive`: that takes ten times as long.
  const walk = (/** @type {string} */ folder) => {
    for (const entry of readdirSync(`${root}/${folder}`, { withFileTypes: true })) {
      const path = `${folder}/${entry.name}`;
      if (entry.isDirectory()) walk(path);
      else if (path.endsWith('.ts') && !/\.(spec|fixture)\.ts$/.test(path)) add(path);
    }
  };
  walk('src');
  add('scripts/compile.js');
  return lines.sort().join('');
}

/**
 * Whether build/ holds what src/ would do.
 * @param {string} root of the checkout
 */
export function isFresh(root = ROOT) {
  try {
    return readFileSync(stampOf(root), 'utf8') === sources(root);
  } catch {
    return false;
  }
}

/**
 * A module of src/, named without its ending. A thread must load what its process has loaded: `compiled`.
 * @param {string} name
 */
export async function load(name, compiled = isFresh()) {
  if (!compiled) (await import('tsx/esm/api')).register();
  // Only stack traces need source maps, and reading those of all modules takes time.
  process.setSourceMapsEnabled(Boolean(process.env.KVMSCOPE_DEBUG));
  return import(compiled ? `../build/${name}.js` : `../src/${name}.ts`);
}
