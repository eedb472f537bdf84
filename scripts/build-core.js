#!/usr/bin/env node
// Compiles the AssemblyScript core (src/cpu/core) to build/core.wasm. Runs at `npm ci` (prepare).
import { mkdirSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import asc from 'assemblyscript/asc';

const root = join(dirname(fileURLToPath(import.meta.url)), '..');
const build = join(root, 'build');
mkdirSync(build, { recursive: true });
const debug = process.argv.includes('--debug');
const { error } = await asc.main(
  [
    'src/cpu/core/index.ts',
    '--baseDir', root,
    '--outFile', 'build/core.wasm',
    '--runtime', 'stub',
    '--importMemory',
    '--noAssert',
    '--noExportMemory',
    ...(debug ? ['-O1', '--textFile', 'build/core.wat', '--debug'] : ['-O3', '--converge']),
  ],
  { stdout: process.stdout, stderr: process.stderr },
);
if (error) {
  console.error(`build-core: ${error.message}`);
  process.exit(1);
}
