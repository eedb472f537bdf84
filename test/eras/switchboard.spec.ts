/**
 * Every behaviour that changed between KVM v4.19-rc1 and v7.1, as one test per row and vendor: a guest program is run in every
 * version, and what it shows must change exactly where the columns say.
 */
import { describe } from 'vitest';
import type { RunResult, Vm } from '../../src/index.ts';
import { fastpath, hypercall, icr, order, reached, result, row, sendIpi, wrmsr } from './versions.ts';

const FOUR = { vcpus: 4 } as const;
const XAPIC_ICR2 = 0xfee00310;
const XAPIC_ICR = 0xfee00300;
const XAPIC_DFR = 0xfee000e0;
const XAPIC_ID = 0xfee00020;
const SVR_SLOT = 0xf;
const LDR_SLOT = 0xd;

const store = (address: number, value: number): string => `mov ebp, ${address}\nmov dword ptr [rbp], ${value >>> 0}\n`;
/** An xAPIC IPI by ICR2 and ICR. */
const xapicIcr = (low: number, destination: number): string =>
  `${store(XAPIC_ICR2, destination << 24)}${store(XAPIC_ICR, low)}hlt\n`;

describe('KVM_HC_SEND_IPI', () => {
  row('type of `min` after truncation', { ...FOUR, source: sendIpi(2, 0, 0xffff_ffff, 0x40) }, reached(0x40), [
    ['4.19-rc1', [0]],
    ['4.19-rc3', []],
  ]);

  row('bound check against the largest APIC id', { ...FOUR, source: sendIpi(1, 0, 256, 0x40) }, result, [
    ['4.19-rc1', 'pv-ipi-out-of-bounds'],
    ['4.19-rc3', 0],
  ]);

  row('empty map slot', { ...FOUR, source: sendIpi(0b11001, 0, 0, 0x40) }, result, [
    ['4.19-rc1', 'pv-ipi-empty-slot'],
    ['4.19-rc3', 2],
  ]);

  row('map absent: no in-kernel APIC', { apic: 'none', source: sendIpi(1, 0, 0, 0x40) }, result, [
    ['4.19-rc1', 'CVE-2018-19406'],
    ['4.20', -95],
  ]);

  row('low half out of range: the high half', { ...FOUR, source: sendIpi(0, 1, 0xffff_ffc3, 0x40) }, reached(0x40), [
    ['4.19-rc1', [3]],
    ['4.19-rc3', []],
    ['5.6', [3]],
  ]);

  row(
    'low half out of range, 32-bit caller: W = 32',
    {
      ...FOUR,
      mode: 'prot32',
      source: '.code32\nHC\nhlt',
      registers: { rax: 10n, rbx: 0n, rcx: 1n, rdx: 0xffff_ffe3n, rsi: 0x40n },
    },
    reached(0x40),
    [
      ['4.19-rc1', [3]],
      ['4.19-rc3', []],
      ['5.6', [3]],
    ],
  );

  for (const [name, command, count] of [
    ['Fixed', 0x40, 1],
    ['lowest priority: no arbitration', 0x140, 1],
    ['SMI', 0x200, 1],
    ['remote read', 0x300, 1],
    ['NMI', 0x400, 1],
    ['INIT', 0x500, 1],
    ['start-up', 0x600, 1],
    ['ExtINT', 0x700, 0],
    ['Fixed, level-triggered de-assert', 0x8040, 0],
    ['INIT, level-triggered de-assert', 0x8500, 0],
    ['vector below 16', 0x5, 1],
    ['logical destination mode', 0x840, -22],
    ['a shorthand', 0x4_0040, -22],
  ] as const) {
    row(`what counts: ${name}`, { ...FOUR, source: sendIpi(2, 0, 0, command) }, result, [['4.19-rc1', count]]);
  }

  row(
    'two xAPICs with one id: the first wins, then no map',
    { ...FOUR, apic: 'xapic', source: `${store(XAPIC_ID, 1 << 24)}${sendIpi(2, 0, 0, 0x40)}` },
    (run) => [result(run), reached(0x40)(run)],
    [
      ['4.19-rc1', [1, [0]]],
      ['6.3', [-95, []]],
    ],
  );

  row(
    'two xAPICs with one id and 32-bit APIC ids enabled: the first wins',
    { ...FOUR, apic: 'xapic', x2apicApi: 1, source: `${store(XAPIC_ID, 1 << 24)}${sendIpi(2, 0, 0, 0x40)}` },
    (run) => [result(run), reached(0x40)(run)],
    [['4.19-rc1', [1, [0]]]],
  );

  row(
    'vcpu_id above 255 in xAPIC mode is found by it, then by its 8-bit id only',
    { apicIds: [0, 300], vcpus: 2, apic: 'xapic', source: sendIpi(1, 0, 300, 0x40) },
    result,
    [
      ['4.19-rc3', 1],
      ['6.3', 0],
    ],
  );
});

