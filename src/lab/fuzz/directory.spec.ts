import { spawnSync } from 'node:child_process';
import {
  appendFileSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  utimesSync,
  writeFileSync,
  writeSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, describe, expect, it } from 'vitest';
import { CampaignDirectory, type FileSteps, readCampaignDirectory, realSteps } from './directory.ts';
import { fakeBlock, fakeCampaign } from './runner.fixture.ts';

const root = mkdtempSync(join(tmpdir(), 'kvmscope-directory-'));
afterAll(() => rmSync(root, { recursive: true }));
let count = 0;
const fresh = (): string => join(root, String(count++));

const campaign = fakeCampaign();
const contents = (dir: string): Record<string, string> =>
  Object.fromEntries(
    readdirSync(dir)
      .sort()
      .map((name) => [name, readFileSync(join(dir, name), 'utf8')]),
  );

/** Nothing here is about power failures: no waiting for the disk. */
const quickSteps: FileSteps = {
  ...realSteps,
  write: (path, text) => realSteps.write(path, text, false),
  append: (fd, text) => void writeSync(fd, text),
  syncFolder: () => {},
};

/** A directory with these blocks, written and closed. */
function written(blocks: Iterable<number>, dir = fresh()): string {
  const directory = CampaignDirectory.open(dir, campaign, { steps: quickSteps });
  for (const block of blocks) directory.add(fakeBlock(campaign, block));
  directory.close();
  return dir;
}

const upTo = (n: number): number[] => Array.from({ length: n }, (_, i) => i);
const done = (dir: string): number[] => [...readCampaignDirectory(dir).tally.blocks.keys()].sort((a, b) => a - b);

describe('a campaign directory', () => {
  it('has the campaign, the results, the corpus and the finds, and nothing else when it is closed', () => {
    const dir = written(upTo(3));
    const files = contents(dir);
    expect(Object.keys(files).filter((name) => !name.startsWith('find-'))).toEqual([
      'campaign.json',
      'corpus.txt',
      'results.json',
    ]);
    expect(Object.keys(files)).toContain('find-001.S');
    const [first] = [0, 1, 2].flatMap((block) => fakeBlock(campaign, block).finds).sort((a, b) => a.case - b.case);
    expect(files['find-001.S']).toBe(first.program);
    expect(files['find-001.txt']).toBe(`${first.words}\n`);
    expect(JSON.parse(files['find-001.json'])).toEqual({
      kvmscope: 1,
      signature: first.signature,
      block: first.block,
      case: first.case,
      input: first.input,
      outcomes: first.outcomes,
      campaign,
    });
    expect(JSON.parse(files['campaign.json']).campaign).toEqual(campaign);
  });

  it('is the same bytes whatever the order of its blocks and however often it was closed in between', () => {
    const whole = contents(written(upTo(20)));
    expect(contents(written(upTo(20).reverse()))).toEqual(whole);
    const dir = fresh();
    for (const part of [[13, 2, 19], [0, 1, 2, 13], upTo(20), []]) written(part, dir);
    expect(contents(dir)).toEqual(whole);
  });

  it('shows finds while it is written', () => {
    const dir = fresh();
    const directory = CampaignDirectory.open(dir, campaign);
    const block = upTo(50).find((n) => fakeBlock(campaign, n).finds.length > 0)!;
    expect(directory.add(fakeBlock(campaign, block)).finds.length).toBeGreaterThan(0);
    expect(existsSync(join(dir, 'find-001.S'))).toBe(true);
    expect(directory.add(fakeBlock(campaign, block)).added).toBe(false);
    directory.close();
  });

  it('can be read by others while it is written, folded journal or not', () => {
    const dir = fresh();
    const directory = CampaignDirectory.open(dir, campaign, { journalLimit: 2000 });
    for (const block of upTo(12)) {
      directory.add(fakeBlock(campaign, block));
      expect(done(dir)).toEqual(upTo(block + 1));
    }
    expect(readFileSync(join(dir, 'results.json'), 'utf8')).toContain('[0,');
    directory.close();
  });

  it('does not count lines of the journal that are damaged, and computes their blocks again', () => {
    const whole = contents(written(upTo(6)));
    const dir = fresh();
    CampaignDirectory.open(dir, campaign).close();
    const lines = fresh();
    const other = CampaignDirectory.open(lines, campaign);
    for (const block of upTo(5)) other.add(fakeBlock(campaign, block));
    const journal = readFileSync(join(lines, 'journal.jsonl'), 'utf8').split('\n');
    other.close();
    journal[1] = journal[1].replace('"cases":100', '"cases":101');
    journal[3] = journal[3].slice(0, 40);
    writeFileSync(join(dir, 'journal.jsonl'), `${journal.slice(0, 5).join('\n')}`);
    appendFileSync(join(dir, 'journal.jsonl'), '\0\0\0');
    expect(done(dir)).toEqual([0, 2]);
    expect(contents(written(upTo(6), dir))).toEqual(whole);
  });
});

