import { describe, expect, it } from 'vitest';
import { Icr } from '../kvm/icr.ts';
import { bitmapIds, destinationWords, exitMeaning, hypercallResult, interruptWords, msrName } from './explain.ts';
import { generalValues, makeRun, VMCALL_EXIT, vcpu, WRMSR_EXIT } from './notebook.fixture.ts';
import { counterLines, endText, finalState, flagsText, notebookExit, notebookExits } from './notebook.ts';
import { noPaint, ranges, vectorSet } from './text.ts';

const OPTIONS = { width: 100, paint: noPaint };
const SOURCE = { file: 'guest/pv-ipi/send-to-three.S', line: 21, source: '        vmcall' };

describe('one exit', () => {
  it('tells what a vmcall sent, every register that left, what KVM traced, who was reached and what came back', () => {
    const lines = notebookExit(VMCALL_EXIT, 1, makeRun(), { ...OPTIONS, locate: () => SOURCE });
    expect(lines).toEqual([
      '#1  vCPU 0  VMCALL  send-to-three.S:21: vmcall',
      '    sent      KVM_HC_SEND_IPI: vector 0xd1, Fixed, edge, to APIC ids 1-3 (bitmap 0xe from id 0x0)',
      '    left      rax 0xa  rbx 0xe  rcx 0x0  rdx 0x0  rsi 0xd1  rdi 0x0  rbp 0x0  rsp 0x80000  r8 0x0',
      '              r9 0x0  r10 0x0  r11 0x0  r12 0x0  r13 0x0  r14 0x0  r15 0x0  rip 0x1021  rflags 0x2',
      '    KVM did   kvm_exit: vcpu 0 reason VMCALL rip 0x1021 …',
      '              kvm_hypercall: nr 0xa a0 0xe a1 0x0 a2 0x0 a3 0xd1',
      '              kvm_apic_accept_irq: apicid 1 vec 209 (Fixed|edge)',
      '              kvm_apic_accept_irq: apicid 2 vec 209 (Fixed|edge)',
      '              kvm_apic_accept_irq: apicid 3 vec 209 (Fixed|edge)',
      '    reached   vCPUs 1-3: vector 0xd1 (Fixed, edge)',
      '    back      → 3  rax 0x3  rip 0x1024  others unchanged',
    ]);
  });

  it('gives the fastpath verdict of an ICR write', () => {
    const lines = notebookExit(WRMSR_EXIT, 2, makeRun(), OPTIONS);
    expect(lines[0]).toBe('#2  vCPU 0  MSR_WRITE  at 0x1030');
    expect(lines[1]).toBe('    sent      ICR write: vector 0xd1, Fixed, edge, to APIC id 3 (physical)');
    expect(lines).toContain('    fastpath  taken before the ordinary exit handler, then REENTER_GUEST');
    expect(lines).toContain('    reached   vCPU 3: vector 0xd1 (Fixed, edge)');
    const slow = { ...WRMSR_EXIT, fastpath: { taken: false, reason: 'logical destination' } };
    expect(notebookExit(slow, 2, makeRun(), OPTIONS)).toContain('    fastpath  not taken: logical destination');
  });

  it('says so when a message reached nobody', () => {
    const record = { ...VMCALL_EXIT, events: VMCALL_EXIT.events.slice(0, 2) };
    expect(notebookExit(record, 1, makeRun(), OPTIONS)).toContain('    reached   nobody');
  });

  it('names targets by vCPU index where APIC ids are sparse', () => {
    const run = makeRun();
    const sparse = { ...run, vcpus: run.vcpus.map((v, i) => vcpu(i, { ...v, apicId: i * 3 })) };
    const record = {
      ...VMCALL_EXIT,
      events: VMCALL_EXIT.events.filter((e) => e.event !== 'kvm_apic_accept_irq' || e.apicid === 3),
    };
    expect(notebookExit(record, 1, sparse, OPTIONS)).toContain('    reached   vCPU 1: vector 0xd1 (Fixed, edge)');
  });

  it('never exceeds the width', () => {
    for (const width of [60, 80, 100]) {
      const lines = notebookExit(VMCALL_EXIT, 1, makeRun(), { ...OPTIONS, width, locate: () => SOURCE });
      expect(Math.max(...lines.map((line) => line.length))).toBeLessThanOrEqual(width);
    }
  });
});

it('stops listing exits at the limit and counts the rest by kind', () => {
  const lines = [...notebookExits(makeRun(), OPTIONS, 1)];
  expect(lines.filter((line) => line.startsWith('#'))).toHaveLength(1);
  expect(lines).toContain('… and 1 more exit: msr_write 1');
});