describe('hypercall entry', () => {
  const HIDDEN = { ...FOUR, pvFeatures: 0, enforcePvFeatures: true } as const;
  for (const [name, nr] of [
    ['KICK_CPU', 5],
    ['SEND_IPI', 10],
  ] as const) {
    row(`feature gate of ${name}`, { ...HIDDEN, source: hypercall(nr, 1, nr === 5 ? 1 : 0, 0, 0x40) }, result, [
      ['4.19-rc1', nr === 10 ? 1 : 0],
      ['5.10', -1000],
    ]);
  }
  row('feature gate of SCHED_YIELD, which is new in v5.3', { ...HIDDEN, source: hypercall(11, 1) }, result, [
    ['4.19-rc1', -1000],
    ['5.3', 0],
    ['5.10', -1000],
  ]);
  row('no enforcement: CPUID does not matter', { ...FOUR, pvFeatures: 0, source: sendIpi(1, 0, 0, 0x40) }, result, [
    ['4.19-rc1', 1],
  ]);
  row('ungated: VAPIC_POLL_IRQ', { ...HIDDEN, source: hypercall(1) }, result, [['4.19-rc1', 0]]);

  for (const nr of [0, 2, 3, 4, 6, 7, 8, 13]) {
    row(`number ${nr} is unknown`, { source: hypercall(nr) }, result, [['4.19-rc1', -1000]]);
  }
  row('MAP_GPA_RANGE without opt-in', { source: hypercall(12, 0x1000, 1) }, result, [['4.19-rc1', -1000]]);
  row('MAP_GPA_RANGE with opt-in', { exitHypercalls: 0x1000, source: hypercall(12, 0x1000, 1) }, result, [
    ['4.19-rc1', -1000],
    ['5.14', 0],
  ]);

  row(
    'EPERM comes before the number, ENOSYS and EPERM count',
    {
      cpl: 3,
      source: 'mov eax, 77\nHC\nmov ebx, eax\nmov eax, 10\nHC\nmov ecx, eax\nxor eax, eax\nout 0xf4, al\n',
    },
    (run) => [Number(run.vcpus[0].registers.rbx), Number(run.vcpus[0].registers.rcx), run.counters.hypercalls],
    [['4.19-rc1', [0xffff_ffff, 0xffff_ffff, 2]]],
  );

  row('64-bit caller: the whole of RAX is the number', { source: 'mov rax, 0x10000000a\nHC\nhlt\n' }, result, [
    ['4.19-rc1', -1000],
  ]);

  row(
    'the statistic is raised after the call, then before it',
    { exitHypercalls: 0x1000, source: hypercall(12, 0x1000, 1) },
    (_, vm) => {
      vm.load(vm.program as NonNullable<typeof vm.program>);
      const left = vm.kvm.run(0, 100);
      return [left.kind, vm.kvm.vcpus[0].counters.hypercalls];
    },
    [
      ['5.14', ['hypercall', 0]],
      ['6.14', ['hypercall', 1]],
    ],
  );

  row(
    'MAP_GPA_RANGE of a 32-bit caller with garbage above the number',
    {
      exitHypercalls: 0x1000,
      mode: 'compat32',
      source: '.code32\nHC\nhlt\n',
      registers: { rax: 0x1_0000_000cn, rbx: 0x1000n, rcx: 1n, rdx: 0n },
    },
    (run) => [
      result(run),
      run.trace.filter((event) => event.event === 'kvm_userspace_exit').length,
      run.counters.hypercalls,
    ],
    [
      ['5.14', [0, 1, 1]],
      ['6.9', [0, 0, 1]],
      ['6.14', [0, 1, 1]],
    ],
  );

  row(
    'directed yield: KICK_CPU yields since v5.4, both are counted since v5.13',
    { vcpus: 2, source: `mov eax, 11\nmov ebx, 1\nHC\n${hypercall(5, 0, 1)}` },
    (run) => run.counters.directed_yield_attempted,
    [
      ['4.19-rc1', 0],
      ['5.13', 2],
    ],
  );

  row(
    'VMCALL with the patching quirk disabled',
    { disabledQuirks: 1 << 5, source: 'mov eax, 1\n.byte 0x0f, 0x01, 0xc1\nhlt\n' },
    (run) => run.end.kind,
    {
      intel: [['4.19-rc1', 'halted']],
      amd: [
        ['4.19-rc1', 'halted'],
        ['5.19', 'shutdown'],
      ],
    },
  );
  row(
    'VMMCALL with the patching quirk disabled',
    { disabledQuirks: 1 << 5, source: 'mov eax, 1\n.byte 0x0f, 0x01, 0xd9\nhlt\n' },
    (run) => run.end.kind,
    {
      amd: [['4.19-rc1', 'halted']],
      intel: [
        ['4.19-rc1', 'halted'],
        ['5.19', 'shutdown'],
      ],
    },
  );
});

