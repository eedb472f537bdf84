import { mkdtempSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { noPaint } from '../trace/text.ts';
import { main } from './main.ts';

const RIGHT =
  '{"via":"KVM_SET_MSRS","from":0,"base":"wfs","icr":"0x100000031","gp":0,"rb":"0x100000031","ch":{"1":{"irr":[49]}}}';
const WRONG = RIGHT.replace('"irr":[49]', '"irr":[50],"nmi":1').replace('"gp":0', '"gp":1');
const META = '{"meta":{"config":"x2","kernel":"Linux 6.18.15","ids":[0,1]}}';

function recording(...lines: string[]): string {
  const path = join(mkdtempSync(join(tmpdir(), 'kvmscope-')), 'own.jsonl');
  writeFileSync(path, [META, ...lines].join('\n'));
  return path;
}

async function run(args: string[], errIsTerminal = false): Promise<{ code: number; out: string; err: string }> {
  const out: string[] = [];
  const err: string[] = [];
  const output = {
    width: 100,
    paint: noPaint,
    errIsTerminal,
    out: (text: string) => void out.push(text),
    err: (text: string) => void err.push(text),
  };
  const code = await main(['replay', ...args], output);
  return { code, out: out.join(''), err: err.join('') };
}

describe('kvmscope replay', () => {
  it('counts the cases of each file', async () => {
    const path = recording(RIGHT, RIGHT);
    expect(await run([path])).toEqual({
      code: 0,
      out: `✓ ${path}  2 cases\n\n1 recording: 2 cases, all agree (KVM 6.18)\n`,
      err: '',
    });
  });

  it('prints each mismatch in full and fails', async () => {
    const path = recording(RIGHT, WRONG);
    const { code, out } = await run([path, '--kvm', '6.12']);
    expect(code).toBe(1);
    expect(out.split('\n')).toEqual([
      `✗ ${path}  2 cases, 1 mismatch`,
      `    ${path}:3`,
      `      ${WRONG}`,
      '      gp        expected 1  actual 0',
      '      ch.1.irr  expected [50]  actual [49]',
      '      ch.1.nmi  expected 1  actual nothing',
      '',
      '1 recording: 2 cases, 1 differ (KVM 6.12)',
      '',
    ]);
  });

  it('--json holds the same', async () => {
    const path = recording(WRONG);
    const { code, out } = await run([path, '--json']);
    expect(code).toBe(1);
    const { seconds, ...report } = JSON.parse(out);
    expect(seconds).toBeGreaterThan(0);
    const differences = [
      { field: 'gp', expected: 1, actual: 0 },
      { field: 'ch.1.irr', expected: [50], actual: [49] },
      { field: 'ch.1.nmi', expected: 1, actual: null },
    ];
    const file = { path, config: 'x2', era: '6.18', vcpus: 2, cases: 1 };
    expect(report).toEqual({
      kvmscope: 1,
      command: 'replay',
      ok: false,
      cases: 1,
      mismatches: 1,
      files: [{ ...file, mismatches: [{ line: 2, case: JSON.parse(WRONG), differences }] }],
    });
  });

  it('draws progress where someone looks, and wipes it away', async () => {
    const { err } = await run([recording(...Array.from({ length: 600 }, () => RIGHT))], true);
    expect(err).toBe(
      `\r${'░'.repeat(30)} 0 %\r${'█'.repeat(13)}${'░'.repeat(17)} 42 %\r${'█'.repeat(26)}${'░'.repeat(4)} 85 %\r\u001b[K`,
    );
  });

  it('says in one line what is wrong with a file', async () => {
    const path = recording('{"icr":');
    const message = `kvmscope: ${path}:2: not JSON; a recording holds one JSON object per line\n`;
    expect(await run([path])).toEqual({ code: 2, out: '', err: message });
    expect(await run(['/no/such.jsonl'])).toEqual({
      code: 2,
      out: '',
      err: 'kvmscope: no such file or folder: /no/such.jsonl\n',
    });
  });
});
