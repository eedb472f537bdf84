import { describe, expect, it } from 'vitest';
import { judgeOutput, machineOf, parseUnittests, skipReason } from './kut.ts';

const CFG = `
# a comment
[x2apic]
file = apic.flat
smp = 2
qemu_params = -cpu qemu64,+x2apic,+tsc-deadline
arch = x86_64
timeout = 30
groups = apic vmexit

#[init]
#file = init.flat

[vmexit_cpuid]
file = vmexit.flat
test_args = 'cpuid'
check = /sys/module/kvm/parameters/enable_pmu=Y /proc/sys/kernel/nmi_watchdog=0
`;

it('the host’s time in arguments is that of the VM', () => {
  const [configuration] = parseUnittests('[kvmclock_test]\nfile = kvmclock_test.flat\ntest_args = "100 `date +%s`"\n');
  expect(configuration.args).toBe('100 1577836800');
});

describe('unittests.cfg', () => {
  it('gives configurations with the suite’s defaults', () => {
    expect(parseUnittests(CFG)).toEqual([
      {
        name: 'x2apic',
        file: 'apic.flat',
        smp: 2,
        args: '',
        parameters: '-cpu qemu64,+x2apic,+tsc-deadline',
        groups: ['apic', 'vmexit'],
        arch: 'x86_64',
        timeout: 30,
        check: [],
      },
      {
        name: 'vmexit_cpuid',
        file: 'vmexit.flat',
        smp: 1,
        args: 'cpuid',
        parameters: '',
        groups: [],
        arch: '',
        timeout: 90,
        check: ['/sys/module/kvm/parameters/enable_pmu=Y', '/proc/sys/kernel/nmi_watchdog=0'],
      },
    ]);
  });

  const [x2apic, cpuid] = parseUnittests(CFG);
  it.each([
    ['another architecture', { ...x2apic, arch: 'i386' }, 'i386 only'],
    ['not run by default', { ...x2apic, groups: ['nodefault'] }, 'marked as manual run only'],
    ['a precondition that does not hold', cpuid, '/sys/module/kvm/parameters/enable_pmu is not Y'],
    ['nested virtualization', { ...x2apic, parameters: '-cpu max,+svm' }, 'no nested virtualization'],
    ['devices that are missing', { ...x2apic, parameters: '-device intel-iommu,intremap=on' }, 'no IOMMU'],
    ['nothing in the way', x2apic, undefined],
  ])('skips for a reason: %s', (_, configuration, reason) => {
    expect(skipReason(configuration, 'x86_64', false)).toBe(reason);
  });

  it('runs what is not run by default on request', () => {
    expect(skipReason({ ...x2apic, groups: ['nodefault'] }, 'x86_64', true)).toBeUndefined();
  });
});

it.each([
  ['-cpu max,vendor=GenuineIntel', { cpu: 'max,vendor=GenuineIntel', vendor: 'intel', memory: undefined, pit: true }],
  ['-machine pit=off -m 2048', { cpu: '', vendor: undefined, memory: '2048M', pit: false }],
  ['-cpu host -m 1g', { cpu: 'host', vendor: undefined, memory: '1G', pit: true }],
])('QEMU parameters %s', (parameters, machine) => {
  expect(machineOf(parameters)).toEqual(machine);
});

describe('a verdict', () => {
  const output = 'enabling apic\r\nPASS: one\r\nFAIL: two\r\nSKIP: three\r\nvmcall 1181\r\nSUMMARY: 3 tests\r\n';
  it('counts sub-results and reads cycles', () => {
    expect(judgeOutput('x', 1, output, '', 2)).toEqual({
      name: 'x',
      status: 'FAIL',
      reason: '1 of 2 sub-results fail',
      seconds: 2,
      pass: 1,
      fail: 1,
      skip: 1,
      expectedFail: 0,
      failures: ['two'],
      cycles: { vmcall: 1181 },
    });
  });
  it.each([
    [0, '', 'PASS', ''],
    [38, '', 'SKIP', 'the image skips itself'],
    [63, '', 'FAIL', 'the image aborts'],
    [7, '', 'FAIL', 'the image ends with status 7'],
    [124, 'no end after 90 s', 'FAIL', 'no end after 90 s'],
  ])('of exit status %i', (status, message, verdict, reason) => {
    expect(judgeOutput('x', status, 'PASS: one\n', message, 0)).toMatchObject({ status: verdict, reason });
  });
});
