import { describe, expect, it } from 'vitest';
import { KvmscopeError } from '../errors.ts';
import { parseExpectation, parseHeader, parseIds, parseSize } from './header.ts';

const expectationOf = (text: string) => parseExpectation(text, { file: 'a.S', line: 7 });

/** The message of the KvmscopeError that `action` throws. */
function messageOf(action: () => unknown): string {
  try {
    action();
  } catch (error) {
    expect(error).toBeInstanceOf(KvmscopeError);
    expect((error as KvmscopeError).code).toBe('header');
    return (error as KvmscopeError).message;
  }
  throw new Error('nothing was thrown');
}

describe('parseHeader', () => {
  it('reads settings, several per line, and the title', () => {
    const header = parseHeader(
      [
        '# guest/pv-ipi/send-to-three.S',
        '# One hypercall, three targets.',
        '#   rax: an indented line is text',
        '# kvm: >=5.6 <6.12    vcpus: 4\tmode: prot32   vendor: both',
        '// ids: 0,5,64-66     x2apic-api: 3',
        '',
        '# apic: xapic  aps: wait-for-sipi  cpl: 3  memory: 32M  seed: 0x10  budget: 2K',
        '# pv-features: 0x80  enforce-pv: yes  quirks-off: 0x20',
        '# exit-hypercalls: 0x1000  hypercall-returns: 0x77, untouched, -22',
        '  mov eax, 1',
        '# vcpus: 9',
      ].join('\n'),
      'guest/pv-ipi/send-to-three.S',
    );
    expect(header.title).toBe('One hypercall, three targets.');
    expect(header.settings).toEqual({
      kvm: '>=5.6 <6.12',
      vcpus: 4,
      mode: 'prot32',
      vendors: ['intel', 'amd'],
      apicIds: [0, 5, 64, 65, 66],
      x2apicApi: 3,
      exitHypercalls: 0x1000,
      hypercallReturns: [0x77, 'untouched', -22],
      apic: 'xapic',
      aps: 'wait-for-sipi',
      cpl: 3,
      memory: 32 * 2 ** 20,
      seed: 16,
      budget: 2048,
      pvFeatures: 0x80,
      enforcePvFeatures: true,
      disabledQuirks: 0x20,
    });
    expect(header.settingLines.get('ids')).toBe(5);
  });

  it('takes an explicit title over the first line of text', () => {
    expect(parseHeader('# first\n# title: Second\nnop', 'a.S').title).toBe('Second');
  });

  it('reads conditions of expectations', () => {
    const { expectations } = parseHeader(
      [
        '# expect: rax = 1',
        '# expect[kvm>=6.12]: rax = 2',
        '# expect[vendor=amd]: rax = 3',
        '# expect[kvm>=5.6 <6.12, vendor=intel]: rax = 4',
        '# expect[kvm=4.19-rc1]: rax = 5',
        '# expect[kvm 5.7..6.11]: rax = 6',
      ].join('\n'),
      'a.S',
    );
    expect(expectations.map((e) => e.condition)).toEqual([
      {},
      { kvm: '>=6.12' },
      { vendor: 'amd' },
      { kvm: '>=5.6 <6.12', vendor: 'intel' },
      { kvm: '4.19-rc1' },
      { kvm: '5.7..6.11' },
    ]);
    expect(expectations.map((e) => e.line)).toEqual([1, 2, 3, 4, 5, 6]);
  });

  it('stops at the first statement', () => {
    expect(parseHeader('.include "x.inc"\n# vcpus: 4', 'a.S').settings).toEqual({});
  });

  it.each([
    ['# vcpu: 4', 'a.S:1: unknown header key "vcpu"; did you mean "vcpus"?'],
    ['# note: text', 'a.S:1: unknown header key "note"; did you mean "mode"?'],
    ['# remark: text', 'a.S:1: unknown header key "remark"; indent comment text that begins with a word and a colon'],
    ['# vcpus: four', 'a.S:1: vcpus: "four" is not a number'],
    ['# vcpus: 0', 'a.S:1: vcpus: 0 is outside 1…4096'],
    ['# vcpus: 2 mode: long64', 'a.S:1: vcpus: "2 mode: long64" is not a number'],
    ['# vcpus: 2   long64', 'a.S:1: "long64" is not "key: value"; separate settings by two or more spaces'],
    ['# vcpus: 2\n# vcpus: 3', 'a.S:2: "vcpus" is set twice (first in line 1)'],
    [
      '# mode: long46',
      'a.S:1: mode: "long46" is none of reset, real16, prot32, long64, compat32; did you mean "long64"?',
    ],
    ['# ids: 5-3', 'a.S:1: ids: range 5-3 runs backwards'],
    ['# kvm:', 'a.S:1: "kvm:" has no value'],
    ['# vcpus: 2   expect: rax = 1', 'a.S:1: "expect:" needs a line of its own'],
    ['# expect[]: rax = 1', 'a.S:1: empty condition in expect[…]'],
    ['# expect[era>=5]: rax = 1', 'a.S:1: condition "era>=5" is neither kvm<range> nor vendor=intel|amd'],
    ['# expect[vendor=via]: rax = 1', 'a.S:1: vendor "via" is none of intel, amd'],
    ['# Vcpus: 4', 'a.S:1: unknown header key "Vcpus"; did you mean "vcpus"?'],
  ])('refuses %s', (source, message) => {
    expect(messageOf(() => parseHeader(source, 'a.S'))).toBe(message);
  });

  it('leaves sentences that begin with a word and a colon alone', () => {
    expect(parseHeader('# Level-triggered: the TMR bit is set.', 'a.S').title).toBe(
      'Level-triggered: the TMR bit is set.',
    );
  });
});

