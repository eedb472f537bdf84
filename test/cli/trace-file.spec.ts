/** `run --trace-file` as a user types it. */
import { existsSync, mkdtempSync, readFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect, it } from 'vitest';
import { kvmscope } from './spawn.ts';

const THREE = 'guest/pv-ipi/send-to-three.S';
const folder = mkdtempSync(join(tmpdir(), 'kvmscope-files-'));
const text = (name: string): string => readFileSync(join(folder, name), 'latin1');

it('writes one file per option, by the ending, beside the usual report', () => {
  const names = ['a.dat', 'b,2.data', 'c.pftrace', 'd.txt'];
  const options = names.flatMap((name) => ['--trace-file', join(folder, name)]);
  const { status, stdout, stderr } = kvmscope('run', THREE, '--trace', ...options);
  expect([status, stderr]).toEqual([0, '']);
  expect(text('a.dat').slice(3, 12)).toBe('tracing6\0');
  expect(text('b,2.data').slice(0, 8)).toBe('PERFILE2');
  expect(text('c.pftrace').charCodeAt(0)).toBe(0x0a);
  const [cpus, ...lines] = text('d.txt').trimEnd().split('\n');
  expect(cpus).toBe('cpus=4');
  expect(lines).toHaveLength(8);
  // The same lines that --trace shows.
  expect(stdout).toContain(`\n${lines.join('\n')}\n`);
});

it('writes a file per KVM version', () => {
  const { status } = kvmscope('run', THREE, '--kvm', '4.19,5.6', '--trace-file', join(folder, 'e.txt'));
  expect(status).toBe(0);
  expect(existsSync(join(folder, 'e.txt'))).toBe(false);
  expect(text('e-4.19.txt')).toContain('kvm_exit:             reason VMCALL rip 0x1013 info 0 0\n');
  expect(text('e-5.6.txt')).toContain('kvm_exit:             vcpu 0 reason VMCALL rip 0x1013 info 0 0\n');
});

it('refuses an unknown ending before anything runs, and a place that cannot be written, in one line', () => {
  const unknown = kvmscope('run', THREE, '--trace-file', 'out.json');
  expect([unknown.status, unknown.stdout]).toEqual([2, '']);
  expect(unknown.stderr).toBe(
    "kvmscope: trace file 'out.json': the ending decides the format; it must be one of .dat (trace-cmd, KernelShark), " +
      ".data (perf script, perf kvm stat report), .pftrace (Perfetto), .txt (text in trace-cmd's layout)\n",
  );
  const nowhere = kvmscope('run', THREE, '--trace-file', join(folder, 'no/such/folder.dat'));
  expect(nowhere.status).toBe(2);
  expect(nowhere.stderr).toMatch(/^kvmscope: --trace-file: '.*folder\.dat' cannot be written \(ENOENT\)\n$/);
});
