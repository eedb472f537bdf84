/** What the commands print, run as a user runs them. */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { main } from '../../src/cli/main.ts';
import { featureNames, MISSING, OPCODES } from '../../src/index.ts';
import { noPaint, type Paint } from '../../src/trace/text.ts';
import { kvmscope, ROOT, temporaryFile } from './spawn.ts';

const THREE = 'guest/pv-ipi/send-to-three.S';
const UNICAST = 'guest/fastpath/icr-unicast.S';

/** Runs a command in this process. */
async function inProcess(args: string[], width = 100, paint: Paint = noPaint) {
  let stdout = '';
  let stderr = '';
  const out = (text: string): void => {
    stdout += text;
  };
  const err = (text: string): void => {
    stderr += text;
  };
  const status = await main(args, { width, paint, out, err });
  return { status, stdout, stderr };
}

describe('run', () => {
  it('shows each exit, the final registers and APICs, the counters and the expectations', () => {
    const { status, stdout, stderr } = kvmscope('run', THREE);
    expect(stderr).toBe('');
    expect(status).toBe(0);
    const lines = stdout.split('\n');
    expect(lines[0]).toBe(`${THREE}  One hypercall sends an interrupt to three processors.`);
    expect(lines[1]).toBe('KVM 7.1 on Intel, 4 vCPUs, long64, seed 1');
    expect(stdout).toMatch(/^#1 {2}vCPU 0 {2}VMCALL {2}send-to-three\.S:\d+: vmcall/m);
    expect(stdout).toContain(
      '    sent      KVM_HC_SEND_IPI: vector 0xd1, Fixed, edge, to APIC ids 1-3 (bitmap 0xe from id 0x0)\n',
    );
    expect(stdout).toContain('    reached   vCPUs 1-3: vector 0xd1 (Fixed, edge)\n');
    expect(stdout).toMatch(/^ {4}back {6}→ 3 {2}rax 0x3 {2}rip 0x1016 {2}others unchanged$/m);
    expect(stdout).toContain('exits     2: hlt 1, vmcall 1\n');
    expect(stdout).toMatch(/^vCPUs 1-3 {2}halted, 64-bit mode$/m);
    expect(stdout).toMatch(/^ {4}APIC {6}x2APIC {2}IRR \{0xd1\} /m);
    expect(stdout).toMatch(/^expectations {2}(\d+) of \1 hold$/m);
    for (const register of [
      'rax',
      'rbx',
      'rcx',
      'rdx',
      'rsi',
      'rdi',
      'rbp',
      'rsp',
      'r8',
      'r15',
      'rip',
      'rflags',
      'cr3',
      'efer',
    ]) {
      expect(stdout).toMatch(new RegExp(`\\b${register} 0x`));
    }
  });

  it('shows the fastpath verdict of the era', async () => {
    expect((await inProcess(['run', UNICAST, '--kvm', '6.18'])).stdout).toContain('    fastpath  taken before ');
    expect((await inProcess(['run', UNICAST, '--kvm', '5.4'])).stdout).not.toContain('fastpath  taken');
    const slow = await inProcess(['run', 'guest/fastpath/logical-destination.S', '--kvm', '5.6']);
    expect(slow.stdout).toContain('    fastpath  not taken: logical destination\n');
  });

  it('runs every era that is asked for, one after the other', async () => {
    const { status, stdout } = await inProcess([
      'run',
      UNICAST,
      '--kvm',
      '4.19,5.6',
      '--kvm',
      'v7.1',
      '--vendor',
      'amd',
    ]);
    expect(status).toBe(0);
    expect(stdout.match(/^KVM .*$/gm)).toEqual([
      'KVM 4.19 on AMD, 4 vCPUs, long64, seed 1',
      'KVM 5.6 on AMD, 4 vCPUs, long64, seed 1',
      'KVM 7.1 on AMD, 4 vCPUs, long64, seed 1',
    ]);
  });

  it('says so when the program was not written for that era', async () => {
    const { stdout } = await inProcess(['run', 'guest/fastpath/reserved-bits.S', '--kvm', '4.19']);
    expect(stdout).toMatch(/^note: the program's header asks for KVM >=/m);
  });

  it('limits the exits it describes and counts the others', async () => {
    const { stdout } = await inProcess(['run', 'guest/smp/count-in-memory.S', '--exits', '2']);
    expect(stdout.match(/^#\d+/gm)).toEqual(['#1', '#2']);
    expect(stdout).toMatch(/^… and [\d,]+ more exits: /m);
    const all = await inProcess(['run', 'guest/smp/count-in-memory.S', '--exits', 'all']);
    expect(all.stdout).not.toContain('more exit');
    expect(all.stdout).toMatch(/→ vCPU \d enters the guest with kvm_inj_virq: IRQ 0xd1/);
  });

  it('prints lines within the width, at 100 columns and less', async () => {
    for (const width of [60, 100]) {
      const { stdout } = await inProcess(['run', UNICAST], width);
      const long = stdout.split('\n').filter((line) => line.length > width);
      expect(long).toEqual([]);
    }
  });

  it('changes nothing but colour on a terminal', async () => {
    const marked = await inProcess(['run', THREE], 100, (tone, text) => (tone === 'plain' ? text : `«${text}»`));
    const plain = await inProcess(['run', THREE]);
    expect(marked.stdout).toContain('«end»');
    expect(marked.stdout.replaceAll(/[«»]/g, '')).toBe(plain.stdout);
    expect(kvmscope('run', THREE).stdout).toBe(plain.stdout);
  });

  it('hands MAP_GPA_RANGE to user space on request', async () => {
    const path = temporaryFile('map.S', '    .code64\n    mov eax, 12\n    mov ecx, 1\n    vmcall\n    hlt\n');
    const report = async (...flags: string[]): Promise<string> => (await inProcess(['run', path, ...flags])).stdout;
    expect(await report()).not.toContain('KVM_EXIT_HYPERCALL');
    expect(await report('--exit-hypercalls', '0x1000')).toContain('reason KVM_EXIT_HYPERCALL (3)');
  });

  it('takes the machine from options where they are given', async () => {
    const path = temporaryFile('id.S', '    .code64\n    mov ecx, 0x802\n    rdmsr\n    out 0xe8, eax\n    hlt\n');
    const { status, stdout } = await inProcess([
      'run',
      path,
      '--ids',
      '7,0',
      '--kvm',
      '6.12',
      '--seed',
      '0x2a',
      '--memory',
      '4M',
      '--aps',
      'run',
    ]);
    expect(status).toBe(0);
    expect(stdout).toContain('KVM 6.12 on Intel, 2 vCPUs, long64, seed 42\n');
    expect(stdout).toMatch(/^reports {3}(7 0|0 7)$/m);
  });

  it('works with 1, 80, 255 and 4096 vCPUs', async () => {
    for (const [vcpus, text] of [
      ['1', '1 vCPU'],
      ['80', '80 vCPUs'],
      ['255', '255 vCPUs'],
      ['4096', '4,096 vCPUs'],
    ]) {
      const { stdout } = await inProcess(['run', THREE, '--vcpus', vcpus, '--memory', '64M']);
      expect(stdout).toContain(`KVM 7.1 on Intel, ${text}, `);
      expect(stdout).toContain('every vCPU waits and nothing is pending');
      expect(stdout.match(/^vCPUs? /gm)?.length).toBeLessThanOrEqual(3);
    }
  });
});

describe('run --trace', () => {
  it('prints the lines of the era, the same bytes for the same seed', async () => {
    const args = ['run', 'guest/smp/ping-pong.S', '--trace', '--seed', '7'];
    const first = await inProcess(args);
    expect((await inProcess(args)).stdout).toBe(first.stdout);
    expect(first.stdout).toMatch(
      /^ {7}CPU 0\/KVM-1000 {2}\[000\] {5}0\.000000001: kvm_entry: +vcpu 0, rip 0x[0-9a-f]+ intr_info /m,
    );
    expect(first.stdout).not.toMatch(/^#1 /m);
    const other = await inProcess([...args.slice(0, -1), '8']);
    expect(other.stdout).not.toBe(first.stdout);
  });
});

describe('--json', () => {
  const json = async (args: string[]) => {
    const { status, stdout, stderr } = await inProcess([...args, '--json']);
    expect(stderr).toBe('');
    const document = JSON.parse(stdout);
    expect(document).toMatchObject({ kvmscope: 1, command: args[0], ok: true });
    expect(status).toBe(0);
    return document;
  };

  it('run: one entry per era with exits, vCPUs and expectations', async () => {
    const document = await json(['run', THREE, '--kvm', '5.6,6.18']);
    expect(document.runs.map((run: { era: string }) => run.era)).toEqual(['5.6', '6.18']);
    const [run] = document.runs;
    expect(run.pass).toBe(true);
    expect(run.exits[0]).toMatchObject({
      name: 'vmcall',
      rip: '0x1013',
      bits: 64,
      before: { rax: '0xa', rbx: '0xe' },
      after: { rax: '0x3' },
      source: { file: THREE, text: expect.stringMatching(/^vmcall/) },
    });
    expect(run.vcpus.map((vcpu: { lapic: { irr: number[] } }) => vcpu.lapic.irr)).toEqual([[], [0xd1], [0xd1], [0xd1]]);
    expect(run.expectations[0]).toMatchObject({ text: 'rax = 3', pass: true, expected: '3', actual: '3' });
  });

  it('a failed run is ok: false with exit code 1', async () => {
    const path = temporaryFile('wrong.S', '# expect: rax = 4\n    .code64\n    hlt\n');
    const { status, stdout } = await inProcess(['run', path, '--json']);
    expect(status).toBe(1);
    expect(JSON.parse(stdout)).toMatchObject({
      ok: false,
      runs: [{ pass: false, expectations: [{ actual: '0', expected: '4' }] }],
    });
  });

  it('test: programs with their runs', async () => {
    const document = await json(['test', THREE, UNICAST, '--kvm', '6.18', '--vendor', 'intel']);
    expect(document).toMatchObject({ passed: 2, failed: 0, errors: 0, skipped: 0, runs: 2 });
    expect(document.programs[0]).toMatchObject({
      path: UNICAST,
      status: 'pass',
      runs: [{ era: '6.18', vendor: 'intel', end: 'halted' }],
    });
  });

  it('asm: segments, symbols and lines', async () => {
    const document = await json(['asm', THREE]);
    expect(document.entry).toBe('0x1000');
    expect(document.segments[0].bytes).toMatch(/0f01c1f4$/);
    expect(document.symbols._start).toBe('0x1000');
    expect(document.lines.at(-1)).toMatchObject({ address: '0x1016', length: 1, file: THREE });
  });

  it('cpu: features, with --list forms and what is missing', async () => {
    const document = await json(['cpu']);
    expect([document.vendor, document.features, document.forms]).toEqual(['intel', featureNames('intel'), undefined]);
    const all = await json(['cpu', '--list']);
    expect(all.forms).toHaveLength(OPCODES.length);
    expect(all.forms).toContainEqual({ opcode: '0F A2', mnemonic: 'cpuid', operands: [], features: [] });
    expect(all.missing).toEqual(MISSING);
  });

  it('eras: every version with every switch', async () => {
    const document = await json(['eras']);
    expect(document.eras[0].name).toBe('4.19-rc1');
    expect(Object.keys(document.eras[0].switches)).toEqual(
      document.switches.map((item: { name: string }) => item.name),
    );
  });
});

describe('test', () => {
  it('gives one line per program and a summary', async () => {
    const { status, stdout } = await inProcess(['test', 'guest/pv-ipi', '--kvm', '6.18']);
    expect(status).toBe(0);
    expect(stdout).toContain(`✓ ${THREE}  1 run, `);
    expect(stdout).toMatch(/^(\d+) programs: \1 passed \(\1 runs, \d+ checks\)$/m);
  });

  it('shows one failure once, with the eras that have it', async () => {
    const path = temporaryFile('eras.S', '# kvm: 5.5..5.7\n# expect[kvm>=5.6]: rax = 1\n    .code64\n    hlt\n');
    const { status, stdout } = await inProcess(['test', path]);
    expect(status).toBe(1);
    expect(stdout).toContain('    on 5.6 intel, 5.7 intel\n');
    expect(stdout).toMatch(/expected +1\n +actual +0\n/);
    expect(stdout).toContain('1 program: 0 passed, 1 failed');
  });

  it('skips what is not for the version', async () => {
    const { stdout } = await inProcess(['test', 'guest/fastpath/reserved-bits.S', THREE, '--kvm', '4.19']);
    expect(stdout).toContain('- guest/fastpath/reserved-bits.S  not for this KVM version or vendor\n');
    expect(stdout).toContain('2 programs: 1 passed, 1 skipped');
  });
});

describe('asm, eras, demo', () => {
  it('asm lists addresses, bytes and lines, and repeats warnings on stderr', async () => {
    const { status, stdout } = await inProcess(['asm', THREE]);
    expect(status).toBe(0);
    expect(stdout).toMatch(/^001013 {2}0f 01 c1 +vmcall /m);
    const path = temporaryFile('warn.S', '    .code64\n    .warning "look here"\n    hlt\n');
    const warned = await inProcess(['asm', path]);
    expect(warned.stderr).toBe(`${path}:2: warning: look here\n`);
  });

  it('eras lists versions and switches, or one version', async () => {
    const all = await inProcess(['eras']);
    expect(all.stdout).toMatch(/^ {2}6\.12 +reserved ICR bits raise #GP/m);
    expect(all.stdout).toMatch(/icrReservedGp\n.*\n {4}no; since 6\.12 yes \(71bf395a276f\)\n/);
    const one = await inProcess(['eras', '6.15']);
    expect(one.stdout).toMatch(/^KVM 6\.15\n/);
    expect(one.stdout).toMatch(/^ {2}icrReservedGp +yes$/m);
  });

  it('cpu shows the features of a vendor, by the names of /proc/cpuinfo', async () => {
    const amd = await inProcess(['cpu', '--vendor', 'amd']);
    expect(amd.stdout).toMatch(/^vendor {4}amd\nfeatures {2}/);
    const names = amd.stdout
      .replace(/^.*\nfeatures/, '')
      .split(/\s+/)
      .filter(Boolean);
    expect(names).toEqual(featureNames('amd'));
    expect(names).toContain('clzero');
    expect((await inProcess(['cpu'])).stdout).not.toContain('clzero');
  });

  it('cpu --list shows every row of the opcode table under its feature, and what is missing', async () => {
    const { stdout } = await inProcess(['cpu', '--list']);
    const groups = new Map(
      stdout.split('\n\n').map((text) => [text.split('\n')[0], text.trimEnd().split('\n').slice(1)]),
    );
    expect(groups.get('adx')).toEqual([
      expect.stringMatching(/^ {2}66 0F 38 F6 +adcx +Gy,Ey$/),
      expect.stringMatching(/^ {2}F3 0F 38 F6 +adox +Gy,Ey$/),
    ]);
    expect(groups.get('every x86-64 processor')).toContainEqual(expect.stringMatching(/^ {2}F4 +hlt$/));
    expect(groups.get('monitor  (not in CPUID)')).toHaveLength(2);
    expect(groups.get('missing  (#UD)')).toEqual(MISSING.map((text) => `  ${text}`));
    const listed = [...groups]
      .filter(([name]) => !name?.startsWith('missing'))
      .reduce((n, [, rows]) => n + rows.length, 0);
    const twice = OPCODES.filter((row) => row.attributes.filter((a) => a.startsWith('f:')).length === 2).length;
    expect(listed).toBe(OPCODES.length + twice);
  });

  it('demo tells of a multicast, a unicast and a receiver, on four vCPUs, with nothing failing', () => {
    const { status, stdout, stderr } = kvmscope('demo');
    expect(stderr).toBe('');
    expect(status).toBe(0);
    expect(stdout).toContain('0f 01 c1');
    expect(stdout).toContain('    sent      KVM_HC_SEND_IPI: ');
    expect(stdout).toContain('    sent      ICR write: ');
    expect(stdout).toContain('    fastpath  taken before ');
    expect(stdout).toContain('kvm_inj_virq: IRQ 0x40');
    expect(stdout.match(/4 vCPUs/g)).toHaveLength(2);
    expect(stdout).not.toContain('✗');
  });

  it('help and version are no mistakes', () => {
    expect(kvmscope('--help')).toMatchObject({ status: 0, stderr: '' });
    const { version } = JSON.parse(readFileSync(join(ROOT, 'package.json'), 'utf8'));
    expect(kvmscope('--version')).toEqual({ status: 0, stdout: `${version}\n`, stderr: '' });
  });
});