describe('APIC map and matching', () => {
  row('vcpu_id 1023 is allowed', { apicIds: [0, 1023], vcpus: 2, source: 'hlt' }, (run) => run.end.kind, [
    ['4.19-rc1', 'halted'],
  ]);
  row('vcpu_id 4095 is allowed since v5.15', { apicIds: [0, 4095], vcpus: 2, source: 'hlt' }, (run) => run.end.kind, [
    ['4.19-rc1', 'usage'],
    ['5.15', 'halted'],
  ]);

  const flat = (ldrs: readonly number[], source: string, disabled = -1) => ({
    vcpus: ldrs.length,
    apic: 'xapic' as const,
    source,
    prepare: (vm: Vm) => {
      for (const [index, ldr] of ldrs.entries()) {
        const registers = vm.kvm.vcpus[index].lapic.registers.slice();
        registers[LDR_SLOT] = (ldr << 24) >>> 0;
        if (index === disabled) registers[SVR_SLOT] = 0xff;
        vm.kvm.setLapic(index, registers);
      }
    },
  });

  row('a software-disabled APIC keeps its logical id', flat([4, 2, 2], xapicIcr(0x840, 2), 2), reached(0x40), [
    ['4.19-rc1', []],
    ['5.4', [1]],
  ]);
  row('a logical id with two bits: only the lower one counts', flat([3, 4], xapicIcr(0x840, 2)), reached(0x40), [
    ['4.19-rc1', []],
    ['6.3', [0]],
  ]);
  row('a logical id that two APICs have: the last one wins', flat([1, 2, 2], xapicIcr(0x840, 2)), reached(0x40), [
    ['4.19-rc1', [2]],
    ['6.3', [1, 2]],
  ]);
  row('logical id 0: no slot', flat([1, 0], xapicIcr(0x840, 0xfe)), reached(0x40), [['4.19-rc1', []]]);
  row(
    'cluster model: group and member',
    flat([0x11, 0x12, 0x21], `${store(XAPIC_DFR, 0)}${xapicIcr(0x840, 0x12)}`),
    reached(0x40),
    // DFR of vCPU 0 alone is in the cluster model: the modes disagree and every APIC is asked.
    [['4.19-rc1', [1]]],
  );

  row(
    'an IPI to an xAPIC id that two APICs have',
    {
      vcpus: 3,
      apic: 'xapic',
      source: `${store(XAPIC_ID, 1 << 24)}${xapicIcr(0x40, 1)}`,
    },
    reached(0x40),
    [
      ['4.19-rc1', [0]],
      ['6.3', [0, 1]],
    ],
  );

  row(
    'lowest priority to physical 0xff: Fixed before the fast delivery, then after it failed',
    { apicIds: [0, 255], vcpus: 2, source: icr(0x140, 0xff) },
    (run) => run.trace.flatMap((event) => (event.event === 'kvm_apic_accept_irq' ? [event.deliveryMode] : [])),
    [
      ['4.19-rc1', [0]],
      ['5.6', [1]],
    ],
  );
  row('lowest priority, all, physical 0xff: all get it', { ...FOUR, source: icr(0x8_0140, 0xff) }, reached(0x40), [
    ['4.19-rc1', [0, 1, 2, 3]],
  ]);
  row('lowest priority, logical: vector modulo targets', { ...FOUR, source: icr(0x941, 0b1110) }, reached(0x41), [
    ['4.19-rc1', [3]],
  ]);
  row(
    'lowest priority without vector hashing: least arbitration first',
    { ...FOUR, vectorHashing: false, source: `${wrmsr(0x830, 0x941, 6)}${icr(0x942, 6)}` },
    (run) => [reached(0x41)(run), reached(0x42)(run)],
    [['4.19-rc1', [[1], [2]]]],
  );
  row('x2APIC broadcast is 0xffffffff', { ...FOUR, source: icr(0x40, 0xffff_ffff) }, reached(0x40), [
    ['4.19-rc1', [0, 1, 2, 3]],
  ]);
  row('0xff is an APIC id in x2APIC mode', { ...FOUR, source: icr(0x40, 0xff) }, reached(0x40), [['4.19-rc1', []]]);
  row('xAPIC broadcast is 0xff', { ...FOUR, apic: 'xapic', source: xapicIcr(0x40, 0xff) }, reached(0x40), [
    ['4.19-rc1', [0, 1, 2, 3]],
  ]);
  row(
    'KICK_CPU to 0xff wakes everybody',
    { ...FOUR, aps: 'halted', source: hypercall(5, 0, 0xff) },
    (run) => run.vcpus.map((vcpu) => vcpu.counters.halt_wakeup),
    [['4.19-rc1', [0, 1, 1, 1]]],
  );
  row(
    'KICK_CPU to 0xff with the broadcast quirk off wakes nobody',
    {
      ...FOUR,
      aps: 'halted',
      x2apicApi: 2,
      source: hypercall(5, 0, 0xff),
    },
    (run) => run.vcpus.map((vcpu) => vcpu.counters.halt_wakeup),
    [['4.19-rc1', [0, 0, 0, 0]]],
  );
});

