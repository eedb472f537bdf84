import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { createVm } from '../machine/machine.ts';
import type { RunResult } from '../machine/types.ts';
import { align, compareRuns, type Row, type SideBySideOptions, sideBySide, wrap } from './side-by-side.ts';
import { noPaint } from './text.ts';

/** A Fixed interrupt to vCPU 1 with reserved bit 13 set, then HLT. No handler: #GP ends in a triple fault. */
const SOURCE = `
    mov ecx, 0x830
    mov eax, 0x20f0
    mov edx, 1
    wrmsr
    hlt`;

const WIDE: SideBySideOptions = { width: 100, paint: noPaint, exits: 40 };

async function runOn(kvm: string): Promise<RunResult> {
  const vm = await createVm({ vcpus: 2, memory: 0x20_0000, kvm });
  vm.load(SOURCE);
  const run = vm.run();
  vm.dispose();
  return run;
}

describe('align', () => {
  test('equal keys stand beside each other, in order', () => {
    expect(align(['a', 'b', 'c'], ['b', 'c', 'd'])).toEqual([
      [0, -1],
      [1, 0],
      [2, 1],
      [-1, 2],
    ]);
  });

  test('nothing in common: first one list, then the other', () => {
    expect(align(['a'], ['b', 'c'])).toEqual([
      [0, -1],
      [-1, 0],
      [-1, 1],
    ]);
  });

  test('very long lists go by position', () => {
    const long = Array.from({ length: 3000 }, (_, i) => `${i}`);
    const pairs = align(long, long.slice(1));
    expect(pairs.slice(0, 2)).toEqual([
      [0, 0],
      [1, 1],
    ]);
    expect(pairs.at(-1)).toEqual([2999, -1]);
  });
});

describe('wrap', () => {
  test('breaks at blanks, and anywhere where there are none', () => {
    expect(wrap('one two three', 8)).toEqual(['one two', '  three']);
    expect(wrap('abcdefghij', 4)).toEqual(['abcd', '  ef', '  gh', '  ij']);
  });
});

describe('a write with a reserved bit in KVM 6.11 and 6.12', () => {
  let left: RunResult;
  let right: RunResult;
  beforeAll(async () => {
    [left, right] = [await runOn('6.11'), await runOn('6.12')];
  });
  const lines = (options: SideBySideOptions = WIDE): string[] => [
    ...sideBySide({ run: left, checks: [] }, { run: right, checks: [] }, options),
  ];
  const rows = (title: string, options = WIDE): readonly Row[] =>
    compareRuns(
      { run: left, checks: [{ text: 'rax = 1', pass: true }] },
      {
        run: right,
        checks: [
          { text: 'rax = 2', pass: false },
          { text: 'end = shutdown', pass: true },
        ],
      },
      options,
    ).find((section) => section.title.includes(title))?.rows ?? [];
  afterAll(() => expect(left.end.kind).toBe('halted'));

  test('the exit: IPI on one side only, the same write with and without #GP', () => {
    const write = rows('MSR_WRITE');
    expect(write.filter((row) => row.right === undefined).map((row) => row.left?.split(':')[0])).toEqual([
      'kvm_apic_ipi',
      'kvm_apic_accept_irq',
      'kvm_apic',
    ]);
    expect(write).toContainEqual({
      label: '',
      left: 'kvm_msr: msr_write 830 = 0x1000020f0',
      right: 'kvm_msr: msr_write 830 = 0x1000020f0 (#GP)',
      differs: true,
    });
    expect(write).toContainEqual({
      label: 'fastpath',
      left: 'taken, EXIT_HANDLED',
      right: 'not taken: reserved bits',
      differs: true,
    });
    expect(write.at(-1)).toEqual({
      label: 'back',
      left: 'rip 0x1011',
      right: 'every register unchanged',
      differs: true,
    });
  });

  test('exits of one version only stand alone', () => {
    expect(rows('HLT').every((row) => row.right === undefined && row.differs)).toBe(true);
    expect(rows('TRIPLE_FAULT').every((row) => row.left === undefined && row.differs)).toBe(true);
  });

  test('results: the IRR of the target, the end, the counters', () => {
    expect(rows('vCPU 1 at the end')).toContainEqual({ label: 'IRR', left: '{0xf0}', right: '{}', differs: true });
    expect(rows('outcome')[0]).toEqual({
      label: 'end',
      left: 'every vCPU waits and nothing is pending',
      right: 'triple fault on vCPU 0 at rip 0x100f',
      differs: true,
    });
    const fastpath = rows('counters').find((row) => row.label === 'fastpath');
    expect(fastpath).toEqual({ label: 'fastpath', left: '1', right: '0', differs: true });
  });

  test('expectations on the same subject stand beside each other', () => {
    expect(rows('expectations')).toEqual([
      { label: '', left: '✓ rax = 1', right: '✗ rax = 2', differs: true },
      { label: '', left: undefined, right: '✓ end = shutdown', differs: true },
    ]);
  });

  test('trace lines in two kernels: wording alone is no difference', async () => {
    const old = await runOn('5.7');
    const both = { ...WIDE, trace: true };
    const [trace] = compareRuns({ run: old, checks: [] }, { run: left, checks: [] }, both);
    expect(trace.title).toBe('trace');
    expect(trace.rows[0]).toEqual({
      label: '',
      left: 'kvm_entry: vcpu 0',
      right: 'kvm_entry: vcpu 0, rip 0x1000',
      differs: false,
    });
  });

  test('two columns from 100 columns on, every line within them and the mark in front', () => {
    const text = lines();
    expect(text[0]).toBe(`  KVM 6.11${' '.repeat(39)} │ KVM 6.12`);
    expect(text.every((line) => line.length <= 100)).toBe(true);
    expect(text).toContain(`≠ fastpath taken, EXIT_HANDLED${' '.repeat(19)} │ fastpath not taken: reserved bits`);
    expect(text).toContain(`  APIC x2apic${' '.repeat(36)} │ APIC x2apic`);
  });

  test('below that, one under the other, and what agrees once', () => {
    const text = lines({ ...WIDE, width: 60 });
    const at = text.indexOf('≠ 6.11 fastpath taken, EXIT_HANDLED');
    expect(text[at + 1]).toBe('≠ 6.12 fastpath not taken: reserved bits');
    // Once for each of the two vCPUs.
    expect(text.filter((line) => line.trim() === 'APIC x2apic')).toHaveLength(2);
    expect(text.every((line) => line.length <= 60)).toBe(true);
  });

  test('from an exit in which the host crashes nothing comes back', async () => {
    const vm = await createVm({ memory: 0x20_0000, kvm: '4.19-rc1' });
    vm.load('mov eax, 10\nmov ebx, 2\nxor ecx, ecx\nxor edx, edx\nmov esi, 0x40\nvmcall\nhlt');
    const crash = { run: vm.run(), checks: [] };
    vm.dispose();
    const [exit] = compareRuns(crash, crash, WIDE);
    expect(exit.rows.at(-1)).toEqual({ label: 'back', left: 'never', right: 'never', differs: false });
  });

  test('one version beside itself: no row differs', () => {
    const same = [...sideBySide({ run: left, checks: [] }, { run: left, checks: [] }, WIDE)];
    expect(same.at(-1)).toBe('no row differs');
    expect(same.some((line) => line.startsWith('≠'))).toBe(false);
  });
});