describe('what an exit meant', () => {
  const meaning = (name: string, registers: Record<string, bigint>, wide = true) =>
    exitMeaning({ ...VMCALL_EXIT, name, before: generalValues(registers), events: [], bits: wide ? 64 : 32 }).text;

  it('reads hypercall arguments at the width of the caller', () => {
    const registers = { rax: 0xf_0000000an, rbx: 0x1_00000001n, rcx: 1n, rdx: 4n, rsi: 0x400n };
    expect(meaning('vmcall', registers)).toBe('unknown hypercall 0xf0000000a');
    expect(meaning('vmcall', registers, false)).toBe(
      'KVM_HC_SEND_IPI: NMI, edge, to APIC ids 4, 36 (bitmap 0x1, 0x1 from id 0x4)',
    );
  });

  it('wraps the base of the high bitmap at 2^32', () => {
    expect(bitmapIds(0n, 1n, 0xffffffc3, 64)).toEqual([3]);
    expect(bitmapIds(5n, 1n, 0, 32)).toEqual([0, 2, 32]);
  });

  it.each([
    ['hlt', {}, 'HLT: sleep until an interrupt, NMI or kick'],
    ['cpuid', { rax: 0x40000001n }, 'CPUID leaf 0x40000001 index 0x0'],
    ['msr_read', { rcx: 0x802n }, 'read x2APIC ID (0x802)'],
    ['msr_write', { rcx: 0x80bn }, 'EOI: the interrupt in service has been handled'],
    ['msr_write', { rcx: 0x83fn, rax: 0x40n }, 'SELF IPI write: vector 0x40 to itself'],
    ['msr_write', { rcx: 0x1bn, rax: 0xfee00c00n }, 'write 0xfee00c00 to IA32_APIC_BASE (0x1b)'],
    ['external_interrupt', {}, 'another vCPU kicked this one out of the guest'],
    ['preemption_timer', {}, 'the LAPIC timer expired'],
    ['vmcall', { rax: 5n, rcx: 2n, rbx: 0n }, 'KVM_HC_KICK_CPU: wake the vCPU with APIC id 2'],
    ['vmcall', { rax: 13n }, 'unknown hypercall 0xd'],
  ])('%s %o', (name, registers, text) => {
    expect(meaning(name, registers as Record<string, bigint>)).toBe(text);
  });

  it('decodes ICR words', () => {
    const low = (value: number, destination = 0): Icr => Icr.fromLow(value, destination);
    expect(interruptWords(low(0xc0f0))).toBe('vector 0xf0, Fixed, level assert');
    expect(interruptWords(low(0x4500))).toBe('INIT, edge');
    expect(interruptWords(low(0x4608))).toBe('vector 0x8, SIPI, edge');
    expect(destinationWords(low(0x800, 0x10003))).toBe('to logical destination 0x10003 (cluster 1, members 0x3)');
    expect(destinationWords(low(0x800, 0x3), false)).toBe('to logical destination 0x3');
    expect(destinationWords(low(0xc0000))).toBe('to all but itself (shorthand all-but-self)');
    expect(destinationWords(low(0, 0xffffffff))).toBe('to everybody (destination 0xffffffff)');
    expect(msrName(0x821)).toBe('x2APIC IRR[1] (0x821)');
  });

  it('reads results at the width of the caller', () => {
    expect(hypercallResult(0xffffffffffffffean, true)).toBe('-22 (-KVM_EINVAL)');
    expect(hypercallResult(0xfffffc18n, false)).toBe('-1000 (-KVM_ENOSYS)');
    expect(hypercallResult(0xffffffean, true)).toBe('4294967274');
  });
});