/** Steps of which the n-th fails, a write half-way, and none works after it: the process is dead. */
function dyingSteps(n: number): { steps: FileSteps; died: () => boolean } {
  let left = n;
  const step = (half: () => void, whole: () => void): void => {
    if (left < 0) throw new Error('dead');
    if (left-- === 0) {
      half();
      throw new Error('dead');
    }
    whole();
  };
  const nothing = (): void => {};
  const steps: FileSteps = {
    write: (path, text, sync) =>
      step(
        () => quickSteps.write(path, text.slice(0, text.length / 2), false),
        () => quickSteps.write(path, text, sync),
      ),
    append: (fd, text) =>
      step(
        () => quickSteps.append(fd, text.slice(0, text.length / 2)),
        () => quickSteps.append(fd, text),
      ),
    rename: (from, to) => step(nothing, () => realSteps.rename(from, to)),
    remove: (path) => step(nothing, () => realSteps.remove(path)),
    syncFolder: (path) => step(nothing, () => quickSteps.syncFolder(path)),
  };
  return { steps, died: () => left < 0 };
}

describe('a writer that dies', () => {
  it('at any step whatever loses nothing that was finished, and the directory comes out the same', () => {
    const blocks = [3, 0, 5, 1, 2, 4];
    const whole = contents(written(blocks));
    let deaths = 0;
    for (let n = 0; ; n++) {
      const dir = fresh();
      const { steps, died } = dyingSteps(n);
      const finished: number[] = [];
      try {
        const directory = CampaignDirectory.open(dir, campaign, { steps, journalLimit: 1500 });
        for (const block of blocks) {
          directory.add(fakeBlock(campaign, block));
          finished.push(block);
        }
        directory.close();
      } catch (error) {
        expect((error as Error).message).toBe('dead');
      }
      for (const name of readdirSync(dir)) if (name.startsWith('lock-')) rmSync(join(dir, name));
      if (existsSync(join(dir, 'campaign.json'))) {
        const kept = done(dir);
        expect(finished.filter((block) => !kept.includes(block))).toEqual([]);
        expect(kept.length - finished.length).toBeLessThanOrEqual(1);
      } else {
        expect(finished).toEqual([]);
      }
      expect(contents(written(blocks, dir))).toEqual(whole);
      rmSync(dir, { recursive: true });
      if (!died()) break;
      deaths++;
    }
    expect(deaths).toBeGreaterThan(60);
  });

  it('of a full disk only, goes on when there is room again', () => {
    const dir = fresh();
    let full = false;
    const steps: FileSteps = {
      ...realSteps,
      append(fd, text) {
        if (!full) return realSteps.append(fd, text);
        realSteps.append(fd, text.slice(0, 30));
        throw Object.assign(new Error('ENOSPC: no space left on device, write'), { code: 'ENOSPC' });
      },
    };
    const directory = CampaignDirectory.open(dir, campaign, { steps });
    directory.add(fakeBlock(campaign, 0));
    full = true;
    expect(() => directory.add(fakeBlock(campaign, 1))).toThrow(`${dir} cannot be used: ENOSPC: no space left`);
    full = false;
    directory.add(fakeBlock(campaign, 2));
    expect(done(dir)).toEqual([0, 2]);
    directory.add(fakeBlock(campaign, 1));
    directory.close();
    expect(contents(dir)).toEqual(contents(written(upTo(3))));
  });
});

