import { describe, expect, it } from 'vitest';
import { GENERAL_REGISTERS, REGISTERS } from '../cpu/registers.ts';
import type { ExitRecord } from '../kvm/types.ts';
import type { RunEnd, RunResult, VcpuView } from '../machine/types.ts';
import { sumCounters } from '../machine/view.ts';
import type { Program } from '../program/assembler.ts';
import { parseExpectation, parseHeader } from '../program/header.ts';
import { checkEnd, describeChecks, describeEnd, evaluate, showVectors, validateExpectations } from './expect.ts';

const NO_REGISTERS = Object.fromEntries(REGISTERS.map(({ name }) => [name, 0n]));

interface VcpuSketch {
  readonly registers?: Record<string, bigint>;
  readonly lapic?: Partial<VcpuView['lapic']>;
  readonly counters?: Partial<VcpuView['counters']>;
  readonly rest?: Partial<VcpuView>;
}

function vcpu(index: number, { registers = {}, lapic = {}, counters = {}, rest = {} }: VcpuSketch = {}): VcpuView {
  return {
    index,
    apicId: index,
    mpState: 'halted',
    registers: { ...NO_REGISTERS, ...registers },
    lapic: {
      id: index,
      mode: 'x2apic',
      enabled: true,
      irr: [],
      isr: [],
      tmr: [],
      tpr: 0,
      ppr: 0,
      icr: 0n,
      svr: 0x1ff,
      ldr: 0,
      apicBase: 0xfee00c00n,
      ...lapic,
    },
    nmiPending: 0,
    smiPending: false,
    initPending: false,
    sipiPending: null,
    counters: { ...sumCounters([]), ...counters },
    steps: 0,
    ...rest,
  };
}

function runOf(vcpus: VcpuView[], rest: Partial<RunResult> = {}): RunResult {
  return {
    end: { kind: 'halted' },
    era: '6.18',
    vendor: 'intel',
    seed: 1,
    vcpus,
    start: [],
    exits: [],
    trace: [],
    times: [],
    counters: sumCounters(vcpus.map((v) => v.counters)),
    console: '',
    reports: [],
    steps: 10,
    notes: [],
    memory: new Uint8Array(64),
    ...rest,
  };
}

/** An exit record whose registers are 0 but for `before` and `after`. */
function exitOf(
  name: string,
  before: Record<string, bigint>,
  after: Record<string, bigint>,
  rest: Partial<ExitRecord> = {},
): ExitRecord {
  const row = (values: Record<string, bigint>) => GENERAL_REGISTERS.map((register) => values[register.name] ?? 0n);
  const where = { rip: 0x1000n, linear: 0x1000n, bits: 64 } as const;
  return { vcpu: 0, name, reason: 0, ...where, before: row(before), after: row(after), events: [], ...rest };
}

const PROGRAM: Pick<Program, 'symbols'> = { symbols: new Map([['counter', 0x10n]]) };

/** The single check of one expectation. */
function checkOf(text: string, run: RunResult) {
  return evaluate([parseExpectation(text, { file: 'a.S', line: 3 })], run, PROGRAM as Program)[0];
}