describe('local APIC registers', () => {
  const read = (msr: number): string => `mov ecx, ${msr}\nrdmsr\nhlt\n`;
  row('APR reads 0, then #GP', { source: `xor eax, eax\n${read(0x809)}` }, result, [
    ['4.19-rc1', 0],
    ['5.4', 'shutdown'],
  ]);
  row('MSR 0x900 is no register', { source: read(0x900) }, result, [['4.19-rc1', 'shutdown']]);
  row('bits 63:32 of TPR', { source: `${wrmsr(0x808, 0x20, 1)}hlt` }, (run) => [run.end.kind, run.vcpus[0].lapic.tpr], [
    ['4.19-rc1', ['halted', 0x20]],
    ['6.3', ['shutdown', 0]],
  ]);
  row('TDCR keeps what was written, then bits 3, 1 and 0', { source: `${wrmsr(0x83e, 0xff)}${read(0x83e)}` }, result, [
    ['4.19-rc1', 0xff],
    ['5.10', 0xb],
  ]);

  row('reserved bits of SELF IPI', { source: `${wrmsr(0x83f, 0x140)}hlt` }, reached(0x40), [
    ['4.19-rc1', [0]],
    ['6.3', '#GP'],
  ]);
  row(
    'SELF IPI shows in ICR',
    { source: `${wrmsr(0x830, 0x41, 7)}${wrmsr(0x83f, 0x40)}hlt` },
    (run) => run.vcpus[0].lapic.icr,
    [
      ['4.19-rc1', 0x7_0004_0040n],
      ['5.18', 0x7_0000_0041n],
    ],
  );
  row(
    'SELF IPI: destination in kvm_apic_ipi',
    { source: `${wrmsr(0x830, 0x41, 7)}${wrmsr(0x83f, 0x40)}hlt` },
    (run) => run.trace.flatMap((event) => (event.event === 'kvm_apic_ipi' ? [event.destId] : [])),
    [
      ['4.19-rc1', [7, 7]],
      ['5.18', [7, 0]],
    ],
  );
  row('SELF IPI: events', { source: `${wrmsr(0x83f, 0x40)}hlt` }, order, {
    intel: [
      ['4.19-rc1', 'exit SELF=40 ICR=40040 ipi accept msr entry'],
      ['5.18', 'exit SELF=40 ipi accept msr entry'],
    ],
    amd: [
      ['4.19-rc1', 'exit SELF=40 ICR=40040 ipi accept msr entry'],
      ['5.18', 'exit SELF=40 ipi accept msr entry'],
    ],
  });

  // Bit 12 (busy) is dropped in every version; these are not.
  for (const bit of [13, 16, 17, 20, 25, 31]) {
    row(`ICR reserved bit ${bit}`, { ...FOUR, source: icr((0x40 | (1 << bit)) >>> 0, 1) }, reached(0x40), [
      ['4.19-rc1', [1]],
      ['6.12', '#GP'],
    ]);
  }
  row('ICR busy bit', { ...FOUR, source: icr(0x1040, 1) }, (run) => [reached(0x40)(run), run.vcpus[0].lapic.icr], [
    ['4.19-rc1', [[1], 0x1_0000_0040n]],
  ]);
  row(
    'ICR storage: a read gives what was written',
    { ...FOUR, source: `${wrmsr(0x830, 0x400, 1)}${read(0x830)}` },
    (run) => [run.vcpus[0].registers.rdx, run.vcpus[0].registers.rax],
    [['4.19-rc1', [1n, 0x400n]]],
  );
  row('ICR write on the slow path: events', { ...FOUR, source: icr(0xc_1040, 1) }, order, [
    ['4.19-rc1', 'exit ICR2=1 ICR=c1040 ipi accept accept accept msr entry'],
    // As first merged the fastpath takes shorthands, too.
    ['5.6-rc1', 'ICR=c1040 ipi accept accept accept msr exit entry'],
    ['5.6-rc8', 'exit ICR2=1 ICR=c1040 ipi accept accept accept msr entry'],
    ['5.18', 'exit ipi accept accept accept ICR=1000c0040 msr entry'],
  ]);
  row('ICR read: events', { ...FOUR, source: read(0x830) }, order, [
    ['4.19-rc1', 'exit read ICR=0 read ICR2=0 msr entry'],
    ['5.18', 'exit msr entry'],
  ]);
  row(
    'xAPIC id after user space forced x2APIC to xAPIC',
    {
      apicIds: [5],
      source: 'hlt',
      prepare: (vm) => vm.kvm.setMsr(0, 0x1b, 0xfee0_0800n),
    },
    (run) => [run.vcpus[0].lapic.mode, run.vcpus[0].lapic.id],
    [
      ['4.19-rc1', ['xapic', 0]],
      ['6.3', ['xapic', 5]],
    ],
  );
});

