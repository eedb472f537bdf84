/** `kvmscope fuzz icr|hypercall|msr|sequence` as a user sees it. */
import { mkdtempSync, readdirSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, describe, expect, it } from 'vitest';
import { kvmscope } from './spawn.ts';

const folder = mkdtempSync(join(tmpdir(), 'kvmscope-fuzz-'));
afterAll(() => rmSync(folder, { recursive: true }));

describe('kvmscope fuzz', () => {
  it('writes programs that kvmscope test finds right, and whose expectations do not hold elsewhere', {
    timeout: 120_000,
  }, () => {
    const dir = join(folder, 'campaign');
    const { status, stdout } = kvmscope(
      'fuzz',
      'hypercall',
      '--kvm',
      '4.19-rc1',
      '--runs',
      '4096',
      '--jobs',
      '1',
      '--dir',
      dir,
    );
    expect(status).toBe(1);
    expect(stdout).toContain('find-003');
    expect(stdout).toContain('host bug pv-ipi-no-map');
    const programs = readdirSync(dir).filter((name) => name.endsWith('.S'));
    expect(programs).toEqual(['find-001.S', 'find-002.S', 'find-003.S']);
    const paths = programs.map((name) => join(dir, name));
    expect(kvmscope('test', ...paths).status).toBe(0);
    expect(kvmscope('run', paths[0], '--kvm', '4.19-rc1', '--kvm', '7.1').status).toBe(1);
  });

  it.each([
    [['icr', '--kvm', '3.10'], "unknown KVM era '3.10'"],
    [['icr', '--against', 'nothing'], "unknown KVM era 'nothing'"],
    [['icr', '--against', '7.1'], '--against: KVM 7.1 is the version that is fuzzed; name another one'],
    [['icr', '--kvm', '5.5', '--against', 'v5.5'], '--against: KVM 5.5 is the version that is fuzzed'],
    [['icr', '--time', '0s'], '--time must be more than 0'],
    [['icr', '--seed', '4294967296'], '--seed must be below 2^32, not 4294967296'],
    [
      ['icr', '--against', 'golden', '--apic-api', '1'],
      '--apic-api: with --against golden, recordings say which VM it is',
    ],
    [['icr', '--apic-api', '9'], '--apic-api must be a whole number from 0 to 3, not 9'],
    [['hypercall', '--apic', 'none', '--software-disabled', '0'], 'without local APICs in the kernel there are none'],
    [['icr', '--golden', 'x'], '--golden needs --against golden'],
    [['icr', '--vcpus', '0'], 'fuzzing takes 1 to 255 vCPUs, not 0'],
    [['icr', '--vcpus', '2', '--ids', '1,2,3'], '3 ids are given for 2 vCPUs'],
    [['icr', '--software-disabled', '7'], 'there is no vCPU 7 whose APIC could be disabled'],
    [['icr', '--mode', 'real16', '--cpl', '3'], 'real mode has no CPL 3'],
    [['icr', '--ids', '5-1'], '--ids: range 5-1 runs backwards'],
    [['icr', '--runs', '1', '--against', 'golden', '--golden', '/nonexistent'], 'no such file or folder: /nonexistent'],
  ])('%j is one line and exit code 2', (args, message) => {
    const { status, stdout, stderr } = kvmscope('fuzz', ...args);
    expect({ status, stdout }).toEqual({ status: 2, stdout: '' });
    expect(stderr.trim().split('\n')).toHaveLength(1);
    expect(stderr).toContain(message);
  });
});
