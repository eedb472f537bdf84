/** `kvmscope run FILE --kvm OLD --kvm NEW`: one report for both, the expectations of each version, exit codes, JSON. */
import { describe, expect, it } from 'vitest';
import { main } from '../../src/cli/main.ts';
import { noPaint } from '../../src/trace/text.ts';
import { temporaryFile } from './spawn.ts';

const PROGRAM = 'guest/icr/reserved-bits.S';

async function command(width: number, ...args: string[]) {
  const text = { out: '', err: '' };
  const status = await main(args, {
    width,
    paint: noPaint,
    out: (chunk) => {
      text.out += chunk;
    },
    err: (chunk) => {
      text.err += chunk;
    },
  });
  return { status, ...text };
}

describe('two versions in one call', () => {
  it('stand side by side under one heading, each with its own expectations', async () => {
    const { status, out, err } = await command(100, 'run', PROGRAM, '--kvm', '6.11', '--kvm', '6.12');
    expect([status, err]).toEqual([0, '']);
    expect(out).toContain('KVM 6.11 and 6.12 on Intel, 2 vCPUs, long64, seed 1\n');
    expect(out).toMatch(/^≠ ✓ reports = \[0\] +│ ✓ reports = \[15\]$/m);
    expect(out).toMatch(/^≠ IRR \{0x20, 0x30\} +│ IRR \{0x20\}$/m);
    expect(out).toMatch(/^≠ \d+ rows of \d+ differ\n$/m);
  });

  it('stand one below the other in 80 columns', async () => {
    const { out } = await command(80, 'run', PROGRAM, '--kvm', '6.11,6.12');
    expect(out).toContain('\n≠ 6.11 IRR {0x20, 0x30}\n≠ 6.12 IRR {0x20}\n');
    expect(out.split('\n').every((line) => line.length <= 80)).toBe(true);
  });

  it('--trace compares the traces instead of the exits', async () => {
    const { out } = await command(100, 'run', PROGRAM, '--kvm', '6.11', '--kvm', '6.12', '--trace');
    expect(out).toMatch(/^trace$/m);

    expect(out).not.toMatch(/^#1 /m);
  });

  it('a header that asks for another version is mentioned by name', async () => {
    const { out } = await command(100, 'run', 'guest/fastpath/shorthand-self.S', '--kvm', '5.5', '--kvm', '5.6');
    expect(out).toMatch(/^note: the program's header asks for KVM .*, which 5\.5 is not$/m);
  });

  it('exit code 1 and one line per version whose expectations fail, after the report', async () => {
    const file = temporaryFile(
      'x.S',
      '# Title.\n# mode: long64\n# expect[kvm>=6.12]: rax = 1\n# expect: rbx = 0\nhlt\n',
    );
    const { status, out, err } = await command(100, 'run', file, '--kvm', '6.11', '--kvm', '6.12');
    expect(status).toBe(1);
    expect(err).toBe(`kvmscope: ${file} on KVM 6.12: 1 of 2 expectations does not hold\n`);
    expect(out).toMatch(/^≠ · +│ ✗ rax = 1$/m);
  });

  it('--json has both runs with their expectations', async () => {
    const { status, out } = await command(100, 'run', PROGRAM, '--kvm', '6.11', '--kvm', '6.12', '--json');
    const { ok, runs } = JSON.parse(out);
    expect([status, ok]).toEqual([0, true]);
    expect(runs.map((run: { era: string; pass: boolean }) => [run.era, run.pass])).toEqual([
      ['6.11', true],
      ['6.12', true],
    ]);
    expect(runs[1].expectations[0].text).toBe('reports = [15]');
  });

  it('three versions are reports one after the other', async () => {
    const { out } = await command(100, 'run', PROGRAM, '--kvm', '5.6,6.11,6.12');
    expect(out.match(/^KVM [\d.]+ on Intel/gm)).toHaveLength(3);
    expect(out).not.toContain('│');
  });
});