describe('WRMSR fastpath', () => {
  const RE_ENTERS = [
    ['5.6-rc1', 'SKIP_EMUL_INS'],
    ['5.8', 'EXIT_HANDLED'],
    ['6.12', 'REENTER_GUEST'],
  ] as const;

  row('no fastpath before v5.6', { ...FOUR, source: icr(0x40, 1) }, fastpath, [['4.19-rc1', ''], ...RE_ENTERS]);
  row('result when handled', { ...FOUR, source: icr(0x40, 1) }, fastpath, RE_ENTERS);
  row('in xAPIC mode', { ...FOUR, apic: 'xapic', source: icr(0x40, 1) }, (run) => [fastpath(run), run.end.kind], [
    ['5.6-rc1', ['not x2APIC', 'shutdown']],
  ]);
  row('shorthand must be 0: self', { ...FOUR, source: icr(0x4_0040) }, fastpath, [
    ['5.6-rc1', 'SKIP_EMUL_INS'],
    ['5.6-rc8', 'shorthand'],
    // Pending for the sender itself: no re-entry.
    ['6.18', 'EXIT_HANDLED'],
  ]);
  for (const [name, low] of [
    ['all', 0x8_0040],
    ['all but self', 0xc_0040],
  ] as const) {
    row(`shorthand must be 0: ${name}`, { ...FOUR, source: icr(low) }, fastpath, [
      ['5.6-rc1', 'SKIP_EMUL_INS'],
      ['5.6-rc8', 'shorthand'],
    ]);
  }
  row('destination 0xffffffff', { ...FOUR, source: icr(0x40, 0xffff_ffff) }, fastpath, [
    ['5.6-rc1', 'SKIP_EMUL_INS'],
    ['5.7', 'broadcast'],
  ]);
  for (const [name, low] of [
    ['lowest priority', 0x140],
    ['SMI', 0x200],
    ['remote read', 0x300],
    ['NMI', 0x400],
    ['INIT', 0x500],
    ['start-up', 0x600],
    ['ExtINT', 0x700],
  ] as const) {
    row(`delivery mode ${name}`, { ...FOUR, source: icr(low, 1) }, fastpath, [
      ['5.6-rc1', 'delivery mode is not Fixed'],
      ['6.18', 'REENTER_GUEST'],
    ]);
  }
  row('destination mode', { ...FOUR, source: icr(0x840, 0b1110) }, fastpath, [
    ['5.6-rc1', 'logical destination'],
    ['6.18', 'REENTER_GUEST'],
  ]);
  row('reserved bits', { ...FOUR, source: icr(0x2040, 1) }, fastpath, [
    ['5.6-rc1', 'SKIP_EMUL_INS'],
    ['5.8', 'EXIT_HANDLED'],
    ['6.12', 'reserved bits'],
  ]);
  row(
    'the map cannot deliver: mixed APIC modes',
    {
      ...FOUR,
      source: icr(0x840, 0b10),
      prepare: (vm) => {
        vm.kvm.setMsr(3, 0x1b, 0xfee0_0000n);
        vm.kvm.setMsr(3, 0x1b, 0xfee0_0800n);
        const registers = vm.kvm.vcpus[3].lapic.registers.slice();
        registers[LDR_SLOT] = 1 << 24;
        vm.kvm.setLapic(3, registers);
      },
    },
    fastpath,
    [
      ['5.6-rc1', 'logical destination'],
      ['6.18', 'mixed logical modes'],
    ],
  );
  for (const [name, low] of [
    ['vector below 16', 0x5],
    ['assert', 0x4040],
    ['level-triggered', 0xc040],
    ['busy', 0x1040],
  ] as const) {
    row(`does not matter: ${name}`, { ...FOUR, source: icr(low, 1) }, fastpath, RE_ENTERS);
  }
  row('does not matter: an absent target', { ...FOUR, source: icr(0x40, 99) }, fastpath, RE_ENTERS);
  row('another MSR', { ...FOUR, source: `${wrmsr(0x808, 0)}hlt` }, fastpath, [['5.6-rc1', 'MSR has no fastpath']]);

  const UNICAST = { ...FOUR, source: icr(0x40, 1) };
  const SLOW = 'exit ICR2=1 ICR=40 ipi accept msr entry';
  const V5_6 = 'ICR=40 ipi accept msr exit entry';
  const V5_7 = 'ipi accept ICR=40 msr exit entry';
  row('events of one unicast IPI', UNICAST, order, {
    intel: [
      ['4.19-rc1', SLOW],
      ['5.6-rc1', V5_6],
      ['5.7', V5_7],
      ['5.8', 'exit ipi accept ICR=40 msr entry'],
      ['5.18', 'exit ipi accept ICR=100000040 msr entry'],
      ['6.18', 'exit accept ipi ICR=100000040 msr entry'],
    ],
    amd: [
      ['4.19-rc1', SLOW],
      ['5.6-rc1', V5_6],
      ['5.7', V5_7],
      ['5.18', 'ipi accept ICR=100000040 msr exit entry'],
      ['6.6', 'exit ipi accept ICR=100000040 msr entry'],
      ['6.18', 'exit accept ipi ICR=100000040 msr entry'],
    ],
  });
  row(
    'kvm_msr shows the value as written, with the busy bit',
    { ...FOUR, source: icr(0x1040, 1) },
    (run) => run.trace.flatMap((event) => (event.event === 'kvm_msr' ? [event.data] : [])),
    [['4.19-rc1', [0x1_0000_1040n]]],
  );
  row(
    'a write the fastpath refuses is done once, from scratch',
    { ...FOUR, source: icr(0x8_0040) },
    (run) => [reached(0x40)(run), run.trace.filter((event) => event.event === 'kvm_apic_ipi').length],
    [['4.19-rc1', [[0, 1, 2, 3], 1]]],
  );
});

