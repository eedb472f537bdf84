/**
 * Compiles src/ to JavaScript in build/, for scripts/load.js. Runs at `npm ci` (prepare), after the core is built, and, as npm wants it,
 * when npx first links the checkout: so what is fresh is left alone. Without TypeScript (`npm ci --omit=dev`), src/ runs as it is.
 */
import { spawnSync } from 'node:child_process';
import { readdirSync, rmSync, writeFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { dirname, join, sep } from 'node:path';
import { isFresh, ROOT, sources, stampOf } from './load.js';

function compiler() {
  try {
    return join(dirname(createRequire(import.meta.url).resolve('typescript/package.json')), 'bin/tsc');
  } catch {
    return undefined;
  }
}

const tsc = compiler();
if (tsc === undefined || isFresh()) process.exit(0);

// Whatever happens from here on, build/ is not taken for complete before the end; a source that changes meanwhile makes it old.
rmSync(stampOf(ROOT), { force: true });
const made = sources(ROOT);
const modules = [...made.matchAll(/^src\/(\S+)\.ts /gm)].map(([, name]) => name);
const options = {
  target: 'es2022',
  module: 'nodenext',
  types: '',
  rootDir: 'src',
  outDir: 'build',
  rewriteRelativeImportExtensions: true,
  verbatimModuleSyntax: true,
  removeComments: true,
  sourceMap: true,
  // `npm run check` does.
  noCheck: true,
};
const { status } = spawnSync(
  process.execPath,
  [
    tsc,
    '--ignoreConfig',
    ...Object.entries(options).flatMap(([name, value]) => [`--${name}`, String(value)]),
    // The core is AssemblyScript; what of it is TypeScript too, others import.
    ...modules.filter((name) => !name.startsWith('cpu/core/')).map((name) => `src/${name}.ts`),
  ],
  { cwd: ROOT, stdio: 'inherit' },
);
if (status !== 0) process.exit(1);

// What sources that are gone have left behind must not answer an import that has no source any more.
const kept = new Set(modules.flatMap((name) => [`${name}.js`, `${name}.js.map`]));
for (const name of readdirSync(join(ROOT, 'build'), { recursive: true, encoding: 'utf8' })) {
  if (/\.js(\.map)?$/.test(name) && !kept.has(name.replaceAll(sep, '/'))) rmSync(join(ROOT, 'build', name));
}
writeFileSync(stampOf(ROOT), made);
