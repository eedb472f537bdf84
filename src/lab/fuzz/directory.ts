/**
 * A campaign in a directory:
 *
 *     campaign.json     what the campaign is; never changes
 *     results.json      the tally of the finished blocks (tally.ts), canonical
 *     journal.jsonl     blocks that results.json does not hold yet: a checksum and a result per line, synced before a block counts
 *     corpus.txt        cases that reached something new, one a line
 *     find-NNN.S        a guest program that shows find NNN, .json what came out on each side, .txt the same in words
 *     lock-…            while a process writes
 *
 * corpus.txt and the finds are renderings of results.json. A directory whose writer has closed it, or that was opened again after its
 * writer had been killed, depends only on the campaign and the set of its finished blocks, byte for byte. Until then numbers of finds may
 * move as earlier blocks are finished.
 */
import * as fs from 'node:fs';
import { dirname, join } from 'node:path';
import { crc32 } from 'node:zlib';
import { KvmscopeError } from '../../errors.ts';
import { campaignId, canonical, canonicalText } from './canonical.ts';
import { type DirectoryLock, lockDirectory } from './lock.ts';
import {
  type Addition,
  addBlock,
  corpusOf,
  decodeTally,
  emptyTally,
  encodeTally,
  join as joinTally,
  NOTHING,
  numberedFinds,
  type Tally,
} from './tally.ts';
import type { BlockResult, Campaign, Find } from './types.ts';

const CAMPAIGN = 'campaign.json';
const RESULTS = 'results.json';
const JOURNAL = 'journal.jsonl';
const CORPUS = 'corpus.txt';
const TEMPORARY = '.tmp';
const FIND_FILE = /^find-\d+\.(S|json|txt)$/;

/** The journal is folded into the results when it is longer, in bytes. */
const JOURNAL_LIMIT = 16 << 20;

/** What is done to files, step by step: a test makes the steps fail. */
export interface FileSteps {
  /** Creates or replaces a file; with `sync`, waits until its bytes are on the disk. */
  write(path: string, text: string, sync: boolean): void;
  /** Appends to an open file and waits. */
  append(fd: number, text: string): void;
  rename(from: string, to: string): void;
  remove(path: string): void;
  /** Waits until the names in a folder are on the disk. */
  syncFolder(path: string): void;
}

function writeAll(fd: number, text: string): void {
  const bytes = Buffer.from(text);
  for (let at = 0; at < bytes.length; ) at += fs.writeSync(fd, bytes, at);
}

function withFile(path: string, flags: string, use: (fd: number) => void): void {
  const fd = fs.openSync(path, flags);
  try {
    use(fd);
  } finally {
    fs.closeSync(fd);
  }
}

export const realSteps: FileSteps = {
  write: (path, text, sync) =>
    withFile(path, 'w', (fd) => {
      writeAll(fd, text);
      if (sync) fs.fsyncSync(fd);
    }),
  append(fd, text) {
    writeAll(fd, text);
    fs.fdatasyncSync(fd);
  },
  rename: fs.renameSync,
  remove: (path) => fs.rmSync(path, { force: true }),
  syncFolder: (path) => withFile(path, 'r', fs.fsyncSync),
};

const readIfThere = (path: string): string | undefined => {
  try {
    return fs.readFileSync(path, 'utf8');
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return undefined;
    throw error;
  }
};

/** Failures of the file system as one line. */
function told<T>(dir: string, action: () => T): T {
  try {
    return action();
  } catch (error) {
    const { code, message } = error as NodeJS.ErrnoException;
    if (error instanceof KvmscopeError || code === undefined || !/^E[A-Z]+$/.test(code)) throw error;
    throw new KvmscopeError('campaign', `${dir} cannot be used: ${message}`);
  }
}

/**
 * Creates a folder and those above it; one that is there is fine. Node's own `recursive` never returns where a folder exists and nothing
 * can be created in it, as in /proc.
 */
export function makeFolder(dir: string): void {
  if (dir === '') throw new KvmscopeError('campaign', 'the name of a directory is empty');
  if (fs.statSync(dir, { throwIfNoEntry: false })?.isDirectory()) return;
  const above = dirname(dir);
  if (above !== dir) makeFolder(above);
  try {
    fs.mkdirSync(dir);
  } catch (error) {
    // Another process may have been faster.
    if ((error as NodeJS.ErrnoException).code !== 'EEXIST' || !fs.statSync(dir).isDirectory()) throw error;
  }
}

const journalLine = (text: string): string => `${crc32(text).toString(16).padStart(8, '0')} ${text}\n`;

