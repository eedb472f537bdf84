import { describe, expect, it } from 'vitest';
import type { KvmTraceEvent } from '../kvm/trace.ts';
import { formatEvent, ftraceLines } from './ftrace.ts';
import { makeRun } from './notebook.fixture.ts';

const intel = (era: string) => ({ era, vendor: 'intel' as const });
const amd = (era: string) => ({ era, vendor: 'amd' as const });

const EXIT: KvmTraceEvent = {
  vcpu: 2,
  event: 'kvm_exit',
  reason: 32,
  rip: 0x1010n,
  info1: 0x1n,
  info2: 0x20n,
  intrInfo: 0x80000b0d,
  errorCode: 0,
};
const ENTRY: KvmTraceEvent = { vcpu: 2, event: 'kvm_entry', rip: 0x1000n, intrInfo: 0x800000d1, errorCode: 0 };

describe('kvm_exit and kvm_entry in the words of each kernel', () => {
  it.each([
    ['4.19', 'reason MSR_WRITE rip 0x1010 info 1 20'],
    ['5.5', 'reason MSR_WRITE rip 0x1010 info 1 20'],
    ['5.6-rc1', 'vcpu 2 reason MSR_WRITE rip 0x1010 info 1 20'],
    ['5.8', 'vcpu 2 reason MSR_WRITE rip 0x1010 info 1 20'],
    [
      '5.10',
      'vcpu 2 reason MSR_WRITE rip 0x1010 info1 0x0000000000000001 info2 0x0000000000000020 intr_info 0x80000b0d error_code 0x00000000',
    ],
    [
      '6.14',
      'vcpu 2 reason MSR_WRITE rip 0x1010 info1 0x0000000000000001 info2 0x0000000000000020 intr_info 0x80000b0d error_code 0x00000000 requests 0x0000000000000000',
    ],
  ])('kvm_exit on %s', (era, text) => {
    expect(formatEvent(EXIT, intel(era))).toBe(text);
  });

  it.each([
    ['4.19-rc1', 'vcpu 2'],
    ['5.8', 'vcpu 2'],
    ['5.10', 'vcpu 2, rip 0x1000'],
    ['6.12', 'vcpu 2, rip 0x1000'],
    ['6.14', 'vcpu 2, rip 0x1000 intr_info 0x800000d1 error_code 0x00000000'],
    ['7.1', 'vcpu 2, rip 0x1000 intr_info 0x800000d1 error_code 0x00000000'],
  ])('kvm_entry on %s', (era, text) => {
    expect(formatEvent(ENTRY, intel(era))).toBe(text);
  });

  it('kvm_exit shows vcpu->requests since 6.14', () => {
    const text = (era: string) => formatEvent({ ...EXIT, requests: 0x4000 }, intel(era)).split(' error_code ')[1];
    expect([text('6.13'), text('6.14')]).toEqual(['0x00000000', '0x00000000 requests 0x0000000000004000']);
  });

  it('both name the vCPU by its id, not by its index', () => {
    const sparse = { ...intel('5.6'), vcpus: [0, 5, 64].map((apicId) => ({ apicId })) };
    expect(formatEvent(ENTRY, sparse)).toBe('vcpu 64');
    expect(formatEvent(EXIT, sparse)).toMatch(/^vcpu 64 reason /);
  });

  it('names SVM exit codes as SVM_EXIT_REASONS does', () => {
    const text = (reason: number) => formatEvent({ ...EXIT, reason }, amd('5.6')).split(' rip')[0];
    expect([0x81, 0x7c, 0x78, 0x60, 0x64, 0x46, 0x7f].map(text)).toEqual([
      'vcpu 2 reason hypercall',
      'vcpu 2 reason msr',
      'vcpu 2 reason hlt',
      'vcpu 2 reason interrupt',
      'vcpu 2 reason vintr',
      'vcpu 2 reason UD excp',
      'vcpu 2 reason shutdown',
    ]);
  });

  it('names VMX reason 7 as the era did, and prints the number of a reason without a name', () => {
    expect(formatEvent({ ...EXIT, reason: 7 }, intel('5.5'))).toContain('reason PENDING_INTERRUPT ');
    expect(formatEvent({ ...EXIT, reason: 7 }, intel('5.6'))).toContain('reason INTERRUPT_WINDOW ');
    expect(formatEvent({ ...EXIT, reason: 200 }, intel('5.6'))).toContain('reason 0xc8 ');
  });
});

