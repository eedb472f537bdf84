/** Trace files read by the tools they are made for: trace-cmd and perf. Without them the comparison is skipped, loudly. */
import { spawnSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, describe, expect, it } from 'vitest';
import { encodeTrace, openProgram, type RunResult, runProgram, type TimedTrace } from '../src/index.ts';
import { everyEvent } from '../src/trace/events.fixture.ts';
import { exitReasonName, kernelVersion } from '../src/trace/exit-names.ts';
import { formatEvent, isTracepoint } from '../src/trace/ftrace.ts';

const folder = mkdtempSync(join(tmpdir(), 'kvmscope-trace-'));
afterAll(() => rmSync(folder, { recursive: true }));

/** Whether a reader is there; says loudly if not. */
function available(tool: string, debianPackage: string, ...args: string[]): boolean {
  const { error, stdout, stderr } = spawnSync(tool, args, { encoding: 'utf8' });
  const found = error === undefined && `${stdout}${stderr}`.includes(`${tool} version`);
  if (!found) {
    const why =
      error === undefined ? `'${tool} ${args.join(' ')}' does not tell its version` : `${tool} is not installed`;
    console.warn(`\n*** SKIPPED: trace files read by ${tool}: ${why} (apt-get install ${debianPackage}) ***\n`);
  }
  return found;
}

const traceCmd = available('trace-cmd', 'trace-cmd', '-v');
const perf = available('perf', 'linux-perf', 'version');

/** Writes the run as a file with this ending and runs a tool on it. */
function read(run: TimedTrace, ending: string, command: (path: string) => string[]): string {
  const path = join(folder, `trace${ending}`);
  writeFileSync(path, encodeTrace(run, path));
  const [tool, ...args] = command(path);
  const { status, stdout, stderr } = spawnSync(tool, args, { encoding: 'utf8' });
  expect(status, stderr).toBe(0);
  // `perf kvm stat report` prints its table to the standard error.
  return stdout + (tool === 'perf' ? stderr : '');
}

const report = (run: TimedTrace, ...options: string[]): string =>
  read(run, '.dat', (path) => ['trace-cmd', 'report', ...options, path]);
const textFile = (run: TimedTrace): string => {
  const path = join(folder, 'trace.txt');
  writeFileSync(path, encodeTrace(run, path));
  return readFileSync(path, 'utf8');
};

async function runGuest(file: string, options: { kvm?: string; vendor?: 'intel' | 'amd' } = {}): Promise<RunResult> {
  const { run, vm } = await runProgram(openProgram(file, options));
  vm.dispose();
  return run;
}

// One era per wording of any event.
const ERAS = ['4.19-rc1', '5.5', '5.6', '5.7', '5.10', '5.18', '6.0', '6.12', '6.14', '7.1'];
const DIALECTS = ERAS.flatMap((era) => (['intel', 'amd'] as const).map((vendor) => [era, vendor] as const));

describe.skipIf(!traceCmd)('trace-cmd report', () => {
  it.each(DIALECTS)('prints every event of KVM %s on %s as the .txt file does', (era, vendor) => {
    expect(report(everyEvent(era, vendor), '-N', '-t')).toBe(textFile(everyEvent(era, vendor)));
  });

  it('prints the lines of a multicast', async () => {
    const run = await runGuest('guest/pv-ipi/send-to-three.S', { kvm: '5.6' });
    expect(report(run, '-N', '-t').split('\n')).toEqual([
      'cpus=4',
      '       CPU 0/KVM-1000  [000]     0.000000001: kvm_entry:            vcpu 0',
      '       CPU 0/KVM-1000  [000]     0.000000008: kvm_exit:             vcpu 0 reason VMCALL rip 0x1013 info 0 0',
      '       CPU 0/KVM-1000  [000]     0.000000009: kvm_hypercall:        nr 0xa a0 0xe a1 0x0 a2 0x0 a3 0xd1',
      '       CPU 0/KVM-1000  [000]     0.000000010: kvm_apic_accept_irq:  apicid 1 vec 209 (Fixed|edge)',
      '       CPU 0/KVM-1000  [000]     0.000000011: kvm_apic_accept_irq:  apicid 2 vec 209 (Fixed|edge)',
      '       CPU 0/KVM-1000  [000]     0.000000012: kvm_apic_accept_irq:  apicid 3 vec 209 (Fixed|edge)',
      '       CPU 0/KVM-1000  [000]     0.000000013: kvm_entry:            vcpu 0',
      '       CPU 0/KVM-1000  [000]     0.000000015: kvm_exit:             vcpu 0 reason HLT rip 0x1016 info 0 0',
      '',
    ]);
  });

  it('its KVM plugin finds the fields it looks for', async () => {
    const run = await runGuest('guest/pv-ipi/send-to-three.S', { kvm: '7.1' });
    const lines = report(run).split('\n');
    expect(lines[1]).toMatch(/ kvm_entry: +vcpu 0 rip 0x1000$/);
    expect(lines[2]).toMatch(/ kvm_exit: +reason VMCALL rip 0x1013 info 0 0$/);
  });

  it.each(['intel', 'amd'] as const)('agrees on a long trace of several vCPUs on %s', async (vendor) => {
    const run = await runGuest('guest/smp/ping-pong.S', { vendor });
    expect(run.trace.length).toBeGreaterThan(100);
    expect(report(run, '-N', '-t')).toBe(textFile(run));
  });
});