describe('evaluate', () => {
  const run = runOf(
    [
      vcpu(0, {
        registers: { rax: 3n, rbx: 0xffff_ffff_ffff_ffean, cs: 8n },
        lapic: { icr: 0x1_0000_00f0n },
        counters: { hypercalls: 1, fastpath: 2, byReason: { vmcall: 1, hlt: 1 } },
        rest: { mpState: 'runnable' },
      }),
      vcpu(1, {
        lapic: { irr: [0xd1] },
        counters: { byReason: { hlt: 2 } },
        rest: { sipiPending: 0x10, nmiPending: 2 },
      }),
      vcpu(2, { lapic: { irr: [0xd1, 0xd2, 0xd3] }, rest: { initPending: true, smiPending: true } }),
    ],
    {
      console: 'ok\n',
      reports: [
        { vcpu: 0, value: 1 },
        { vcpu: 1, value: 0xffffffea },
      ],
      trace: [
        { event: 'kvm_apic_accept_irq', vcpu: 0, apicid: 1, deliveryMode: 0, triggerMode: 0, vector: 0xd1 },
        { event: 'kvm_apic_accept_irq', vcpu: 0, apicid: 2, deliveryMode: 0, triggerMode: 0, vector: 0xd2 },
      ],
      memory: Uint8Array.from({ length: 64 }, (_, i) => i),
      exits: [
        exitOf(
          'msr_write',
          {},
          {},
          { vcpu: 2, fastpath: { taken: true, reason: 'taken', completion: 'REENTER_GUEST' } },
        ),
        exitOf('msr_write', {}, {}, { fastpath: { taken: false, reason: 'logical destination' } }),
      ],
    },
  );

  it.each([
    'rax = 3',
    'rbx = -22',
    'rbx = 0xffffffffffffffea',
    'rax != 4',
    'rax >= 3',
    'rax > 2',
    'rax < 4',
    'cs = 8',
    'vcpu[1].irr = {0xd1}',
    'vcpu[2].irr = {0xd1..0xd3}',
    'irr = {}',
    'vcpu[1].irr != {}',
    'vcpu[0,2].nmi = 0',
    'vcpu[1].nmi = 2',
    'vcpu[1].sipi = 0x10',
    'sipi = none',
    'vcpu[1].sipi != none',
    'vcpu[2].init = 1',
    'vcpu[2].smi = 1',
    'mp = runnable',
    'vcpu[1..2].mp = halted',
    'vcpu[*].apic = x2apic',
    'icr = 0x1000000f0',
    'vcpu[2].apicid = 2',
    'exits = 4',
    'exits.hlt = 3',
    'vcpu[1].exits.hlt = 2',
    'exits.hypercall = 1',
    'exits.msr_write = 0',
    'counters.hypercalls = 1',
    'vcpu[1].counters.hypercalls = 0',
    'fastpath = 2',
    'fastpath.reason = "logical destination"',
    'vcpu[2].fastpath.completion = REENTER_GUEST',
    'fastpath.completion != EXIT_HANDLED',
    'events.kvm_apic_accept_irq = 2',
    'vcpu[1].events.kvm_apic_accept_irq = 0',
    'events.kvm_eoi = 0',
    'console = "ok\\n"',
    'reports = [1, -22]',
    'vcpu[1].reports = [0xffffffea]',
    'end = halted',
    'bug = none',
    'memory[4].u32 = 0x07060504',
    'memory[counter].u8 = 16',
    'memory[counter+1].u16 = 0x1211',
    'rax < counter',
    'vcpu[1].accepted = [0xd1]',
    'accepted = []',
    'steps = 10',
  ])('passes %s', (text) => {
    expect(checkOf(text, run)).toMatchObject({ pass: true });
  });

  it.each([
    ['rax = 4', '3', '4'],
    ['rbx = 1', '0xffffffffffffffea (-22)', '1'],
    ['rax >= 4', '3', '>= 4'],
    ['vcpu[1..2].irr = {0xd1}', 'vcpu[2]: {0xd1..0xd3}', '{0xd1}'],
    ['vcpu[*].irr = {}', 'vcpu[1]: {0xd1}, vcpu[2]: {0xd1..0xd3}', '{}'],
    ['vcpu[2..4].mp = halted', 'there is no vCPU 3: the VM has 3', 'halted'],
    ['vcpu[1].sipi = none', '0x10 (16)', 'none'],
    ['vcpu[1].sipi = 0x11', '0x10 (16)', '0x11 (17)'],
    ['sipi = 0x11', 'none', '0x11 (17)'],
    ['reports = [1]', '[1, 0xffffffea (-22)]', '[1]'],
    ['reports = [0xffffffea, 1]', '[1, 0xffffffea (-22)]', '[0xffffffea (-22), 1]'],
    ['console = "no"', '"ok\\n"', '"no"'],
    ['end = exit 0', 'halted', 'exit 0'],
    ['bug = CVE-2018-16881', 'none', 'CVE-2018-16881'],
    ['vcpu[1].fastpath.reason = "taken"', 'the fastpath was never asked', '"taken"'],
    ['vcpu[1].fastpath.reason != "taken"', 'the fastpath was never asked', '!= "taken"'],
    ['vcpu[1].fastpath.completion = EXIT_HANDLED', 'the fastpath was never taken', 'EXIT_HANDLED'],
    ['events.kvm_apic_accept_irq = 3', '2', '3'],
    ['memory[62].u32 = 0', 'the address is outside RAM', '0'],
    ['memory[4].u8 = -1', '4', '0xff (-1)'],
    ['exits.hypercall = 2', '1', '2'],
    ['vcpu[1].preserved rbx', 'no hypercall and no MSR write happened', 'rbx unchanged'],
  ])('fails %s', (text, actual, expected) => {
    expect(checkOf(text, run)).toMatchObject({ pass: false, actual, expected });
  });

  it('leaves out expectations for other eras and vendors', () => {
    const { expectations } = parseHeader(
      '# expect[kvm>=6.12]: rax = 1\n# expect[kvm<6.12]: rax = 2\n# expect[vendor=amd]: rax = 3\n# expect: rax = 4',
      'a.S',
    );
    expect(evaluate(expectations, run).map((c) => c.expectation.text)).toEqual(['rax = 1', 'rax = 4']);
    const old = { ...run, era: '5.6', vendor: 'amd' as const };
    expect(evaluate(expectations, old).map((c) => c.expectation.text)).toEqual(['rax = 2', 'rax = 3', 'rax = 4']);
  });
});

describe('preserved', () => {
  it('compares every hypercall and MSR write of the vCPU, and no other exit', () => {
    const exits = [
      exitOf('vmcall', { rbx: 1n, rax: 10n }, { rbx: 1n, rax: 3n }),
      exitOf('hlt', { rbx: 1n }, { rbx: 9n }),
      exitOf('msr_write', { rbx: 5n }, { rbx: 5n }),
      exitOf('vmcall', { rbx: 1n }, { rbx: 7n }, { vcpu: 1 }),
    ];
    const run = runOf([vcpu(0), vcpu(1)], { exits });
    expect(checkOf('preserved rbx, r8-r15, rflags', run)).toMatchObject({
      pass: true,
      actual: 'unchanged across 2 exits',
    });
    expect(checkOf('preserved rax', run)).toMatchObject({
      pass: false,
      actual: 'rax went from 0xa to 0x3 across vmcall at rip 0x1000',
    });
    expect(checkOf('vcpu[*].preserved rbx', run)).toMatchObject({
      pass: false,
      actual: 'vcpu[1]: rbx went from 0x1 to 0x7 across vmcall at rip 0x1000',
    });
  });
});

