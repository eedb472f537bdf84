/** A Redis or Valkey server of a test's own, on a Unix socket in a temporary folder. */
import { type ChildProcess, spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, rmSync } from 'node:fs';
import { createConnection } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

const NAMES = ['redis-server', 'valkey-server'];

/** The server program of this machine, or undefined. */
export const redisProgram = (): string | undefined =>
  NAMES.find((name) => spawnSync(name, ['--version'], { stdio: 'ignore' }).status === 0);

export class RedisServer {
  readonly folder = mkdtempSync(join(tmpdir(), 'kvmscope-redis-'));
  readonly url = `unix:${join(this.folder, 'socket')}`;
  #child: ChildProcess | undefined;

  async start(program: string): Promise<void> {
    const path = join(this.folder, 'socket');
    const options = ['--port', '0', '--unixsocket', path, '--dir', this.folder, '--save', '', '--appendonly', 'no'];
    this.#child = spawn(program, options, { stdio: ['ignore', 'pipe', 'inherit'] });
    let log = '';
    for await (const chunk of this.#child.stdout!.setEncoding('utf8')) {
      log += chunk;
      if (/ready to accept connections/i.test(log)) break;
    }
    if (!/ready to accept connections/i.test(log)) throw new Error(`${program} did not start:\n${log}`);
    const socket = createConnection(path);
    await once(socket, 'connect');
    socket.destroy();
  }

  /** Ends the server; its memory is gone. */
  async stop(): Promise<void> {
    const child = this.#child;
    this.#child = undefined;
    if (child === undefined || child.exitCode !== null) return;
    const closed = once(child, 'close');
    child.kill('SIGKILL');
    await closed;
  }

  async remove(): Promise<void> {
    await this.stop();
    rmSync(this.folder, { recursive: true, force: true });
  }
}
