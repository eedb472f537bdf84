/**
 * QEMU with -accel tcg, a process of its own: a PC with our firmware. Its RAM is a file, so that requests and results can be read and
 * written; a write to the panic device pauses it, and time is that of the threads of the process.
 */
import { type ChildProcess, spawn, spawnSync } from 'node:child_process';
import {
  closeSync,
  ftruncateSync,
  mkdtempSync,
  openSync,
  readdirSync,
  readFileSync,
  readSync,
  rmSync,
  writeFileSync,
  writeSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { DONE_PORT, type Image, MEMORY, romOf } from '../workloads.ts';
import { type Engine, type Machine, NO_TRAP, wentAstray } from './engine.ts';

const PROGRAM = 'qemu-system-x86_64';
/** Milliseconds a run may take. */
const PATIENCE = 60_000;

/** CPU seconds of a process of Linux, by the scheduler's own count in nanoseconds. */
function processSeconds(pid: number): number {
  let sum = 0;
  for (const task of readdirSync(`/proc/${pid}/task`)) {
    try {
      sum += Number(readFileSync(`/proc/${pid}/task/${task}/schedstat`, 'utf8').split(' ')[0]);
    } catch {
      // A thread has ended meanwhile.
    }
  }
  return sum / 1e9;
}

/** QMP on the standard streams: one JSON object a line. */
class Monitor {
  readonly #child: ChildProcess;
  #text = '';
  readonly #answers: ((error: Error | undefined) => void)[] = [];
  #paused: ((error?: Error) => void) | undefined;

  constructor(child: ChildProcess) {
    this.#child = child;
    child.stdout?.on('data', (data: Buffer) => {
      this.#text += data.toString();
      const lines = this.#text.split('\n');
      this.#text = lines.pop() as string;
      for (const line of lines) this.#hear(JSON.parse(line));
    });
    child.on('error', (error) => this.#fail(error));
    child.on('exit', (status) => this.#fail(wentAstray(PROGRAM, `it ended with ${status}`)));
  }
  #hear(message: { event?: string; return?: unknown; error?: { desc: string } }): void {
    if (message.event === 'GUEST_PANICKED') this.#paused?.();
    else if (message.error) this.#answers.shift()?.(new Error(message.error.desc));
    else if (message.return !== undefined) this.#answers.shift()?.(undefined);
  }
  #fail(error: Error): void {
    for (const answer of this.#answers.splice(0)) answer(error);
    this.#paused?.(error);
  }
  command(execute: string): Promise<void> {
    return new Promise((resolve, reject) => {
      this.#answers.push((error) => (error ? reject(error) : resolve()));
      this.#child.stdin?.write(`${JSON.stringify({ execute })}\n`);
    });
  }
  /** The guest's next write to the panic device. */
  pause(): Promise<void> {
    return new Promise((resolve, reject) => {
      const timer = setTimeout(() => reject(wentAstray(PROGRAM, `nothing for ${PATIENCE} ms`)), PATIENCE).unref();
      this.#paused = (error) => {
        clearTimeout(timer);
        if (error) reject(error);
        else resolve();
      };
    });
  }
}

export async function openQemu(image: Image): Promise<Machine> {
  const folder = mkdtempSync(join(tmpdir(), 'kvmscope-bench-'));
  const rom = join(folder, 'rom');
  const ram = join(folder, 'ram');
  writeFileSync(rom, romOf(image));
  const file = openSync(ram, 'w+');
  ftruncateSync(file, MEMORY);
  const child = spawn(
    PROGRAM,
    [
      ...['-accel', 'tcg', '-machine', 'pc,memory-backend=ram', '-cpu', 'max', '-m', `${MEMORY >> 20}`],
      ...['-object', `memory-backend-file,id=ram,size=${MEMORY},mem-path=${ram},share=on`],
      ...['-nodefaults', '-no-user-config', '-display', 'none', '-bios', rom, '-qmp', 'stdio', '-S'],
      ...['-device', `pvpanic,ioport=${DONE_PORT}`, '-action', 'panic=pause'],
    ],
    { stdio: ['pipe', 'pipe', 'ignore'] },
  );
  const monitor = new Monitor(child);
  const cell = Buffer.alloc(4);
  // However this process ends: QEMU would go on without it.
  const cleanUp = (): void => {
    child.kill('SIGKILL');
    rmSync(folder, { recursive: true, force: true });
  };
  process.once('exit', cleanUp);
  const close = async (): Promise<void> => {
    const running = child.pid !== undefined && child.exitCode === null && child.signalCode === null;
    const ended = running && new Promise((resolve) => child.once('exit', resolve));
    cleanUp();
    await ended;
    closeSync(file);
    process.removeListener('exit', cleanUp);
  };
  const run = async (laps: number): Promise<number> => {
    cell.writeUInt32LE(laps);
    writeSync(file, cell, 0, 4, image.laps);
    const start = processSeconds(child.pid as number);
    const paused = monitor.pause();
    await Promise.all([monitor.command('cont'), paused]);
    return processSeconds(child.pid as number) - start;
  };
  try {
    await monitor.command('qmp_capabilities');
    await run(1);
  } catch (error) {
    await close();
    throw error;
  }
  return {
    run,
    result: () => {
      readSync(file, cell, 0, 4, image.result);
      return cell.readUInt32LE();
    },
    close,
  };
}

export function qemu(): Engine {
  const { error, stdout } = spawnSync(PROGRAM, ['--version'], { encoding: 'utf8' });
  const version = /version (\d+\.\d+)/.exec(stdout ?? '')?.[1] ?? '';
  return {
    ...{ name: 'qemu', title: `QEMU ${version} TCG`.replace('  ', ' '), bits: 64, open: openQemu },
    ...(error
      ? { missing: `${PROGRAM} is not installed` }
      : process.platform === 'linux'
        ? {}
        : { missing: 'needs the /proc of Linux' }),
    lacks: { vmcall: 'has no VMCALL', icr: 'has its x2APIC off', short: 'needs a disk for snapshots' },
    does: { cpuid: NO_TRAP },
  };
}