describe('self-delivery', () => {
  const HANDLER = `
      lea rax, [rip+handler]
      mov word ptr [table+0x40*16], ax
      mov word ptr [table+0x40*16+2], cs
      mov word ptr [table+0x40*16+4], 0x8e00
      lidt [rip+register]
      sti
      SEND
      nop
      cli
      hlt
    handler:
      inc r15
      iretq
    register: .word 0x40*16+15
      .quad table
      .balign 16
    table: .fill 0x41*16, 1, 0`;
  const self = { vcpus: 2, source: HANDLER.replace('SEND', wrmsr(0x830, 0x40, 0)), registers: { r15: 0n } };

  row('a fastpath IPI to the sender itself never re-enters', self, fastpath, [
    ['5.6-rc1', 'SKIP_EMUL_INS'],
    ['5.8', 'EXIT_HANDLED'],
  ]);
  row(
    'it is one full exit, and the next entry injects it',
    self,
    (run) => {
      const { exits, irq_injections, irq_window_exits, req_event } = run.vcpus[0].counters;
      return [Number(run.vcpus[0].registers.r15), exits, irq_injections, irq_window_exits, req_event];
    },
    [['4.19-rc1', [1, 2, 1, 0, 2]]],
  );
  row(
    'with interrupts disabled it waits for the window',
    {
      ...self,
      source: self.source.replace('sti', 'cli').replace('nop', 'sti\nnop'),
    },
    (run) => {
      const { irq_injections, irq_window_exits } = run.vcpus[0].counters;
      return [Number(run.vcpus[0].registers.r15), irq_injections, irq_window_exits];
    },
    [['4.19-rc1', [1, 1, 1]]],
  );
});