describe.skipIf(!perf)('perf', () => {
  it.each(DIALECTS)('script prints every event of KVM %s on %s in KVM’s words', (era, vendor) => {
    const run = everyEvent(era, vendor);
    const output = read(run, '.data', (path) => ['perf', 'script', '-f', '--ns', '-i', path]);
    const seen = output
      .trimEnd()
      .split('\n')
      .map((line) => /^ *(.*?) +(\d+) \[(\d+)\] +([\d.]+): +kvm:(\w+): ?(.*)$/.exec(line)?.slice(1) ?? [line])
      .map((fields) => fields.map((field) => field.trimEnd()));
    const expected = run.trace.flatMap((event, i) => {
      if (!isTracepoint(event)) return [];
      const { vcpu } = event;
      const time = (run.times[i] / 1e9).toFixed(9);
      const text = formatEvent(event, run).trimEnd();
      return [[`CPU ${vcpu}/KVM`, `${1000 + vcpu}`, `00${vcpu}`, time, event.event, text]];
    });
    expect(seen).toEqual(expected);
  });

  /** Samples by exit name, from the table of `perf kvm stat report`. */
  function exitTable(run: RunResult): { samples: Record<string, number>; total: number } {
    const output = read(run, '.data', (path) => ['perf', 'kvm', '-i', path, 'stat', 'report', '-f']);
    const rows = [...output.matchAll(/^ +(\S.*?) +(\d+) +[\d.]+% +[\d.]+% /gm)];
    return {
      samples: Object.fromEntries(rows.map(([, name, samples]) => [name, Number(samples)])),
      total: Number(/Total Samples:(\d+)/.exec(output)?.[1]),
    };
  }

  /** Exits that no entry of the same vCPU follows: perf times an exit until the entry and leaves these out. */
  function unfinished(run: RunResult): Record<string, number> {
    const last = new Map<number, string>();
    for (const event of run.trace) {
      if (event.event === 'kvm_entry') last.delete(event.vcpu);
      if (event.event === 'kvm_exit') {
        last.set(event.vcpu, exitReasonName(run.vendor, event.reason, kernelVersion(run.era)));
      }
    }
    const counts: Record<string, number> = {};
    for (const name of last.values()) counts[name] = (counts[name] ?? 0) + 1;
    return counts;
  }

  it.each([
    ['guest/smp/ping-pong.S', '7.1'],
    ['guest/linux/mask-80.S', '6.12'],
    ['guest/apic/nested-priority.S', '5.10'],
    ['guest/smp/count-in-memory.S', '5.6'],
  ])('kvm stat report counts the exits of %s on KVM %s as the counters do', async (file, kvm) => {
    const run = await runGuest(file, { kvm, vendor: 'intel' });
    const { samples, total } = exitTable(run);
    const open = unfinished(run);
    const counted = Object.entries(run.counters.byReason)
      .map(([name, count]) => [name.toUpperCase(), count - (open[name.toUpperCase()] ?? 0)] as const)
      .filter(([, count]) => count > 0);
    expect(samples).toEqual(Object.fromEntries(counted));
    expect(total).toBe(counted.reduce((sum, [, count]) => sum + count, 0));
    expect(total).toBeGreaterThan(0);
  });

  it('kvm stat report names exits of AMD as KVM does', async () => {
    const run = await runGuest('guest/hypercall/amd-vmmcall.S', { vendor: 'amd' });
    expect(exitTable(run).samples).toEqual({ hypercall: run.counters.byReason.vmmcall });
  });
});