describe('the other events', () => {
  const NEWEST = intel('7.1');
  const cases: [string, KvmTraceEvent, string][] = [
    [
      'kvm_hypercall',
      { vcpu: 0, event: 'kvm_hypercall', nr: 10n, a0: 14n, a1: 0n, a2: 1n, a3: 0xd1n },
      'nr 0xa a0 0xe a1 0x0 a2 0x1 a3 0xd1',
    ],
    [
      'kvm_msr write',
      { vcpu: 0, event: 'kvm_msr', write: true, msr: 0x830, data: 0x1000000fdn, fault: false },
      'msr_write 830 = 0x1000000fd',
    ],
    [
      'kvm_msr #GP',
      { vcpu: 0, event: 'kvm_msr', write: false, msr: 0x831, data: 0n, fault: true },
      'msr_read 831 = 0x0 (#GP)',
    ],
    [
      'kvm_apic',
      { vcpu: 0, event: 'kvm_apic', write: true, reg: 0x300, value: 0x1000000fdn },
      'apic_write APIC_ICR = 0x1000000fd',
    ],
    [
      'kvm_apic without a name',
      { vcpu: 0, event: 'kvm_apic', write: false, reg: 0x210, value: 1n },
      'apic_read 0x210 = 0x1',
    ],
    [
      'kvm_apic_ipi',
      { vcpu: 0, event: 'kvm_apic_ipi', icrLow: 0xd1, destId: 0x1f },
      'dst 1f vec 209 (Fixed|physical|de-assert|edge|dst)',
    ],
    [
      'kvm_apic_ipi, all fields',
      { vcpu: 0, event: 'kvm_apic_ipi', icrLow: 0xccd30 | 0x800, destId: 0xffffffff },
      'dst ffffffff vec 48 (INIT|logical|assert|level|all-but-self)',
    ],
    [
      'kvm_apic_accept_irq',
      { vcpu: 0, event: 'kvm_apic_accept_irq', apicid: 0x1f, deliveryMode: 1, triggerMode: 1, vector: 209 },
      'apicid 1f vec 209 (LowPrio|level)',
    ],
    ['kvm_eoi', { vcpu: 0, event: 'kvm_eoi', apicid: 16, vector: -1 }, 'apicid 10 vector -1'],
    ['kvm_pv_eoi', { vcpu: 0, event: 'kvm_pv_eoi', apicid: 1, vector: 236 }, 'apicid 1 vector 236'],
    [
      'kvm_inj_virq',
      { vcpu: 0, event: 'kvm_inj_virq', irq: 0xd1, soft: false, reinjected: true },
      'IRQ 0xd1 [reinjected]',
    ],
    ['kvm_inj_nmi', { vcpu: 0, event: 'kvm_inj_nmi' }, ''],
    [
      'kvm_inj_exception',
      { vcpu: 0, event: 'kvm_inj_exception', vector: 13, errorCode: 0, reinjected: false },
      '#GP (0x0)',
    ],
    [
      'kvm_inj_exception without error code',
      { vcpu: 0, event: 'kvm_inj_exception', vector: 6, errorCode: null, reinjected: false },
      '#UD',
    ],
    [
      'kvm_cpuid',
      { vcpu: 0, event: 'kvm_cpuid', func: 0x40000001, index: 0, eax: 0x801, ebx: 0, ecx: 0, edx: 0, found: true },
      'func 40000001 idx 0 rax 801 rbx 0 rcx 0 rdx 0, cpuid entry found',
    ],
    [
      'kvm_pio',
      { vcpu: 0, event: 'kvm_pio', write: true, port: 0xf4, size: 1, value: 3 },
      'pio_write at 0xf4 size 1 count 1 val 0x3 ',
    ],
    [
      'kvm_mmio',
      { vcpu: 0, event: 'kvm_mmio', write: false, gpa: 0xfee00300n, size: 4, value: 0n },
      'mmio read len 4 gpa 0xfee00300 val 0x0',
    ],
    ['kvm_cr', { vcpu: 0, event: 'kvm_cr', write: true, cr: 8, value: 2n }, 'cr_write 8 = 0x2'],
    ['kvm_userspace_exit', { vcpu: 0, event: 'kvm_userspace_exit', reason: 'KVM_EXIT_IO' }, 'reason KVM_EXIT_IO (2)'],
    [
      'kvm_pvclock_update',
      {
        vcpu: 1,
        event: 'kvm_pvclock_update',
        vcpuId: 17,
        version: 3,
        tscTimestamp: 0x1234n,
        systemTime: 0x56n,
        mul: 0x80000000,
        shift: -1,
        flags: 1,
      },
      'vcpu_id 17, pvclock { version 3, tsc_timestamp 0x1234, system_time 0x56, ' +
        'tsc_to_system_mul 0x80000000, tsc_shift -1, flags 0x1 }',
    ],
    [
      'kvm_pv_tlb_flush',
      { vcpu: 1, event: 'kvm_pv_tlb_flush', vcpuId: 17, needFlush: true },
      'vcpu 17 need_flush_tlb true',
    ],
    [
      'kvm_async_pf_not_present',
      { vcpu: 0, event: 'kvm_async_pf_not_present', token: 0x1001, gva: 0x1001n },
      'token 0x1001 gva 0x1001',
    ],
    ['kvm_async_pf_ready', { vcpu: 0, event: 'kvm_async_pf_ready', token: 1, gva: 1n }, 'token 0x1 gva 0x1'],
  ];
  it.each(cases)('%s', (_name, event, text) => {
    expect(formatEvent(event, NEWEST)).toBe(text);
  });

  it('follows older wording: 32-bit kvm_apic before 5.18, "irq N" and "(0x0)" before 6.0, no index before 5.7', () => {
    const [apic, virq, exception, cpuid] = [3, 10, 13, 14].map((i) => cases[i][1]);
    expect(formatEvent(apic, intel('5.17'))).toBe('apic_write APIC_ICR = 0xfd');
    expect(formatEvent(virq, intel('5.19'))).toBe('irq 209');
    expect(formatEvent(exception, intel('5.19'))).toBe('#UD (0x0)');
    expect(formatEvent(cpuid, intel('5.6'))).toBe('func 40000001 rax 801 rbx 0 rcx 0 rdx 0, cpuid entry found');
  });
});