describe('a directory is refused in one line', () => {
  const openIt = (dir: string, wanted = campaign): void => CampaignDirectory.open(dir, wanted).close();

  it('if it belongs to another campaign', () => {
    const dir = written([1]);
    const before = contents(dir);
    expect(() => openIt(dir, { ...campaign, seed: 2, against: '5.4' })).toThrow(
      `${dir} belongs to another campaign: against none instead of "5.4", seed 1 instead of 2`,
    );
    expect(contents(dir)).toEqual(before);
  });

  it('if it holds something else', () => {
    const dir = fresh();
    mkdirSync(dir);
    writeFileSync(join(dir, 'find-001.S'), 'mine');
    expect(() => openIt(dir)).toThrow(`${dir} is no campaign directory and not empty (it has find-001.S)`);
    expect(contents(dir)).toEqual({ 'find-001.S': 'mine' });
    expect(() => readCampaignDirectory(dir)).toThrow(`${dir} is no campaign directory (no campaign.json)`);
    writeFileSync(join(dir, 'campaign.json'), '{"kvmscope": 2}');
    expect(() => openIt(dir)).toThrow(`${join(dir, 'campaign.json')}: not a campaign`);
  });

  it('if it is no directory', () => {
    const path = fresh();
    writeFileSync(path, '');
    expect(() => openIt(path)).toThrow(`${path} cannot be used: EEXIST`);
    expect(() => readCampaignDirectory(join(path, 'x'))).toThrow(/cannot be used: ENOTDIR/);
  });

  it('if it has no name, or nothing can be created where it should be', () => {
    expect(() => openIt('')).toThrow('the name of a directory is empty');
    expect(() => openIt('/proc/campaign')).toThrow(/^\/proc\/campaign cannot be used: E[A-Z]+/);
  });

  it('while this or another living process writes it', () => {
    const dir = fresh();
    const directory = CampaignDirectory.open(dir, campaign);
    expect(() => openIt(dir)).toThrow(`${dir} is in use by this process already`);
    const [own] = readdirSync(dir).filter((name) => name.startsWith('lock-'));
    directory.close();
    const [, space] = own.split('-');
    const stat = readFileSync(`/proc/${process.ppid}/stat`, 'latin1');
    const start = stat.slice(stat.lastIndexOf(')') + 2).split(' ')[19];
    const parent = join(dir, `lock-${space}-${process.ppid}-${start}`);
    writeFileSync(parent, '');
    expect(() => openIt(dir)).toThrow(`${dir} is in use by process ${process.ppid}`);
    expect(readdirSync(dir).filter((name) => name.startsWith('lock-'))).toHaveLength(1);
    rmSync(parent);
    openIt(dir);
  });

  it('but not when the writer is dead: of another start, of no process, or silent on another machine', () => {
    const dir = fresh();
    const directory = CampaignDirectory.open(dir, campaign);
    const [own] = readdirSync(dir).filter((name) => name.startsWith('lock-'));
    directory.close();
    const [, space] = own.split('-');
    const gone = spawnSync(process.execPath, ['-e', '']).pid;
    writeFileSync(join(dir, `lock-${space}-${process.ppid}-1`), '');
    writeFileSync(join(dir, `lock-${space}-${gone}-12345`), '');
    const far = join(dir, 'lock-0123456789ab-1-77');
    writeFileSync(far, '');
    expect(() => openIt(dir)).toThrow(
      `${dir} is in use by a process of another machine or container (lock-0123456789ab-1-77)`,
    );
    const old = new Date(Date.now() - 120_000);
    utimesSync(far, old, old);
    openIt(dir);
    expect(readdirSync(dir).filter((name) => name.startsWith('lock-'))).toEqual([]);
  });

  it('if another process took it over', () => {
    const dir = fresh();
    const directory = CampaignDirectory.open(dir, campaign);
    directory.add(fakeBlock(campaign, 0));
    for (const name of readdirSync(dir)) if (name.startsWith('lock-')) rmSync(join(dir, name));
    expect(() => directory.add(fakeBlock(campaign, 1))).toThrow(`${dir} was taken over by another process`);
    expect(() => directory.close()).toThrow(`${dir} was taken over by another process`);
    expect(done(dir)).toEqual([0]);
  });
});
