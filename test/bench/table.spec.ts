/** The tables of a run, and the section of the README that is made of them. */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { ROOT } from '../cli/spawn.ts';
import { aims } from './aims.ts';
import { ALONE } from './alone.ts';
import type { EngineName } from './engines/engine.ts';
import type { Sample } from './measure.ts';
import type { Cell, Report } from './report.ts';
import { probes } from './start.ts';
import { BEGIN, END, gaps, markdown, splice, tables, text } from './table.ts';
import { WORKLOADS } from './workloads.ts';

const sample = (median: number): Sample => ({ median, min: median * 0.9, max: median * 1.1 });

const TITLES: Readonly<Record<EngineName, string>> = {
  interpreter: 'interpreter',
  jit: 'second tier',
  v86: 'v86',
  libunicorn: 'libunicorn',
  qemu: 'QEMU 7.2 TCG',
  unicornjs: 'unicorn.js',
};

/** A complete run in which everything took one second, on these engines. */
function made(names: readonly EngineName[]): Report {
  const engines = (Object.keys(TITLES) as EngineName[]).map((name) => {
    const engine = {
      ...{ name, title: TITLES[name], bits: 64 as const },
      lacks: name === 'v86' ? { vmcall: 'has no VMCALL', icr: 'has no x2APIC' } : {},
      does: name === 'v86' ? { cpuid: 'traps nothing', out: 'traps nothing' } : {},
    };
    return names.includes(name) ? engine : { ...engine, missing: 'is not installed' };
  });
  const here = engines.filter(({ name }) => names.includes(name));
  const cells = (workload: string): Partial<Record<EngineName, Cell>> => {
    const able = here.filter(({ lacks }) => !(workload in lacks)).map(({ name }) => name);
    const cell = (self: EngineName): Cell => ({
      value: sample(1),
      to: Object.fromEntries(able.filter((name) => name !== self).map((name) => [name, sample(1)])),
    });
    return Object.fromEntries(able.map((name) => [name, cell(name)]));
  };
  return {
    machine: { processor: 'A processor', cores: 2, platform: 'linux x64', node: 'v20.0.0' },
    rounds: 7,
    complete: true,
    engines,
    side: WORKLOADS.map(({ name, title, kind }) => ({ name, title, kind, steps: 1, result: 1, cells: cells(name) })),
    alone: ALONE.map(({ name, title, unit }) => ({ name, title, unit, value: sample(1) })),
    start: probes(
      here.map((engine) => ({ ...engine, open: () => Promise.reject() })),
      undefined,
    ).flatMap(({ rows }) => rows.map((row) => ({ ...row, value: sample(1) }))),
    failures: [],
  };
}

describe('tables', () => {
  const report = made(['interpreter', 'v86']);

  it('have a column for each engine that is here, and for each other one how it compares', () => {
    const [compute, trips] = tables(report);
    expect(compute.columns).toEqual(['', 'interpreter', 'v86', 'interpreter to v86']);
    expect(compute.rows[0]).toEqual(['ALU loop', '0.00 ±20 %', '0.00 ±20 %', '1.00 ×']);
    expect(trips.rows[0]).toEqual(['`vmcall`, PV IPI to one', '1,000,000,000 ±20 %', '–', '–']);
  });

  it('compare the second tier if there is one', () => {
    expect(tables(made(['interpreter', 'jit', 'qemu']))[0].columns).toEqual([
      ...['', 'interpreter', 'second tier', 'QEMU 7.2 TCG'],
      'second tier to QEMU 7.2 TCG',
    ]);
  });

  it('are left out if nothing in them was measured', () => {
    const partial = { ...report, complete: false, side: [], start: [] };
    expect(tables(partial).map(({ title }) => title)).toEqual(['kvmscope by itself', 'Aims']);
  });

  it('dashes are explained, and what is not the same work', () => {
    expect(gaps(report)).toEqual([
      'second tier is not in the tables (is not installed).',
      'v86 has no VMCALL (`vmcall`, PV IPI to one).',
      'v86 has no x2APIC (`wrmsr 0x830`, IPI to one).',
      'v86 traps nothing (`cpuid`; `out 0x80, al`).',
      'libunicorn is not in the tables (is not installed).',
      'QEMU 7.2 TCG is not in the tables (is not installed).',
      'unicorn.js is not in the tables (is not installed).',
      'Aims not measured: second tier to v86; second tier to QEMU TCG; interpreter to unicorn.js; first million instructions; ' +
        'round trip on unicorn.js to ours.',
    ]);
  });

  it('are aligned on a terminal', () => {
    const lines = text(report).split('\n');
    const [heading, first] = lines.slice(lines.indexOf('Million guest instructions a second') + 1);
    expect(heading.length).toBe(first.length);
    expect(lines.some((line) => line.includes('`'))).toBe(false);
  });
});

describe('aims', () => {
  it('that were not measured have no row', () => {
    const rows = tables(made(['interpreter']))[4].rows.map(([what]) => what);
    expect(rows[0]).toBe('`vmcall` round trip');
  });

  const one = (report: Report, what: string) => aims(report).find((aim) => aim.what === what);

  it('are met or not by the bound', () => {
    const report = made(['interpreter', 'v86', 'qemu', 'jit']);
    expect(one(report, 'second tier to v86, ALU loop')).toEqual({
      ...{ what: 'second tier to v86, ALU loop', wanted: '≥ 1.2 ×', measured: '1.00 ×', met: false },
    });
    expect(one(report, 'second tier to QEMU TCG, sieve')).toMatchObject({ wanted: '≥ 0.7 ×', met: true });
    expect(one(report, '`vmcall` round trip')).toMatchObject({ wanted: '≤ 150 ns', met: false });
  });

  it('say nothing of what was not measured', () => {
    expect(one(made(['interpreter']), 'second tier to v86, ALU loop')).toEqual({
      what: 'second tier to v86, ALU loop',
      wanted: '≥ 1.2 ×',
    });
  });
});

describe('the README', () => {
  const readme = readFileSync(join(ROOT, 'README.md'), 'utf8');
  /** Lines of tables without what a run measures: first cells, headings and the number of columns. */
  const shape = (section: string): string[] =>
    section
      .split('\n')
      .filter((line) => line.startsWith('|'))
      .map((line, n, lines) => {
        const cells = line.slice(2, -2).split(' | ');
        return /^\| -/.test(lines[n + 1] ?? '') ? line : [cells[0], ...cells.slice(1).map(() => '·')].join(' | ');
      });

  it('has a section with the shape that the generator makes', () => {
    const section = readme.slice(readme.indexOf(BEGIN), readme.indexOf(END));
    const names = (Object.keys(TITLES) as EngineName[]).filter((name) => section.includes(`| ${TITLES[name]} |`));
    expect(names).toContain('interpreter');
    expect(shape(section)).toEqual(shape(markdown(made(names))));
  });

  it('gets a new section between its marks and keeps everything else', () => {
    expect(splice(`a\n${BEGIN}\nold\n${END}\nb\n`, 'new')).toBe(`a\n${BEGIN}\n\nnew\n\n${END}\nb\n`);
    expect(() => splice('a\n', 'new')).toThrow('README.md lacks the lines');
  });
});