describe('TSC deadline', () => {
  const arm = `${wrmsr(0x832, 0x5_0040)}${wrmsr(0x6e0, 0)}hlt`;
  row('fastpath', { source: arm }, fastpath, {
    intel: [
      ['5.6-rc1', 'MSR has no fastpath'],
      ['5.8', 'REENTER_GUEST'],
    ],
    amd: [
      ['5.6-rc1', 'MSR has no fastpath'],
      ['6.18', 'REENTER_GUEST'],
    ],
  });
  row('exits that re-enter are counted since v6.4', { source: arm }, (run) => run.counters.exits, {
    intel: [
      ['4.19-rc1', 3],
      ['5.8', 2],
      ['6.4', 3],
    ],
    amd: [['4.19-rc1', 3]],
  });
  row(
    'events of the fastpath',
    { source: arm },
    (run) => {
      const names = run.trace.map((event) => event.event);
      const last = names.lastIndexOf('kvm_msr');
      return names.slice(last - 1, last + 2).join(' ');
    },
    [['4.19-rc1', 'kvm_exit kvm_msr kvm_entry']],
  );
  row(
    'ignored while the APIC is globally disabled',
    {
      source: `${wrmsr(0x832, 0x5_0040)}${wrmsr(0x1b, 0xfee0_0100)}${wrmsr(0x6e0, 0x7000_0000)}rdmsr
      mov r15, rax\n${wrmsr(0x6e0, 0)}hlt`,
    },
    (run) => run.vcpus[0].registers.r15,
    [
      ['4.19-rc1', 0x7000_0000n],
      ['5.8', 0n],
    ],
  );
});

