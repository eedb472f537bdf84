/** The library API as the README shows it, and the matchers. */
import '../src/vitest.ts';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, describe, expect, it } from 'vitest';
import {
  createVm,
  describeChecks,
  evaluate,
  KvmscopeError,
  openProgram,
  parseHeader,
  runProgram,
  verifyPrograms,
} from '../src/index.ts';

const SEND_TO_THREE = `
# One hypercall, three targets.
# vcpus: 4   kvm: 5.6..6.18
# expect: rax = 3
# expect: vcpu[1..3].irr = {0xd1}
    mov eax, 10             # KVM_HC_SEND_IPI
    mov ebx, 0b1110         # APIC IDs 1, 2 and 3
    xor ecx, ecx
    xor edx, edx            # bit 0 of RBX is APIC ID 0
    mov esi, 0xd1           # fixed, vector 0xd1
    vmcall
    hlt
`;

const folder = mkdtempSync(join(tmpdir(), 'kvmscope-api-'));
afterAll(() => rmSync(folder, { recursive: true }));

/** A file with this text in a folder of the test's own. */
function fileWith(text: string, name = 'send.S'): string {
  const path = join(folder, name);
  writeFileSync(path, text);
  return path;
}

describe('createVm', () => {
  it('runs a program and shows what KVM did with it', async () => {
    const vm = await createVm({ vcpus: 4, kvm: '6.18' });
    vm.load(SEND_TO_THREE);
    const run = vm.run();

    expect(run).toHaveRegisters({ rax: 3n, rbx: 0b1110 });
    expect(run).toHaveRegisters(1, { rip: 0x77001n });
    expect(run).toHaveExits({ vmcall: 1, hypercall: 1, hlt: 1 });
    expect(run).toHaveIrr(1, [0xd1]);
    expect(run).toHaveAccepted(3, [0xd1]);
    expect(run).toHaveAccepted(0, []);
    expect(run).toEndWith('halted');
    expect(run).toMeet('vcpu[1..3].irr = {0xd1}');
    expect(run).toMeet('preserved rbx, rcx, rdx, rsi, rdi, rbp, rsp, r8-r15, rflags');
    expect(run.exits.map((exit) => exit.name)).toEqual(['vmcall', 'hlt']);
    vm.dispose();
  });

  it('has matchers that say what differs', async () => {
    const vm = await createVm({ vcpus: 4 });
    vm.load(SEND_TO_THREE);
    const run = vm.run();
    expect(() => expect(run).toHaveRegisters({ rax: 4n, rbx: 1n })).toThrow(
      'registers of vCPU 0 differ:\n  rax: expected 0x4, actual 0x3\n  rbx: expected 0x1, actual 0xe',
    );
    expect(() => expect(run).toHaveExits({ vmcall: 2 })).toThrow('vmcall: expected 2, actual 1');
    expect(() => expect(run).toHaveIrr(0, [1])).toThrow('IRR of vCPU 0 differ:\n  expected {0x1}, actual {}');
    expect(() => expect(run).toHaveAccepted(2, [])).toThrow('expected [], actual [0xd1]');
    expect(() => expect(run).toEndWith('exit 0')).toThrow('expected exit 0, actual halted');
    expect(() => expect(run).toMeet('vcpu[1].irr = {}')).toThrow('expected {}, actual {0xd1}');
    expect(run).not.toHaveRegisters({ rax: 4n });
    expect(() => expect(run).toHaveRegisters({ rxx: 4n })).toThrow(
      new KvmscopeError('usage', 'unknown register "rxx"'),
    );
    expect(() => expect(run).toHaveIrr(4, [])).toThrow(new KvmscopeError('usage', 'no vCPU 4: the run has 4'));
    vm.dispose();
  });

  it('runs the same program again from the start after another load', async () => {
    const vm = await createVm({ vcpus: 4 });
    const program = vm.load(SEND_TO_THREE);
    const first = vm.run();
    vm.load(program);
    const second = vm.run();
    expect(second.trace).toEqual(first.trace);
    expect(second.vcpus).toEqual(first.vcpus);
    vm.dispose();
  });
});

