/**
 * One writer per directory. Every process that wants to write puts a file of its own into the directory, whose name says who it is, and
 * then looks for others: whoever finds the file of a living process withdraws its own. Two that come at once may both withdraw, never
 * both stay. Files of dead processes are removed; no name is ever used twice, so nobody's file is removed by mistake.
 *
 * Whether a process is alive is known where its process id means something: in the same boot and pid namespace. Elsewhere (a shared file
 * system) a lock counts as dead when its holder has not touched it for a minute.
 */
import { createHash } from 'node:crypto';
import { closeSync, openSync, readdirSync, readFileSync, readlinkSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { hostname } from 'node:os';
import { join } from 'node:path';
import { KvmscopeError } from '../../errors.ts';

export interface DirectoryLock {
  /** Throws if the lock was taken over, as by another machine while this process was stopped. */
  check(): void;
  release(): void;
}

const PREFIX = 'lock-';
const TOUCH_MS = 10_000;
const DEAD_MS = 60_000;

/** What a lock file's name says: `lock-SPACE-PID-START`. */
interface Holder {
  /** Where the process id means something. */
  readonly space: string;
  readonly pid: number;
  /** When the process started, in clock ticks since boot: process ids come again. 0: unknown. */
  readonly start: string;
}

const readOr = (read: () => string, otherwise: string): string => {
  try {
    return read();
  } catch {
    return otherwise;
  }
};

/** Field 22 of /proc/PID/stat; the second field may contain blanks and parentheses. */
function startOf(pid: number): string {
  const stat = readOr(() => readFileSync(`/proc/${pid}/stat`, 'latin1'), '');
  return stat.slice(stat.lastIndexOf(')') + 2).split(' ')[19] ?? '0';
}

function self(): Holder {
  const boot = readOr(() => readFileSync('/proc/sys/kernel/random/boot_id', 'latin1'), hostname());
  const pids = readOr(() => readlinkSync('/proc/self/ns/pid'), '');
  const space = createHash('sha256').update(`${boot}${pids}`).digest('hex').slice(0, 12);
  return { space, pid: process.pid, start: startOf(process.pid) };
}

function parse(name: string): Holder | undefined {
  const [, space, pid, start] = /^lock-([0-9a-f]{12})-(\d+)-(\d+)$/.exec(name) ?? [];
  return space === undefined ? undefined : { space, pid: Number(pid), start };
}

function running({ pid, start }: Holder): boolean {
  try {
    process.kill(pid, 0);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ESRCH') return false;
  }
  const now = startOf(pid);
  return now === '0' || start === '0' || now === start;
}

/** Takes the lock, or throws KvmscopeError('campaign') if a living process has it. The directory must exist. */
export function lockDirectory(dir: string): DirectoryLock {
  const me = self();
  const own = `${PREFIX}${me.space}-${me.pid}-${me.start}`;
  const path = join(dir, own);
  try {
    closeSync(openSync(path, 'wx'));
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'EEXIST') throw error;
    throw new KvmscopeError('campaign', `${dir} is in use by this process already`);
  }
  // Both times are the file system's own: the clocks of machines need not agree.
  const now = statSync(path).mtimeMs;
  for (const name of readdirSync(dir)) {
    const holder = name === own ? undefined : parse(name);
    if (holder === undefined) continue;
    const here = holder.space === me.space;
    const touched = statSync(join(dir, name), { throwIfNoEntry: false })?.mtimeMs;
    const alive = touched !== undefined && (here ? running(holder) : now - touched < DEAD_MS);
    if (alive) {
      rmSync(path, { force: true });
      const where = here ? `process ${holder.pid}` : `a process of another machine or container (${name})`;
      throw new KvmscopeError('campaign', `${dir} is in use by ${where}`);
    }
    rmSync(join(dir, name), { force: true });
  }
  const timer = setInterval(() => {
    try {
      // A write sets the file system's time; r+ creates nothing if the file is gone.
      writeFileSync(path, '.', { flag: 'r+' });
    } catch {
      // check() tells.
    }
  }, TOUCH_MS);
  timer.unref();
  return {
    check() {
      if (statSync(path, { throwIfNoEntry: false }) === undefined)
        throw new KvmscopeError('campaign', `${dir} was taken over by another process`);
    },
    release() {
      clearInterval(timer);
      rmSync(path, { force: true });
    },
  };
}