describe('kick', () => {
  const source = `
      cmp esp, [rip+first]    # vCPU 0 has the highest stack
      jae sender
      inc dword ptr [rip+there]
    spin: jmp spin
    sender:
      pause
      cmp dword ptr [rip+there], 1
      jne sender
      mov rbx, 2
      xor ecx, ecx
      xor edx, edx
      .irp vector, 0x40, 0x41, 0x42
      mov eax, 10
      mov esi, \\vector
      HC
      .endr
      mov edi, 2
    let_it_run:
      pause
      dec edi
      jnz let_it_run
      xor eax, eax
      out 0xf4, al
    first: .long 0
    there: .long 0`;
  row(
    'several IPIs before a running target has left the guest cost it one exit',
    {
      vcpus: 2,
      aps: 'run',
      budget: 200_000,
      source,
      prepare: (vm) => {
        const rsp = Number(vm.vcpu(0).registers.rsp);
        const address = Number(vm.program?.symbols.get('first'));
        vm.write(address, new Uint8Array(new Uint32Array([rsp]).buffer));
      },
    },
    (run) => [run.vcpus[1].lapic.irr, run.vcpus[1].counters.irq_exits, run.end.kind],
    [['4.19-rc1', [[0x40, 0x41, 0x42], 1, 'exit']]],
  );
});

describe('counters of one exit', () => {
  const counters =
    (...names: (keyof RunResult['counters'])[]) =>
    (run: RunResult) =>
      names.map((name) => run.counters[name]);

  row('every exit of the ICR fastpath is counted', { ...FOUR, source: icr(0x40, 1) }, counters('exits'), [
    ['4.19-rc1', [2]],
  ]);
  row('INVD does nothing, fastpath or not', { source: 'invd\nhlt' }, counters('exits'), [['4.19-rc1', [2]]]);
  row('HLT', { source: 'hlt' }, counters('exits', 'halt_exits', 'halt_wakeup'), [['4.19-rc1', [1, 1, 0]]]);
  row(
    'a sleeper that is woken',
    { vcpus: 2, aps: 'halted', source: sendIpi(2, 0, 0, 0x400) },
    (run) => [run.vcpus[1].counters.halt_wakeup, run.vcpus[1].counters.nmi_injections],
    [['4.19-rc1', [1, 1]]],
  );
  row('hypercall', { source: hypercall(1) }, counters('exits', 'hypercalls'), [['4.19-rc1', [2, 1]]]);
  row(
    'a failed WRMSR: kvm_msr, #GP, RIP stays',
    { source: `${wrmsr(0x831, 0)}hlt` },
    (run) => {
      const [exit] = run.exits;
      const event = exit.events.find((item) => item.event === 'kvm_msr');
      return [event?.event === 'kvm_msr' && event.fault, exit.after[16] === exit.before[16], run.end.kind];
    },
    [['4.19-rc1', [true, true, 'shutdown']]],
  );
});
