/** `kvmscope fuzz race` as it is called. */
import { mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, describe, expect, it } from 'vitest';
import { main } from '../../src/cli/main.ts';
import { noPaint } from '../../src/trace/text.ts';
import { kvmscope } from './spawn.ts';

const LOST = 'guest/race/lost-wakeup.S';
const folder = mkdtempSync(join(tmpdir(), 'kvmscope-race-'));
afterAll(() => rmSync(folder, { recursive: true }));

describe('fuzz race FILE', () => {
  it('writes the schedule that fails and the program that shows it', () => {
    const dir = join(folder, 'finds');
    const { status, stdout } = kvmscope('fuzz', 'race', LOST, '--kvm', '6.18', '--dir', dir);
    expect(status).toBe(1);
    expect(stdout.split('\n').slice(2, 6)).toEqual([
      'KVM 6.18 on Intel, 2 vCPUs',
      '',
      'every interleaving',
      '14 executions of up to 38 steps, 12 states with a choice, 8 different ends',
    ]);
    expect(stdout).toContain('✗ find-001  --schedule 1*8\n  vcpu[1].rbx = 1: expected 1, actual 0\n');
    expect(readdirSync(dir).sort()).toEqual(['find-001.S', 'find-001.json']);
    expect(JSON.parse(readFileSync(join(dir, 'find-001.json'), 'utf8'))).toMatchObject({
      kind: 'expectation',
      schedule: '1*8',
      kvm: '6.18',
      path: LOST,
    });
    const program = join(dir, 'find-001.S');
    expect(kvmscope('run', program).status).toBe(1);
    expect(kvmscope('run', program, '--schedule', '0*20').status).toBe(0);
    expect(kvmscope('run', LOST, '--schedule', '1*8').status).toBe(1);
  });

  it('is content with a program that holds, and prints JSON', () => {
    const { status, stdout } = kvmscope(
      'fuzz',
      'race',
      'guest/race/wakeup.S',
      '--json',
      '--bound',
      '2',
      '--runs',
      '50',
    );
    expect(status).toBe(0);
    expect(JSON.parse(stdout)).toMatchObject({
      ...{ kvmscope: 1, command: 'fuzz', ok: true, vcpus: 2, finds: [], complete: false, preemptions: 2 },
    });
  });

  it.each([
    [['missing.S'], 'no such file: missing.S'],
    [[LOST, '--jobs', '2'], '--jobs is for campaigns; one program is searched by one thread'],
    [[LOST, '--kvm', '9.9'], "unknown KVM era '9.9'"],
    [[LOST, '--runs', '0'], '--runs must be a whole number from 1 to 1000000000, not 0'],
    [[LOST, '--executions', '0'], '--executions must be a whole number from 1 to 1000000000, not 0'],
    [[LOST, '--executions', '1', '--runs', '1'], '--runs and --executions are the same for one program'],
    [[LOST, '--max-steps', '0'], '--max-steps must be a whole number from 1 to 1000000, not 0'],
    [['missing.S', '--dir', 'README.md'], "--dir: 'README.md' cannot be written (EEXIST)"],
    [[LOST, '--time', '0'], '--time must be more than 0'],
    [[LOST, '--against', '7.1'], '--against: KVM 7.1 is the version that is fuzzed; name another one'],
    [['--against', '7.1'], '--against: KVM 7.1 is the version that is fuzzed; name another one'],
    [['--executions', '0'], '--executions must be a whole number from 1 to 1000000000, not 0'],
    [['--max-steps', '1000001'], '--max-steps must be a whole number from 1 to 1000000, not 1000001'],
    [['--bound', '1001'], '--bound must be a whole number from 0 to 1000, not 1001'],
    [['--time', '0'], '--time must be more than 0'],
    [['--vcpus', '77'], 'generated races have 2 to 8 vCPUs, not 77'],
  ])('%j is refused in one line', async (args, message) => {
    let [stdout, stderr] = ['', ''];
    const status = await main(['fuzz', 'race', ...args], {
      width: 100,
      paint: noPaint,
      out: (text) => {
        stdout += text;
      },
      err: (text) => {
        stderr += text;
      },
    });
    expect([status, stdout]).toEqual([2, '']);
    expect(stderr.split('\n')).toHaveLength(2);
    expect(stderr).toContain(`kvmscope: ${message}`);
  });
});

describe('fuzz race', () => {
  it('runs a campaign of generated programs', () => {
    const dir = join(folder, 'campaign');
    const args = ['--kvm', '4.19-rc1', '--against', '4.19', '--executions', '60', '--runs', '32', '--jobs', '1'];
    const { status, stdout } = kvmscope('fuzz', 'race', ...args, '--dir', dir, '--json');
    const report = JSON.parse(stdout);
    expect(report).toMatchObject({ command: 'fuzz', ok: false, cases: 32, campaign: { kind: 'race', seed: 1 } });
    expect(report.finds.map(({ signature }: { signature: string }) => signature)).toContain(
      'host bug pv-ipi-empty-slot',
    );
    expect(status).toBe(1);
    expect(kvmscope('run', join(dir, 'find-001.S'), '--kvm', '4.19-rc1').status).toBe(0);
    expect(kvmscope('run', join(dir, 'find-001.S'), '--kvm', '4.19').status).toBe(1);
  });
});