describe('openProgram and runProgram', () => {
  it('take the configuration and the expectations from the header', async () => {
    const opened = openProgram(fileWith(SEND_TO_THREE));
    expect(opened.header.title).toBe('One hypercall, three targets.');
    expect(opened.eras[0]).toBe('5.6');
    expect(opened.eras.at(-1)).toBe('6.18');
    expect(opened.options).toMatchObject({ vcpus: 4, kvm: '6.18', vendor: 'intel' });
    const { vm, run, checks, pass } = await runProgram(opened, { kvm: '5.6' });
    expect(run.era).toBe('5.6');
    expect(checks.map((check) => check.pass)).toEqual([true, true]);
    expect(pass).toBe(true);
    vm.dispose();
  });

  it('let explicit options win', async () => {
    const opened = openProgram(fileWith(SEND_TO_THREE), { vcpus: 2, kvm: '4.19' });
    expect(opened.options).toMatchObject({ vcpus: 2, kvm: '4.19' });
    const { vm, checks, pass } = await runProgram(opened);
    expect(pass).toBe(false);
    expect(describeChecks(checks)).toContain('    expected  3\n    actual    1');
    expect(describeChecks(checks)).toContain('there is no vCPU 2: the VM has 2');
    vm.dispose();
  });

  it('evaluate a header of one program on a run of another', async () => {
    const vm = await createVm({ vcpus: 4 });
    vm.load('hlt');
    const run = vm.run();
    const { expectations } = parseHeader(SEND_TO_THREE, 'send.S');
    expect(evaluate(expectations, run).map(({ pass, actual }) => ({ pass, actual }))).toEqual([
      { pass: false, actual: '0' },
      { pass: false, actual: 'vcpu[1]: {}, vcpu[2]: {}, vcpu[3]: {}' },
    ]);
    vm.dispose();
  });

  it.each([
    ['missing.S', undefined, 'not-found', /^no such file: .*missing\.S$/],
    ['.', undefined, 'not-found', /is a (directory|folder)/],
    ['header.S', '# expect: rxx = 3\nhlt', 'header', /header\.S:1: unknown register "rxx"; did you mean "rax"\?/],
    ['symbol.S', '# expect: rax = nowhere\nhlt', 'header', /symbol\.S:1: the program has no symbol "nowhere"$/],
    ['era.S', '# kvm: >=3.2\nhlt', 'header', /era\.S:1: kvm: unknown KVM era '3\.2'/],
    ['none.S', '# kvm: >=5.6 <5.6\nhlt', 'header', /none\.S:1: kvm: no era fits '>=5\.6 <5\.6'/],
    ['cpl.S', '# mode: real16  cpl: 3\nhlt', 'header', /cpl\.S: mode real16 has no CPL 3/],
    ['syntax.S', 'mov rax,\n', 'syntax', /syntax\.S:1:/],
  ])('refuse %s with one clear line', (name, text, code, message) => {
    const path = text === undefined ? join(folder, name) : fileWith(text, name);
    let thrown: unknown;
    try {
      openProgram(path);
    } catch (error) {
      thrown = error;
    }
    expect(thrown).toBeInstanceOf(KvmscopeError);
    expect((thrown as KvmscopeError).message).toMatch(message);
    expect((thrown as KvmscopeError).code).toBe(code);
  });
});

describe('verifyPrograms', () => {
  it('runs every era of the range and reports what failed', async () => {
    const good = fileWith(SEND_TO_THREE, 'a-good.S');
    const bad = fileWith(SEND_TO_THREE.replace('rax = 3', 'rax = 4'), 'b-bad.S');
    const broken = fileWith('# vcpu: 4\nhlt', 'c-broken.S');
    const other = fileWith('# vendor: amd\n# expect: end = halted\nhlt', 'd-amd.S');
    const report = await verifyPrograms([good, bad, broken, other], { vendor: 'intel' });
    expect(report.programs.map(({ path, status }) => [path, status])).toEqual([
      [good, 'pass'],
      [bad, 'fail'],
      [broken, 'error'],
      [other, 'skip'],
    ]);
    expect(report).toMatchObject({ passed: 1, failed: 1, errors: 1, skipped: 1, pass: false });
    expect(report.programs[0].runs[0]).toMatchObject({ era: '5.6', vendor: 'intel', end: 'halted', pass: true });
    expect(report.runs).toBe(2 * report.programs[0].runs.length);
    expect(report.checks).toBe(2 * report.runs);
    expect(report.programs[2].error?.message).toMatch(/c-broken\.S:1: unknown header key "vcpu"/);
  });

  it('runs one era on request and skips programs that exclude it', async () => {
    const path = fileWith(SEND_TO_THREE, 'one.S');
    const inside = await verifyPrograms([path], { kvm: '5.7', seed: 9 });
    expect(inside.programs[0].runs.map(({ era, seed }) => [era, seed])).toEqual([['5.7', 9]]);
    const outside = await verifyPrograms([path], { kvm: '4.19' });
    expect(outside).toMatchObject({ runs: 0, skipped: 1, pass: false });
    await expect(verifyPrograms([path], { kvm: '3.2' })).rejects.toThrow(/^unknown KVM era '3\.2'/);
    await expect(verifyPrograms([join(folder, 'nowhere')])).rejects.toThrow(/^no such file or folder: /);
  });
});
