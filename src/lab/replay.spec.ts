import { mkdtempSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { KvmscopeError } from '../errors.ts';
import { type IcrCase, parseRecording } from './recording.ts';
import { findRecordings, type ReplayDifference, replay, replayRecording } from './replay.ts';

const X2_META = { config: 'x2', note: 'x2APIC', ids: [0, 1, 2, 3] };
const file = (meta: object, ...lines: object[]): string =>
  [{ meta }, ...lines].map((line) => JSON.stringify(line)).join('\n');

/** Differences of one line, by field. */
async function differences(meta: object, line: object, kvm = '6.18'): Promise<Record<string, unknown>> {
  const { mismatches } = await replayRecording(parseRecording(file(meta, line), 'r.jsonl'), { kvm });
  const all: readonly ReplayDifference[] = mismatches[0]?.differences ?? [];
  return Object.fromEntries(all.map(({ field, expected, actual }) => [field, [expected, actual]]));
}

const icr = (value: string, fields: object = {}): object => ({
  via: 'KVM_SET_MSRS',
  from: 0,
  base: 'wfs',
  icr: value,
  gp: 0,
  rb: value,
  ch: {},
  ...fields,
});
const call = (fields: object = {}): object => ({
  bits: 64,
  base: 'wfs',
  nr: 10,
  lo: '0xe',
  hi: '0x0',
  min: '0x0',
  icr: '0xd1',
  exit: 'step',
  ret: 3,
  rax: '0x3',
  ch: { 1: { irr: [0xd1] }, 2: { irr: [0xd1] }, 3: { irr: [0xd1] } },
  ...fields,
});

describe('what is compared', () => {
  it('agrees with a right recording of every kind', async () => {
    expect(await differences(X2_META, icr('0x200000031', { ch: { 2: { irr: [0x31] } } }))).toEqual({});
    expect(await differences(X2_META, call())).toEqual({});
    const st = { nmi: 0, smi: 0, init: 0, mp: 2, cs: '0xf000' };
    const seq = { seq: [[3, '0x100000031']], st: { 0: st, 1: { ...st, irr: [0x31] }, 2: st, 3: st } };
    expect(await differences(X2_META, seq)).toEqual({});
    const msr = { msr: '0x808', read: true, value: '0x0', write0: true, 'write1<<32': false, writeffffffff: true };
    expect(await differences(X2_META, msr)).toEqual({});
  });

  it.each<[string, object, Record<string, unknown>]>([
    [
      'an effect that was recorded and does not happen',
      { ch: { 2: { irr: [0x31] }, 1: { nmi: 1 } } },
      { 'ch.1.nmi': [1, undefined] },
    ],
    ['an effect that happens and was not recorded', { ch: {} }, { 'ch.2.irr': [undefined, [0x31]] }],
    ['another vector', { ch: { 2: { irr: [0x32] } } }, { 'ch.2.irr': [[0x32], [0x31]] }],
    ['a vector too many', { ch: { 2: { irr: [0x31, 0x32] } } }, { 'ch.2.irr': [[0x31, 0x32], [0x31]] }],
    [
      'an effect on a vCPU that does not exist',
      { ch: { 2: { irr: [0x31] }, 9: { smi: 1 } } },
      { 'ch.9': [{ smi: 1 }, undefined] },
    ],
    ['#GP', { gp: 1, ch: { 2: { irr: [0x31] } } }, { gp: [1, 0] }],
    ['what is read back', { rb: '0x31', ch: { 2: { irr: [0x31] } } }, { rb: [0x31n, 0x200000031n] }],
    ['an effect that nobody knows', { ch: { 2: { irr: [0x31], xyz: 1 } } }, { 'ch.2.xyz': [1, undefined] }],
  ])('%s', async (_, fields, expected) => {
    expect(await differences(X2_META, icr('0x200000031', fields))).toEqual(expected);
  });

  it('RAX and the signed result of a hypercall', async () => {
    expect(await differences(X2_META, call({ ret: 2, rax: '0x2' }))).toEqual({ rax: [2n, 3n], ret: [2, 3] });
    expect(await differences(X2_META, call({ icr: '0x8d1', ch: {} }))).toEqual({
      rax: [3n, 0xffff_ffff_ffff_ffean],
      ret: [3, -22],
    });
  });

  it('every field of a final state, and every key of an MSR', async () => {
    const st = { nmi: 1, smi: 0, init: 0, mp: 2, cs: '0x100' };
    const meta = { ...X2_META, ids: [0] };
    expect(await differences(meta, { seq: [[0, '0x40031']], st: { 0: st } })).toEqual({
      'st.0.nmi': [1, 0],
      'st.0.cs': ['0x100', '0xf000'],
      'st.0.irr': [undefined, [0x31]],
    });
    expect(await differences(meta, { msr: '0x80d', read: false, value: '0x2', write1: true })).toEqual({
      read: [false, true],
      value: [2n, 1n],
      write1: [true, false],
    });
  });

  it('the LDRs of the meta line, which follow from the id in x2APIC mode', async () => {
    const meta = { ids: [0, 17], apics: [{ base: '0xfee00d00' }, { base: '0xfee00c00', ldr: '0x10001' }] };
    expect(await differences(meta, icr('0x0'))).toEqual({ 'apics.17.ldr': [0x10001n, 0x10002n] });
  });

  it('changed APIC registers, by offset', async () => {
    const level = icr('0x20000c031', { ch: { 2: { irr: [0x31], tmr: [0x31], r080: '0x10' } } });
    expect(await differences(X2_META, level)).toEqual({ 'ch.2.r080': ['0x10', undefined] });
  });

  it('bits of TMR that an edge-triggered message clears', async () => {
    const meta = { ...X2_META, note: 'x2APIC; vCPUs other than 0 start with TMR {49}, IRR {50}, ISR {68}' };
    const ch = { 2: { irr: [49], tmr_clr: [49] } };
    expect(await differences(meta, icr('0x200000031', { ch }))).toEqual({});
  });

  it('the SIPI vector, also 0xf0, which leaves CS as it was', async () => {
    expect(await differences(X2_META, icr('0x200000612', { ch: { 2: { mp: 0, sipi: 0x12 } } }))).toEqual({});
    expect(await differences(X2_META, icr('0x2000006f0', { ch: { 2: { mp: 0 } } }))).toEqual({});
  });
});

describe('how cases are performed', () => {
  it('a guest that is refused reaches the handler of #GP', async () => {
    const refused = { via: 'guest-wrmsr', gp: 1, rb: '0x0' };
    expect(await differences(X2_META, icr('0x200100031', { ...refused, exit: 'vec 13' }))).toEqual({});
    expect(await differences(X2_META, icr('0x200100031', { ...refused, exit: 'next' }))).toEqual({
      exit: ['next', 'vec 13'],
    });
    expect(await differences(X2_META, icr('0x200100031', { ...refused, exit: 'vec 13' }), '6.4')).toMatchObject({
      gp: [1, 0],
      exit: ['vec 13', 'next'],
    });
  });

  it('a guest may send from any vCPU, and to itself', async () => {
    const self = icr('0x40031', { via: 'guest-wrmsr', from: 3, exit: 'next', ch: { 3: { irr: [0x31] } } });
    const init = icr('0x300000500', { via: 'guest-wrmsr', from: 3, exit: 'next', ch: { 3: { init: 1, mp: 2 } } });
    const again = icr('0x31', { via: 'guest-wrmsr', from: 3, exit: 'next', ch: { 0: { irr: [0x31] } } });
    const text = file(X2_META, self, init, again, self, init);
    const { mismatches } = await replayRecording(parseRecording(text, 'r.jsonl'), { kvm: '6.18' });
    expect(mismatches).toEqual([]);
  });

  it('MMIO goes to the APIC base of the meta line', async () => {
    const apic = (base: string, id: string, ldr: string): object => ({
      base,
      id,
      ldr,
      dfr: '0xffffffff',
      svr: '0x1ff',
    });
    const apics = [apic('0xfee01900', '0x0', '0x1000000'), apic('0xfee00800', '0x5000000', '0x2000000')];
    const meta = { config: 'xapic-moved', note: 'xAPIC', ids: [0, 1], apics };
    const to = (dest: string, ch: object): object => icr(dest, { via: 'guest-mmio', exit: 'next', ch });
    expect(await differences(meta, to('0x500000000000031', { 1: { irr: [0x31] } }))).toEqual({});
    expect(await differences(meta, to('0x100000000000031', {}))).toEqual({});
    expect(await differences(meta, to('0x200000000000831', { 1: { irr: [0x31] } }))).toEqual({});
  });

  it('a call from CPL 3 and from 32-bit code', async () => {
    const refused = { ret: -1, rax: '0xffffffffffffffff', ch: {} };
    expect(await differences({ ...X2_META, note: 'the caller at CPL 3', bits: 64 }, call(refused))).toEqual({});
    const narrow = { ...refused, bits: 32, rax: '0xffffffff' };
    expect(await differences({ ...X2_META, note: 'the caller at CPL 3', bits: 32 }, call(narrow))).toEqual({});
    expect(await differences(X2_META, call({ bits: 32, nr: '0xffffffff0000000a' }))).toEqual({});
  });

  it('a refused feature counts with enforcement only', async () => {
    const refused = { ret: -1000, rax: '0xfffffffffffffc18', ch: {} };
    const note = 'x2APIC, KVM_CAP_ENFORCE_PV_FEATURE_CPUID on and CPUID 0x40000001 EAX bit 11 clear';
    expect(await differences({ ...X2_META, note }, call(refused))).toEqual({});
    expect(await differences({ ...X2_META, note: note.replace(' on ', ' off ') }, call())).toEqual({});
    expect(await differences({ ...X2_META, config: 'x2-nofeat' }, call(refused))).toEqual({});
    expect(await differences({ ...X2_META, config: 'x2-feat' }, call())).toEqual({});
  });

  it('APICs described in words', async () => {
    const note = 'all x2APIC; 1 software-disabled (SVR bit 8 clear), 2 globally disabled (APICBASE bit 11 clear)';
    const ch = { 3: { irr: [0xd1] } };
    expect(await differences({ ...X2_META, config: 'x2-dis', note }, call({ ret: 1, rax: '0x1', ch }))).toEqual({});
    const mixed = {
      ...X2_META,
      config: 'mixed',
      note: 'sender 0 x2APIC; 1 xAPIC; 2 xAPIC software-disabled; 3 x2APIC',
    };
    const { vm } = parseRecording(file(mixed, call()), 'r.jsonl');
    expect(vm.apics.map(({ base, svr }) => [base, svr])).toEqual([
      [0xfee00d00n, 0x1ff],
      [0xfee00800n, 0x1ff],
      [0xfee00800n, 0xff],
      [0xfee00c00n, 0x1ff],
    ]);
  });

  it('lowest priority without vector hashing goes to the one that got fewest', async () => {
    // Lowest priority, logical, to ids 1 and 2.
    const twice = [1, 2].map((id) => icr('0x600000931', { ch: { [id]: { irr: [0x31] } } }));
    const text = file({ ...X2_META, vector_hashing: 'N' }, ...twice);
    expect((await replayRecording(parseRecording(text, 'r.jsonl'), { kvm: '6.18' })).mismatches).toEqual([]);
  });

  it('a host that crashes is a mismatch, and the next case runs on another one', async () => {
    const text = file(X2_META, call({ lo: '0x10', ret: 0, rax: '0x0', ch: {} }), call());
    const { mismatches } = await replayRecording(parseRecording(text, 'r.jsonl'), { kvm: '4.19-rc1' });
    expect(mismatches.map(({ line }) => line)).toEqual([2]);
    expect(mismatches[0].differences[0]).toEqual({
      field: 'exit',
      expected: 'step',
      actual: 'host bug pv-ipi-empty-slot',
    });
  });

  it('a VM that this version does not allow is one clear error', async () => {
    await expect(differences({ ids: [0, 5000] }, icr('0x31'))).rejects.toThrow(
      new KvmscopeError('recording', 'r.jsonl:1: APIC id 5000 is not in 0 … 4095, the range of KVM 6.18'),
    );
  });

  it('the version is the recorded kernel’s unless one is asked for', async () => {
    const era = async (kernel?: string, kvm?: string): Promise<string> => {
      const meta = kernel === undefined ? X2_META : { ...X2_META, kernel: `Linux ${kernel}.7-foo x86_64` };
      return (await replayRecording(parseRecording(file(meta, call()), 'r.jsonl'), kvm === undefined ? {} : { kvm }))
        .era;
    };
    expect(await era('6.12')).toBe('6.12');
    expect(await era('6.12', '5.10')).toBe('5.10');
    expect(await era('9.3')).toBe('7.1');
    expect(await era()).toBe('6.18');
    await expect(era('4.4')).rejects.toThrow('r.jsonl: kernel 4.4 is older than all eras; choose one with --kvm');
  });
});

describe('reading', () => {
  it('takes CRLF, blank lines, unknown keys, numbers and other spellings', () => {
    const text = `\uFEFF${file({ ...X2_META, extra: [1] }, icr('0x31', { via: 'guest WRMSR', icr: 49, extra: {} }))}`;
    const { cases } = parseRecording(`${text.replace(/\n/g, '\r\n\r\n')}\r\n\r\n`, 'r.jsonl');
    expect(cases).toHaveLength(1);
    const [only] = cases as IcrCase[];
    expect([only.line, only.via, only.icr]).toEqual([3, 'guest-wrmsr', 49n]);
  });

  const meta = JSON.stringify({ meta: X2_META });
  const line = (fields: object): string => `${meta}\n\n${JSON.stringify(fields)}`;
  it.each<[string, string]>([
    ['', 'r.jsonl: an empty file is no recording'],
    ['mov eax, 1', 'r.jsonl:1: not JSON; a recording holds one JSON object per line'],
    [`${meta}\n{"icr": `, 'r.jsonl:2: not JSON; a recording holds one JSON object per line'],
    ['[1]', 'r.jsonl:1: a line must be a JSON object'],
    [JSON.stringify(icr('0x31')), 'r.jsonl:1: no "meta": the first line of a recording describes the VM'],
    [meta, 'r.jsonl: no cases behind the meta line'],
    [line({ foo: 1 }), 'r.jsonl:3: no case: it has none of "icr", "nr", "seq" and "msr"'],
    [line(icr('0x31', { icr: 'x' })), 'r.jsonl:3: "icr" must be a 64-bit number such as "0x4510", not "x"'],
    [line(icr('0x31', { icr: -1 })), 'r.jsonl:3: "icr" must not be negative, but is -1'],
    [line(icr('0x31', { from: 7 })), 'r.jsonl:3: vCPU 7 is not among the ids of the meta line'],
    [line(icr('0x31', { gp: 2 })), 'r.jsonl:3: "gp" must be at most 1, not 2'],
    [
      line(icr('0x31', { via: 'pigeon' })),
      'r.jsonl:3: "via" must be KVM_SET_MSRS, guest-wrmsr or guest-mmio, not "pigeon"',
    ],
    [line(icr('0x31', { base: 'asleep' })), 'r.jsonl:3: "base" must be wfs or halted, not "asleep"'],
    [line(icr('0x31', { ch: 1 })), 'r.jsonl:3: "ch" must be an object of effects by vCPU id, not 1'],
    [line(icr('0x31', { ch: { a: {} } })), 'r.jsonl:3: "ch" must hold an object for each vCPU id, not {"a":{}}'],
    [line(call({ bits: 16 })), 'r.jsonl:3: "bits" must be 32 or 64, not 16'],
    [line(call({ hi: undefined })), 'r.jsonl:3: "hi" must be a 64-bit number such as "0x4510", not nothing'],
    [line({ seq: [[0]], st: {} }), 'r.jsonl:3: "seq" must hold pairs of sender and ICR value, not [0]'],
    [line({ msr: '0x808', write0: 'yes' }), 'r.jsonl:3: "write0" must be true or false, not "yes"'],
    ['{"meta":{}}', 'r.jsonl:1: "ids" must be a list, not nothing'],
    ['{"meta":{"ids":[]}}', 'r.jsonl:1: "ids" names no vCPU'],
    ['{"meta":{"ids":[1,1]}}', 'r.jsonl:1: "ids" names a vCPU twice'],
    ['{"meta":{"ids":[0],"apics":[]}}', 'r.jsonl:1: "apics" describes 0 APICs for 1 vCPU ids'],
  ])('%j is one clear error', (text, message) => {
    expect(() => parseRecording(text, 'r.jsonl')).toThrow(new KvmscopeError('recording', message));
  });

  it('finds recordings in folders', async () => {
    const folder = mkdtempSync(join(tmpdir(), 'kvmscope-'));
    expect(() => findRecordings([folder])).toThrow(`no recordings (*.jsonl) in ${folder}`);
    expect(() => findRecordings(['/nope'])).toThrow('no such file or folder: /nope');
    writeFileSync(join(folder, 'a.jsonl'), file(X2_META, call(), call({ ret: 1 })));
    writeFileSync(join(folder, 'notes.txt'), '');
    const progress: number[] = [];
    const report = await replay([folder], { kvm: '6.18', onProgress: (done) => progress.push(done) });
    expect([report.cases, report.mismatches, report.pass]).toEqual([2, 1, false]);
    expect(report.files[0].mismatches[0]).toMatchObject({ file: join(folder, 'a.jsonl'), line: 3 });
    expect(progress).toEqual([0]);
  });
});