describe('ends', () => {
  const ends: readonly [RunEnd, string, string, boolean][] = [
    [{ kind: 'halted' }, 'halted', 'halted', true],
    [{ kind: 'exit', status: 0 }, 'exit 0', 'exit 0', true],
    [{ kind: 'exit', status: 3 }, 'exit 3', 'exit 3', false],
    [{ kind: 'budget', steps: 99 }, 'budget', 'budget of 99 steps used up', false],
    [{ kind: 'shutdown', vcpu: 1, rip: 0x10n }, 'shutdown', 'shutdown (triple fault) of vCPU 1 at rip 0x10', false],
    [
      { kind: 'host-bug', vcpu: 0, bug: 'null map', cve: 'CVE-1', detail: 'x' },
      'host-bug',
      'host-bug null map (CVE-1) on vCPU 0: x',
      false,
    ],
    [{ kind: 'internal-error', vcpu: 2, detail: 'y' }, 'internal-error', 'internal-error on vCPU 2: y', false],
  ];
  it.each(ends.map(([end, notation, told, fine]) => ({ end, notation, told, fine })))(
    '$notation is told as "$told", and fine: $fine',
    ({ end, notation, told, fine }) => {
      const run = runOf([vcpu(0)], { end });
      expect(checkOf(`end = ${notation}`, run).pass).toBe(true);
      expect(describeEnd(end)).toBe(told);
      expect(checkEnd([], run, 'a.S')).toMatchObject({ pass: fine, actual: told });
    },
  );

  it('names a host bug by its name or its CVE', () => {
    const run = runOf([vcpu(0)], {
      end: { kind: 'host-bug', vcpu: 0, bug: 'null-map', cve: 'CVE-2018-16881', detail: '' },
    });
    expect(checkOf('bug = null-map', run).pass).toBe(true);
    expect(checkOf('bug = cve-2018-16881', run).pass).toBe(true);
    expect(checkOf('bug = other', run)).toMatchObject({ pass: false, actual: 'null-map' });
  });

  it('asks for a good end only where no applicable expectation speaks of it', () => {
    const run = runOf([vcpu(0)], { end: { kind: 'budget', steps: 1 } });
    const header = (text: string) => parseHeader(text, 'a.S').expectations;
    expect(checkEnd(header('# expect: end = budget'), run, 'a.S')).toBeUndefined();
    expect(checkEnd(header('# expect[kvm<5.6]: end = budget\n# expect: rax = 0'), run, 'a.S')?.pass).toBe(false);
  });
});

describe('texts', () => {
  it('describes failed checks only, with their place', () => {
    const run = runOf([vcpu(0, { registers: { rax: 2n } })]);
    const { expectations } = parseHeader('# expect: rax = 3\n# expect: rbx = 0', 'a.S');
    expect(describeChecks(evaluate(expectations, run))).toBe(
      'a.S:1: expect: rax = 3\n    expected  3\n    actual    2',
    );
    const bad = checkEnd([], { ...run, end: { kind: 'exit', status: 1 } }, 'a.S');
    expect(describeChecks(bad === undefined ? [] : [bad])).toMatch(/^a\.S: expect: /);
  });

  it('writes vectors in order, runs as ranges', () => {
    expect(showVectors([])).toBe('{}');
    expect(showVectors([0x31, 0x30])).toBe('{0x30, 0x31}');
    expect(showVectors([0x22, 0x20, 0x21, 0xd1])).toBe('{0x20..0x22, 0xd1}');
  });
});

describe('validateExpectations', () => {
  const validate = (text: string) => () =>
    validateExpectations(parseHeader(text, 'a.S').expectations, PROGRAM as Program);

  it('finds symbols, exits and eras that do not exist', () => {
    expect(validate('# expect: memory[counter].u8 = 1')).not.toThrow();
    expect(validate('# expect: memory[countre].u8 = 1')).toThrow(
      'a.S:1: the program has no symbol "countre"; did you mean "counter"?',
    );
    expect(validate('# expect: irr = {first..counter}')).toThrow('a.S:1: the program has no symbol "first"');
    expect(validate('# expect: exits.vmcal = 0')).toThrow('a.S:1: unknown exit "vmcal"; did you mean "vmcall"?');
    expect(validate('# expect: events.kvm_apic_api = 0')).toThrow(
      'a.S:1: unknown event "kvm_apic_api"; did you mean "kvm_apic_ipi"?',
    );
    expect(validate('# expect[kvm>=3.2]: rax = 0')).toThrow(/^a\.S:1: unknown KVM era '3\.2'/);
  });
});