describe('the final state', () => {
  it('shows every general register, control registers and APIC, and groups vCPUs that look alike', () => {
    const lines = [...finalState(makeRun(), OPTIONS)];
    expect(lines).toEqual([
      'vCPU 0  halted, 64-bit mode',
      '    registers rax 0x0  rbx 0x0  rcx 0x0  rdx 0x0  rsi 0x0  rdi 0x0  rbp 0x0  rsp 0x80000  r8 0x0',
      '              r9 0x0  r10 0x0  r11 0x0  r12 0x0  r13 0x0  r14 0x0  r15 0x0  rip 0x0  rflags 0x2',
      '    control   cr0 0x80000011  cr2 0x0  cr3 0x70000  cr4 0x20  efer 0x500  cs 0x8  ss 0x10',
      '    APIC      x2APIC  IRR {}  ISR {}  TMR {}  TPR 0x0  PPR 0x0  SVR 0x1ff',
      '    ICR       0x3000000d1: vector 0xd1, Fixed, edge, to APIC id 3 (physical)',
      'vCPUs 1-3  halted, 64-bit mode',
      '    registers rax 0x0  rbx 0x0  rcx 0x0  rdx 0x0  rsi 0x0  rdi 0x0  rbp 0x0  rsp 0x7d000…0x7f000',
      '              r8 0x0  r9 0x0  r10 0x0  r11 0x0  r12 0x0  r13 0x0  r14 0x0  r15 0x0  rip 0x0',
      '              rflags 0x2',
      '    control   cr0 0x80000011  cr2 0x0  cr3 0x70000  cr4 0x20  efer 0x500  cs 0x8  ss 0x10',
      '    APIC      x2APIC  IRR {0xd1}  ISR {}  TMR {}  TPR 0x0  PPR 0x0  SVR 0x1ff',
    ]);
  });

  it('keeps 255 vCPUs of one kind in one group and shows pending events', () => {
    const vcpus = Array.from({ length: 255 }, (_, i) => vcpu(i, { nmiPending: 2, sipiPending: 0x10 }));
    const lines = [...finalState(makeRun({ vcpus }), OPTIONS)];
    expect(lines[0]).toBe('vCPUs 0-254  halted, 64-bit mode');
    expect(lines.filter((line) => line.startsWith('vCPU'))).toHaveLength(1);
    expect(lines).toContain('    pending   NMI × 2  SIPI vector 0x10');
  });

  it('shows x87 and SSE registers where one is not zero, with the control and status words', () => {
    const plain = vcpu(0);
    const registers = { ...plain.registers, fcw: 0x37fn, mxcsr: 0x1fa0n, xmm1: 5n, xmm15: 1n << 127n };
    expect([...finalState(makeRun({ vcpus: [{ ...plain, registers }] }), OPTIONS)][4]).toBe(
      '    SSE       mxcsr 0x1fa0  xmm1 0x5  xmm15 0x80000000000000000000000000000000',
    );
    const x87 = { ...plain.registers, fcw: 0x37fn, fsw: 0x3800n, ftw: 0x80n, st0: 0x3fff8000000000000000n };
    expect([...finalState(makeRun({ vcpus: [{ ...plain, registers: x87 }] }), OPTIONS)][4]).toBe(
      '    x87       fcw 0x37f  fsw 0x3800  ftw 0x80  st0 0x3fff8000000000000000',
    );
  });

  it('counts exits by kind and shows counters that are not zero', () => {
    expect(counterLines(makeRun().counters, OPTIONS)).toEqual([
      'exits     2: msr_write 1, vmcall 1',
      'counters  exits 2, fastpath 1, hypercalls 1',
    ]);
  });
});

describe('how a run ended', () => {
  const place = () => ({ file: 'a/loop.S', line: 5, source: ' 1: jmp  1b ' });
  it.each([
    [{ kind: 'halted' }, 'every vCPU waits and nothing is pending'],
    [{ kind: 'exit', status: 3 }, 'the guest ended with status 3'],
    [{ kind: 'shutdown', vcpu: 1, rip: 0x1003n }, 'triple fault on vCPU 1 at rip 0x1003 (loop.S:5: 1: jmp 1b)'],
    [
      { kind: 'host-bug', vcpu: 0, bug: 'NULL dereference', cve: 'CVE-2018-19406', detail: 'no APIC map' },
      'vCPU 0 hit a bug of the host kernel, NULL dereference (CVE-2018-19406): no APIC map',
    ],
    [{ kind: 'internal-error', vcpu: 0, detail: 'why' }, 'vCPU 0 at rip 0x0 (loop.S:5: 1: jmp 1b) cannot go on: why'],
  ] as const)('%o', (end, text) => {
    expect(endText(makeRun({ end }), place)).toBe(text);
  });

  it('names the place of an endless loop', () => {
    const vcpus = [vcpu(0, { mpState: 'runnable' }), vcpu(1, { mpState: 'runnable' })];
    expect(endText(makeRun({ end: { kind: 'budget', steps: 50_000_000 }, vcpus }), place)).toBe(
      'the budget of 50,000,000 steps is used up; still running: vCPU 0 at rip 0x0 (loop.S:5: 1: jmp 1b) and 1 more vCPU',
    );
  });
});

it('writes flags, ranges and vector sets compactly', () => {
  expect(flagsText(0x246n)).toBe('0x246 [PF ZF IF]');
  expect(ranges([0, 1, 3, 4, 5, 9])).toBe('0, 1, 3-5, 9');
  expect(vectorSet([0x20, 0x1f, 0x1e, 0xd1])).toBe('{0x1e-0x20, 0xd1}');
});
