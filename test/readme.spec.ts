/**
 * The README is true: its transcripts are what the commands print, its library example runs, its tables name what exists.
 * `UPDATE_README=1 npx vitest run test/readme.spec.ts` writes current output into it. A line `[…]` in a transcript stands for any
 * lines left out; such a block is an excerpt and is edited by hand.
 */
import { spawnSync } from 'node:child_process';
import { existsSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { buildProgram } from '../src/cli/main.ts';
import { HEADER_KEYS, SUBJECTS } from '../src/program/header.ts';
import { noPaint } from '../src/trace/text.ts';
import { kvmscope, ROOT } from './cli/spawn.ts';

const PATH = join(ROOT, 'README.md');
const README = readFileSync(PATH, 'utf8');

interface Block {
  readonly language: string;
  readonly body: string;
}

const blocks: Block[] = [...README.matchAll(/^```(\w+)\n([\s\S]*?)^```$/gm)].map(([, language, body]) => ({
  language,
  body,
}));
const only = (language: string): Block => {
  const found = blocks.filter((block) => block.language === language);
  expect(found).toHaveLength(1);
  return found[0];
};

/** Compares a block with what it must say, or rewrites it. */
function holds(block: Block, actual: string): void {
  if (process.env.UPDATE_README) {
    const fence = `\`\`\`${block.language}\n`;
    writeFileSync(
      PATH,
      readFileSync(PATH, 'utf8').replace(`${fence}${block.body}\`\`\``, () => `${fence}${actual}\`\`\``),
    );
  } else {
    expect(block.body).toBe(actual);
  }
}

describe('transcripts', () => {
  const transcripts = blocks.filter((block) => block.language === 'console');

  it('there are some', () => {
    expect(transcripts.length).toBeGreaterThanOrEqual(2);
  });

  it.each(transcripts.map((block) => [block.body.split('\n')[0], block] as const))('%s', (command, block) => {
    const [dollar, npx, name, ...args] = command.split(' ');
    expect([dollar, npx, name]).toEqual(['$', 'npx', 'kvmscope']);
    const { status, stdout, stderr } = kvmscope(...args);
    expect(stderr).toBe('');
    expect(status).toBe(0);
    const output = stdout
      .split('\n')
      .map((line) => line.trimEnd())
      .join('\n')
      .trimEnd();
    const excerpt = block.body.split(/^\[…\]\n/m);
    if (excerpt.length === 1) return holds(block, `${command}\n${output}\n`);
    const whole = `${command}\n${output}\n`;
    let at = 0;
    excerpt.forEach((part, i) => {
      const found = whole.indexOf(part, at);
      expect(found === -1 ? `not in the output: ${part}` : '').toBe('');
      if (i === 0) expect(found).toBe(0);
      if (i === excerpt.length - 1 && part !== '') expect(found + part.length).toBe(whole.length);
      at = found + part.length;
    });
  });
});

describe('examples', () => {
  it('the guest program is the file', () => {
    holds(only('asm'), readFileSync(join(ROOT, 'guest/pv-ipi/send-to-three.S'), 'utf8'));
  });

  it('the library example prints what the README says', () => {
    const { stdout, stderr } = spawnSync(
      process.execPath,
      ['--import', 'tsx', '--input-type=module', '-e', only('js').body],
      { cwd: ROOT, encoding: 'utf8', env: { ...process.env, NO_COLOR: '1' } },
    );
    expect(stderr).toBe('');
    holds(only('text'), stdout);
  });

  it('the matcher example is a spec that runs here', () => {
    holds(only('ts'), readFileSync(join(ROOT, 'test/readme-example.spec.ts'), 'utf8'));
  });

  it('the JSON example has the fields that run prints, in its order', () => {
    const { stdout } = kvmscope('run', 'guest/pv-ipi/send-to-three.S', '--json');
    const real = JSON.parse(stdout);
    const shown = JSON.parse(only('json').body);
    expect(Object.keys(shown)).toEqual(Object.keys(real));
    expect(Object.keys(shown.runs[0])).toEqual(Object.keys(real.runs[0]));
    const realExit = { ...real.runs[0].exits[0], fastpath: shown.runs[0].exits[0].fastpath };
    expect(new Set(Object.keys(shown.runs[0].exits[0]))).toEqual(new Set(Object.keys(realExit)));
    expect(shown.kvmscope).toBe(real.kvmscope);
  });
});

describe('tables', () => {
  const quoted = new Set(
    [...README.matchAll(/`([^`\n]+)`/g)].flatMap(([, text]) => [text, ...text.split(/[\s=.[,]+/)]),
  );

  it('name every key a header may use and every subject of an expectation', () => {
    expect([...HEADER_KEYS, ...Object.keys(SUBJECTS)].filter((name) => !quoted.has(name))).toEqual([]);
  });

  it('name every command and option, and no others', () => {
    const silent = { width: 100, paint: noPaint, out: () => {}, err: () => {} };
    const commands = buildProgram(silent, () => {}).commands;
    const names = commands.map((command) => command.name());
    const mentioned = new Set([...README.matchAll(/`kvmscope (\w+)/g)].map(([, name]) => name));
    expect([...mentioned].sort()).toEqual([...names].sort());
    const all = commands.flatMap((command) => [command, ...command.commands]);
    const options = new Set(all.flatMap((command) => command.options.map((option) => option.long)));
    const shown = new Set([...README.matchAll(/`(--[a-z-]+)/g)].map(([, name]) => name));
    expect([...options].filter((option) => !shown.has(option as string))).toEqual([]);
    expect([...shown].filter((option) => !options.has(option))).toEqual([]);
  });

  it('name every folder of src and of the top', () => {
    const folders = readdirSync(join(ROOT, 'src'), { withFileTypes: true }).filter((entry) => entry.isDirectory());
    expect(folders.map(({ name }) => `src/${name}`).filter((name) => !quoted.has(name))).toEqual([]);
  });

  it('name files that exist', () => {
    const files = [...README.matchAll(/`((?:src|test|guest|scripts)\/[\w./-]+\.\w+)`/g)].map(([, path]) => path);
    expect(files.length).toBeGreaterThan(3);
    expect(files.filter((path) => !existsSync(join(ROOT, path)))).toEqual([]);
  });
});
