/** Node.js processes that report what they used when they end. */
import { spawnSync } from 'node:child_process';
import { KvmscopeError } from '../../src/errors.ts';

export interface Used {
  /** CPU seconds of the process, from its start. */
  readonly cpu: number;
  /** Greatest resident memory in bytes. */
  readonly memory: number;
  readonly stdout: string;
}

const PATIENCE = 60_000;

/** Writes to file descriptor 3 at the end. */
const REPORT = `data:text/javascript,import{writeSync}from'node:fs';process.on('exit',()=>{const{userCPUTime:u,systemCPUTime:s,maxRSS:m}=process.resourceUsage();writeSync(3,JSON.stringify({cpu:(u+s)/1e6,memory:m*1024}))})`;

export function runNode(args: readonly string[], cwd: string): Used {
  const { error, status, stdout, stderr, output } = spawnSync(process.execPath, ['--import', REPORT, ...args], {
    cwd,
    encoding: 'utf8',
    stdio: ['ignore', 'pipe', 'pipe', 'pipe'],
    timeout: PATIENCE,
    env: { ...process.env, NO_COLOR: '1' },
  });
  if (error || status !== 0) {
    const why = error?.message ?? (stderr.trim().split('\n')[0] || `status ${status}`);
    throw new KvmscopeError('usage', `node ${args.join(' ')} in ${cwd} failed: ${why}`);
  }
  return { ...(JSON.parse((output as (string | null)[])[3] as string) as { cpu: number; memory: number }), stdout };
}
