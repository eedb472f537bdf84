/** Runs the command line as a user does: a process of its own, from the checkout. */
import { spawnSync } from 'node:child_process';
import { mkdtempSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';

export const ROOT = join(dirname(fileURLToPath(import.meta.url)), '../..');
export const LAUNCHER = join(ROOT, 'scripts/kvmscope.js');

export interface Finished {
  readonly status: number | null;
  readonly stdout: string;
  readonly stderr: string;
}

/** `kvmscope …args` with the checkout as working directory. */
export function kvmscope(...args: string[]): Finished {
  const { status, stdout, stderr } = spawnSync(process.execPath, [LAUNCHER, ...args], {
    cwd: ROOT,
    encoding: 'utf8',
    maxBuffer: 1 << 28,
    env: { ...process.env, KVMSCOPE_DEBUG: '' },
  });
  return { status, stdout, stderr };
}

/** A file in a new temporary folder; returns its path. */
export function temporaryFile(name: string, content: string | Uint8Array): string {
  const path = join(mkdtempSync(join(tmpdir(), 'kvmscope-')), name);
  writeFileSync(path, content);
  return path;
}