/** The results in a journal. A line that was not written to its end does not count: its block is computed again. */
function readJournal(text: string | undefined): BlockResult[] {
  const results: BlockResult[] = [];
  for (const line of text?.split('\n') ?? []) {
    const body = line.slice(9);
    if (line !== '' && journalLine(body) === `${line}\n`) results.push(JSON.parse(body));
  }
  return results;
}

/** Longer values are not shown. */
const MOST_TEXT = 120;

/** Which fields of two campaigns differ, in words. */
function difference(here: Campaign, wanted: Campaign): string {
  const [a, b] = [here, wanted] as unknown as Record<string, unknown>[];
  const keys = [...new Set([...Object.keys(a), ...Object.keys(b)])].sort();
  const text = (value: unknown): string => (value === undefined ? 'none' : canonicalText(value));
  const parts = keys
    .filter((key) => text(a[key]) !== text(b[key]))
    .map((key) => {
      const [here, wanted] = [text(a[key]), text(b[key])];
      return here.length + wanted.length > MOST_TEXT ? `other ${key}` : `${key} ${here} instead of ${wanted}`;
    });
  return parts.join(', ');
}

function readCampaign(dir: string): Campaign | undefined {
  const path = join(dir, CAMPAIGN);
  const text = readIfThere(path);
  if (text === undefined) return undefined;
  try {
    const { kvmscope, campaign } = JSON.parse(text);
    if (kvmscope === 1 && typeof campaign?.kind === 'string') return campaign;
  } catch {
    // As below.
  }
  throw new KvmscopeError('campaign', `${path}: not a campaign`);
}

/** Results, and then what the journal has beyond them. The journal is read first: its writer may fold it meanwhile. */
function readTally(dir: string, id: string): { tally: Tally; journal: string | undefined } {
  const journal = readIfThere(join(dir, JOURNAL));
  const path = join(dir, RESULTS);
  const results = readIfThere(path);
  const tally = results === undefined ? emptyTally() : decodeTally(results, id, path);
  for (const result of readJournal(journal)) addBlock(tally, result);
  return { tally, journal };
}

export interface CampaignContents {
  readonly campaign: Campaign;
  readonly tally: Tally;
}

/** Reads a campaign directory without locking it; one that is being written yields what was finished a moment ago. */
export function readCampaignDirectory(dir: string): CampaignContents {
  return told(dir, () => {
    const campaign = readCampaign(dir);
    if (campaign === undefined)
      throw new KvmscopeError('not-found', `${dir} is no campaign directory (no ${CAMPAIGN})`);
    return { campaign, tally: readTally(dir, campaignId(campaign)).tally };
  });
}

export interface DirectoryOptions {
  readonly steps?: FileSteps;
  /** Bytes. */
  readonly journalLimit?: number;
}

/** A campaign directory that this process writes. */
export class CampaignDirectory {
  readonly dir: string;
  readonly campaign: Campaign;
  /** Read it, add to it by add(). */
  readonly tally: Tally;
  readonly #id: string;
  readonly #steps: FileSteps;
  readonly #limit: number;
  readonly #lock: DirectoryLock;
  #journal: number | undefined;
  #journalBytes = 0;
  /** The last append failed: there may be half a line. */
  #torn = false;
  /** What the find files contain. */
  readonly #rendered = new Map<string, string>();

  /**
   * Opens the directory of a campaign, or creates it; what a killed writer left is put in order. Throws KvmscopeError('campaign') if
   * it belongs to another campaign, is in use, or holds something else.
   */
  static open(dir: string, campaign: Campaign, options: DirectoryOptions = {}): CampaignDirectory {
    return told(dir, () => {
      makeFolder(dir);
      const lock = lockDirectory(dir);
      try {
        return new CampaignDirectory(dir, campaign, lock, options);
      } catch (error) {
        lock.release();
        throw error;
      }
    });
  }