describe('parseExpectation', () => {
  it('reads a register of vCPU 0 or of another one', () => {
    expect(expectationOf('rax = 3')).toMatchObject({
      file: 'a.S',
      line: 7,
      text: 'rax = 3',
      comparison: '=',
      subject: { kind: 'register', name: 'rax', vcpus: [[0, 0]], width: 64 },
      value: { kind: 'number', term: { addend: 3n } },
    });
    expect(expectationOf('vcpu[2].cs >= 0x10')).toMatchObject({
      comparison: '>=',
      subject: { kind: 'register', name: 'cs', vcpus: [[2, 2]], width: 16 },
    });
  });

  it('reads vCPU sets', () => {
    const set = (text: string) => expectationOf(text).subject.vcpus;
    expect(set('vcpu[1..3].nmi = 1')).toEqual([[1, 3]]);
    expect(set('vcpu[0,2,5..7].nmi = 1')).toEqual([
      [0, 0],
      [2, 2],
      [5, 7],
    ]);
    expect(set('vcpu[*].nmi = 1')).toBe('all');
    expect(set('exits.hlt = 1')).toBeUndefined();
  });

  it('reads numbers: hexadecimal, binary, grouped, negative, symbols', () => {
    const term = (text: string) => {
      const { value } = expectationOf(`rax = ${text}`);
      return value?.kind === 'number' ? value.term : undefined;
    };
    expect(term('0xFFFF_0000')).toMatchObject({ addend: 0xffff0000n });
    expect(term('0b101')).toMatchObject({ addend: 5n });
    expect(term('-22')).toEqual({ addend: -22n, text: '-22' });
    expect(term('counter + 8')).toEqual({ symbol: 'counter', addend: 8n, text: 'counter + 8' });
    expect(term('.Lend-0x10')).toEqual({ symbol: '.Lend', addend: -16n, text: '.Lend-0x10' });
  });

  it('reads vector sets with ranges, and lists', () => {
    expect(expectationOf('irr = {0x20..0x2f, 0xd1}').value).toMatchObject({
      kind: 'set',
      ranges: [
        [{ addend: 0x20n }, { addend: 0x2fn }],
        [{ addend: 0xd1n }, { addend: 0xd1n }],
      ],
    });
    expect(expectationOf('isr = {}').value).toEqual({ kind: 'set', ranges: [] });
    expect(expectationOf('reports = {1, 0x20}').value).toMatchObject({ terms: [{ addend: 1n }, { addend: 32n }] });
    expect(expectationOf('vcpu[1].accepted = [0x40, 0x40]').value).toMatchObject({ kind: 'list' });
  });

  it('reads preserved registers and their ranges', () => {
    expect(expectationOf('preserved rbx, r8-r11, rflags').subject.registers).toEqual([
      'rbx',
      'r8',
      'r9',
      'r10',
      'r11',
      'rflags',
    ]);
  });

  it('reads memory by address and by symbol', () => {
    expect(expectationOf('memory[0x5000].u32 = -1').subject).toMatchObject({
      kind: 'memory',
      bytes: 4,
      width: 32,
      address: { addend: 0x5000n },
    });
    expect(expectationOf('memory[table+16].u64 = 1').subject.address).toMatchObject({ symbol: 'table', addend: 16n });
  });

  it('reads words and text', () => {
    const value = (text: string) => expectationOf(text).value;
    expect(value('end = exit 0x10')).toEqual({ kind: 'text', text: 'exit 16' });
    expect(value('end = host-bug')).toEqual({ kind: 'text', text: 'host-bug' });
    expect(value('bug = CVE-2018-16881')).toEqual({ kind: 'text', text: 'CVE-2018-16881' });
    expect(value('vcpu[1].sipi = none')).toEqual({ kind: 'text', text: 'none' });
    expect(value('vcpu[1].mp = init-received')).toEqual({ kind: 'text', text: 'init-received' });
    expect(value('fastpath.reason = "logical destination"')).toEqual({ kind: 'text', text: 'logical destination' });
    expect(value('console = "a\\n\\x41\\""')).toEqual({ kind: 'text', text: 'a\nA"' });
  });

  it.each([
    ['rxx = 3', 'unknown register "rxx"; did you mean "rax"?'],
    ['vcpu[1].irrr = {1}', 'unknown register "irrr"; did you mean "irr"?'],
    ['zzzzzz = 1', 'unknown register "zzzzzz"'],
    ['rax', 'expected one of = != < <= > >=, found the end of the line'],
    ['rax =', 'expected a number or a symbol, found the end of the line'],
    ['rax = 3 4', 'unexpected "4"'],
    ['rax = 0x3g', '"0x3g" is not a number'],
    ['rax = 12h', '"12h" is not a number'],
    ['irr = 0xd1', 'expected a set such as {0xd1}, found "0xd1"'],
    ['irr < {1}', '"<" compares numbers only'],
    ['irr = {5..3}', 'range 5..3 runs backwards'],
    ['vcpu[3..1].nmi = 1', 'vCPU range 3..1 runs backwards'],
    ['vcpu[a].nmi = 1', 'expected a vCPU index, found "a].nmi = 1"'],
    ['vcpu.nmi = 1', 'expected "[" after vcpu, found ".nmi = 1"'],
    ['vcpu[1].end = halted', '"end" belongs to the VM, not to a vCPU'],
    ['vcpu[1].memory[0].u8 = 1', 'memory belongs to no vCPU'],
    ['counters.hypercals = 1', 'unknown counter "hypercals"; did you mean "hypercalls"?'],
    ['counters = 1', '"counters" needs a name, as in counters.hypercalls'],
    ['irr.x = 1', '"irr" has no member "x"'],
    ['memory[0x10].u16x = 1', 'unknown size "u16x": u8, u16, u32 or u64'],
    ['preserved rbx, cr0', '"preserved" knows general registers, rip and rflags, not cr0'],
    ['preserved rbx, r88', 'unknown register "r88"; did you mean "r8"?'],
    ['preserved r11-r8', 'register range r11-r8 runs backwards'],
    ['events = 1', '"events" needs a name, as in events.kvm_apic_ipi'],
    ['fastpath.completion = REENTER', '"REENTER" is none of SKIP_EMUL_INS, REENTER_GUEST, EXIT_HANDLED'],
    ['vcpu[1].mp = sleeping', '"sleeping" is none of runnable, uninitialized, init-received, halted'],
    [
      'end = halt',
      '"halt" is none of exit, halted, budget, shutdown, reset, power-off, host-bug, internal-error; did you mean "halted"?',
    ],
    ['console = text', 'expected text in double quotes, found "text"'],
    ['console = "\\q"', 'unknown escape "\\q"'],
  ])('refuses "%s"', (text, message) => {
    expect(messageOf(() => expectationOf(text))).toBe(`a.S:7: ${message} in "expect: ${text}"`);
  });
});

describe('parseSize and parseIds', () => {
  it('knows powers of 1024', () => {
    expect(['16', '0x10', '16k', '16M', '2G'].map(parseSize)).toEqual([16, 16, 16384, 2 ** 24, 2 ** 31]);
    expect(['', '-1', '1.5M', '16MB', 'x'].map(parseSize)).toEqual(Array(5).fill(undefined));
  });

  it('limits lists of ids', () => {
    const fail = (message: string): never => {
      throw new Error(message);
    };
    expect(parseIds('0, 0x10-0x12', fail)).toEqual([0, 16, 17, 18]);
    expect(() => parseIds('0-4294967295', fail)).toThrow('more than 4096 ids');
    expect(() => parseIds('1,,2', fail)).toThrow('"" is not an id or a range of ids such as 64-70');
  });
});