it('says since 5.7 that the last basic CPUID leaf answered', () => {
  const leaf = { vcpu: 0, event: 'kvm_cpuid', func: 0x401, index: 0, eax: 0, ebx: 0, ecx: 0, edx: 0 } as const;
  const text = (era: string) => formatEvent({ ...leaf, found: false, usedMaxBasic: true }, intel(era));
  expect(text('5.6')).toBe('func 401 rax 0 rbx 0 rcx 0 rdx 0, cpuid entry not found');
  expect(text('5.7')).toBe('func 401 idx 0 rax 0 rbx 0 rcx 0 rdx 0, cpuid entry not found, used max basic');
});

describe('ftraceLines', () => {
  it('writes the lines that trace-cmd report -N -t shows', () => {
    expect([...ftraceLines(makeRun({ era: '5.6' }))].slice(0, 3)).toEqual([
      '       CPU 0/KVM-1000  [000]     0.000001000: kvm_exit:             vcpu 0 reason VMCALL rip 0x1021 info 0 0',
      '       CPU 0/KVM-1000  [000]     0.000002000: kvm_hypercall:        nr 0xa a0 0xe a1 0x0 a2 0x0 a3 0xd1',
      '       CPU 0/KVM-1000  [000]     0.000003000: kvm_apic_accept_irq:  apicid 1 vec 209 (Fixed|edge)',
    ]);
  });

  it('leaves out what KVM has no tracepoint for', () => {
    const trace: KvmTraceEvent[] = [{ vcpu: 0, event: 'kvm_inj_nmi' }, ENTRY];
    expect([...ftraceLines(makeRun({ trace, times: [1, 2_000_000_003], era: '5.6' }))]).toEqual([
      '       CPU 2/KVM-1002  [002]     2.000000003: kvm_entry:            vcpu 2',
    ]);
  });
});