  private constructor(dir: string, campaign: Campaign, lock: DirectoryLock, options: DirectoryOptions) {
    this.dir = dir;
    this.#lock = lock;
    this.#steps = options.steps ?? realSteps;
    this.#limit = options.journalLimit ?? JOURNAL_LIMIT;
    this.campaign = canonical(campaign) as Campaign;
    this.#id = campaignId(campaign);
    const names = fs.readdirSync(dir);
    const found = readCampaign(dir);
    if (found === undefined) {
      const other = names.find((name) => !name.startsWith('lock-') && !name.endsWith(TEMPORARY));
      if (other !== undefined)
        throw new KvmscopeError('campaign', `${dir} is no campaign directory and not empty (it has ${other})`);
      this.#replace(
        CAMPAIGN,
        `${JSON.stringify({ kvmscope: 1, id: this.#id, campaign: this.campaign }, null, 2)}\n`,
        true,
      );
    } else if (campaignId(found) !== this.#id) {
      throw new KvmscopeError('campaign', `${dir} belongs to another campaign: ${difference(found, this.campaign)}`);
    }
    for (const name of names) {
      if (name.endsWith(TEMPORARY)) this.#steps.remove(join(dir, name));
      else if (FIND_FILE.test(name)) this.#rendered.set(name, fs.readFileSync(join(dir, name), 'utf8'));
    }
    const { tally, journal } = readTally(dir, this.#id);
    this.tally = tally;
    if (journal !== undefined || !names.includes(RESULTS)) this.#fold();
    else this.#render();
  }

  /** Adds a finished block. When this returns, the block survives the death of the process and of the machine. */
  add(result: BlockResult): Addition {
    return told(this.dir, () => {
      if (this.tally.blocks.has(result.block)) return NOTHING;
      this.#lock.check();
      const line = journalLine(canonicalText(result));
      if (this.#journal === undefined) {
        this.#journal = fs.openSync(join(this.dir, JOURNAL), 'a');
        this.#steps.syncFolder(this.dir);
      }
      const torn = this.#torn;
      this.#torn = true;
      this.#steps.append(this.#journal, torn ? `\n${line}` : line);
      this.#torn = false;
      const addition = addBlock(this.tally, JSON.parse(line.slice(9)));
      this.#journalBytes += line.length;
      if (this.#journalBytes > this.#limit) this.#fold();
      else if (addition.finds.length > 0) this.#renderFinds();
      return addition;
    });
  }

  /** Joins the results of other blocks. */
  join(other: Tally): void {
    told(this.dir, () => {
      this.#lock.check();
      joinTally(this.tally, other);
      this.#fold();
    });
  }

  /** Folds the journal into the results, and lets others write. */
  close(): void {
    try {
      told(this.dir, () => {
        this.#lock.check();
        if (this.#journal !== undefined) this.#fold();
      });
    } finally {
      this.#lock.release();
    }
  }

  /** The results take the journal's place, in this order: whatever is cut short, every block is in one of them. */
  #fold(): void {
    this.#replace(RESULTS, encodeTally(this.tally, this.#id), true);
    if (this.#journal !== undefined) fs.closeSync(this.#journal);
    this.#journal = undefined;
    this.#journalBytes = 0;
    this.#steps.remove(join(this.dir, JOURNAL));
    this.#render();
  }

  #render(): void {
    this.#renderFinds();
    const text = corpusOf(this.tally)
      .map((line) => `${line}\n`)
      .join('');
    if (readIfThere(join(this.dir, CORPUS)) !== text) this.#replace(CORPUS, text);
  }

  #renderFinds(): void {
    const wanted = new Map<string, string>();
    numberedFinds(this.tally).forEach((find, index) => {
      const name = `find-${String(index + 1).padStart(3, '0')}`;
      for (const [ending, text] of Object.entries(renderFind(find, this.campaign)))
        wanted.set(`${name}.${ending}`, text);
    });
    for (const name of [...this.#rendered.keys()]) {
      if (wanted.has(name)) continue;
      this.#steps.remove(join(this.dir, name));
      this.#rendered.delete(name);
    }
    for (const [name, text] of wanted) {
      if (this.#rendered.get(name) === text) continue;
      this.#replace(name, text);
      this.#rendered.set(name, text);
    }
  }

  /** Replaces a file by one step that either happens or does not. What can be rendered again need not wait for the disk. */
  #replace(name: string, text: string, sync = false): void {
    const path = join(this.dir, name);
    this.#steps.write(path + TEMPORARY, text, sync);
    this.#steps.rename(path + TEMPORARY, path);
    if (sync) this.#steps.syncFolder(this.dir);
  }
}

/** The files of one find by their endings. */
export function renderFind(find: Find, campaign: Campaign): { S: string; json: string; txt: string } {
  const { program, words, ...rest } = find;
  const ended = (text: string): string => (text.endsWith('\n') ? text : `${text}\n`);
  const data = { kvmscope: 1, ...(canonical({ ...rest, campaign }) as object) };
  return { S: ended(program), json: `${JSON.stringify(data, null, 2)}\n`, txt: ended(words) };
}
