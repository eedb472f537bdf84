import { expect, it } from 'vitest';
import { document, JSON_VERSION, runToJson, toJson } from './json.ts';
import { makeRun } from './notebook.fixture.ts';

it('writes 64-bit quantities as hexadecimal strings and leaves undefined fields out', () => {
  expect(toJson({ a: 0xffff_ffff_ffff_fc18n, b: [1, 0n], c: undefined, d: null, e: new Map([['x', 2n]]) })).toEqual({
    a: '0xfffffffffffffc18',
    b: [1, '0x0'],
    d: null,
    e: { x: '0x2' },
  });
});

it('gives a run the documented shape', () => {
  const place = { file: 'g.S', line: 3, source: '  vmcall' };
  const run = runToJson(makeRun(), (address) => (address === 0x1021n ? place : undefined)) as Record<string, unknown>;
  expect(Object.keys(run)).toEqual([
    'era',
    'vendor',
    'seed',
    'steps',
    'end',
    'exits',
    'trace',
    'vcpus',
    'counters',
    'console',
    'reports',
    'notes',
  ]);
  const [vmcall, wrmsr] = run.exits as Record<string, unknown>[];
  expect(vmcall).toMatchObject({
    n: 1,
    vcpu: 0,
    name: 'vmcall',
    reason: 18,
    rip: '0x1021',
    source: { file: 'g.S', line: 3, text: 'vmcall' },
    before: { rax: '0xa', rbx: '0xe', rip: '0x1021' },
    after: { rax: '0x3', rbx: '0xe', rip: '0x1024' },
  });
  expect(vmcall.fastpath).toBeUndefined();
  expect(wrmsr.fastpath).toEqual({ taken: true, reason: 'taken', completion: 'REENTER_GUEST' });
  expect((run.trace as unknown[])[1]).toEqual({
    vcpu: 0,
    event: 'kvm_hypercall',
    nr: '0xa',
    a0: '0xe',
    a1: '0x0',
    a2: '0x0',
    a3: '0xd1',
    text: 'nr 0xa a0 0xe a1 0x0 a2 0x0 a3 0xd1',
    time: 2000,
  });
  const [first] = run.vcpus as Record<string, Record<string, unknown>>[];
  expect(first.registers.cr0).toBe('0x80000011');
  expect(first.start.rsp).toBe('0x80000');
  expect(first.lapic).toMatchObject({ mode: 'x2apic', icr: '0x3000000d1', irr: [] });
});

it('is valid JSON with the version first', () => {
  const text = document('run', true, { runs: [runToJson(makeRun())] });
  expect(text.startsWith(`{\n  "kvmscope": ${JSON_VERSION},\n  "command": "run",\n  "ok": true,`)).toBe(true);
  expect(JSON.parse(text).runs[0].end).toEqual({ kind: 'halted' });
});
