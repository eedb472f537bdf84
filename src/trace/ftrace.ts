/**
 * KVM's trace events as KVM prints them: one formatter per event, texts of the TP_printk lines in arch/x86/kvm/trace.h and
 * include/trace/events/kvm.h, in the wording of the kernel that the era names (read in v4.19, v5.2, v5.10, v6.12 and v7.1).
 */
import { DELIVERY_MODES as ICR_MODES, Icr } from '../kvm/icr.ts';
import type { KvmTraceEvent, KvmTraceEventName } from '../kvm/trace.ts';
import type { Vendor } from '../kvm/types.ts';
import { exitReasonName, kernelVersion } from './exit-names.ts';
import { type TimedTrace, vcpuComm, vcpuTid } from './timed.ts';

/** Whose words to use. */
export interface TraceDialect {
  /** Era name; its leading `major.minor` decides. */
  readonly era: string;
  readonly vendor: Vendor;
  /** vcpu_id of each vCPU by index; without it the index is taken for the id. */
  readonly vcpus?: readonly { readonly apicId: number }[];
}

/** vcpu_id of the vCPU whose thread emitted the event: kvm_entry and kvm_exit print it. */
export const vcpuId = (event: KvmTraceEvent, dialect: TraceDialect): number =>
  dialect.vcpus?.[event.vcpu]?.apicId ?? event.vcpu;

/** Whether KVM has a tracepoint for this; the injection of an NMI shows in kvm_entry and in counters only. */
export const isTracepoint = (event: KvmTraceEvent): boolean => event.event !== 'kvm_inj_nmi';

export type EventOf<Name extends KvmTraceEventName> = Extract<KvmTraceEvent, { readonly event: Name }>;
type Formatters = {
  readonly [Name in KvmTraceEventName]: (event: EventOf<Name>, kernel: number, dialect: TraceDialect) => string;
};

const hex = (value: bigint | number): string => `0x${value.toString(16)}`;
const pad = (value: bigint | number, digits: number): string => `0x${value.toString(16).padStart(digits, '0')}`;

/** kvm_deliver_mode: ICR bits 10:8. */
export const DELIVERY_MODES = ['Fixed', 'LowPrio', 'SMI', 'Res3', 'NMI', 'INIT', 'SIPI', 'ExtINT'] as const;
/** KVM's trace word for a delivery mode. */
export const deliveryModeName = (mode: (typeof ICR_MODES)[number]): string => DELIVERY_MODES[ICR_MODES.indexOf(mode)];

/** kvm_trace_symbol_apic: register offset → name. Only the first word of ISR, TMR and IRR has a name. */
export const APIC_REGISTERS: ReadonlyMap<number, string> = new Map([
  [0x020, 'APIC_ID'],
  [0x030, 'APIC_LVR'],
  [0x080, 'APIC_TASKPRI'],
  [0x090, 'APIC_ARBPRI'],
  [0x0a0, 'APIC_PROCPRI'],
  [0x0b0, 'APIC_EOI'],
  [0x0c0, 'APIC_RRR'],
  [0x0d0, 'APIC_LDR'],
  [0x0e0, 'APIC_DFR'],
  [0x0f0, 'APIC_SPIV'],
  [0x100, 'APIC_ISR'],
  [0x180, 'APIC_TMR'],
  [0x200, 'APIC_IRR'],
  [0x280, 'APIC_ESR'],
  [0x300, 'APIC_ICR'],
  [0x310, 'APIC_ICR2'],
  [0x320, 'APIC_LVTT'],
  [0x330, 'APIC_LVTTHMR'],
  [0x340, 'APIC_LVTPC'],
  [0x350, 'APIC_LVT0'],
  [0x360, 'APIC_LVT1'],
  [0x370, 'APIC_LVTERR'],
  [0x380, 'APIC_TMICT'],
  [0x390, 'APIC_TMCCT'],
  [0x3e0, 'APIC_TDCR'],
  [0x3f0, 'APIC_SELF_IPI'],
  [0x400, 'APIC_EFEAT'],
  [0x410, 'APIC_ECTRL'],
]);

/** kvm_trace_sym_exc: exception vector → name. */
export const EXCEPTIONS: ReadonlyMap<number, string> = new Map([
  [0, '#DE'],
  [1, '#DB'],
  [3, '#BP'],
  [4, '#OF'],
  [5, '#BR'],
  [6, '#UD'],
  [7, '#NM'],
  [8, '#DF'],
  [10, '#TS'],
  [11, '#NP'],
  [12, '#SS'],
  [13, '#GP'],
  [14, '#PF'],
  [16, '#MF'],
  [17, '#AC'],
  [18, '#MC'],
]);

/** KVM_EXIT_* (include/uapi/linux/kvm.h) by the name without its prefix. */
export const USERSPACE_EXITS: ReadonlyMap<string, number> = new Map([
  ['UNKNOWN', 0],
  ['EXCEPTION', 1],
  ['IO', 2],
  ['HYPERCALL', 3],
  ['DEBUG', 4],
  ['HLT', 5],
  ['MMIO', 6],
  ['IRQ_WINDOW_OPEN', 7],
  ['SHUTDOWN', 8],
  ['FAIL_ENTRY', 9],
  ['INTR', 10],
  ['SET_TPR', 11],
  ['TPR_ACCESS', 12],
  ['NMI', 16],
  ['INTERNAL_ERROR', 17],
  ['SYSTEM_EVENT', 24],
  ['IOAPIC_EOI', 26],
  ['X86_RDMSR', 29],
  ['X86_WRMSR', 30],
]);

/** Number of a KVM_EXIT_* name, 0 (UNKNOWN) if it is none. */
export const userspaceExitNumber = (reason: string): number =>
  USERSPACE_EXITS.get(reason.replace(/^KVM_EXIT_/, '').toUpperCase()) ?? 0;

/** `#GP`, or the number in hexadecimal. */
export const exceptionName = (vector: number): string => EXCEPTIONS.get(vector) ?? hex(vector);
/** `APIC_ICR`, or the offset in hexadecimal. */
export const apicRegisterName = (offset: number): string => APIC_REGISTERS.get(offset) ?? hex(offset);

const acceptText = (e: EventOf<'kvm_apic_accept_irq' | 'kvm_apicv_accept_irq'>): string =>
  `apicid ${e.apicid.toString(16)} vec ${e.vector} (${DELIVERY_MODES[e.deliveryMode & 7]}|${e.triggerMode ? 'level' : 'edge'})`;

const FORMATTERS: Formatters = {
  // rip since v5.10 (b2d522552c75), event injection since v6.14 (3e633e7e7d07).
  kvm_entry: (e, kernel, dialect) => {
    const id = vcpuId(e, dialect);
    if (kernel < 5_010) return `vcpu ${id}`;
    const head = `vcpu ${id}, rip ${hex(e.rip)}`;
    return kernel < 6_014 ? head : `${head} intr_info ${pad(e.intrInfo, 8)} error_code ${pad(e.errorCode, 8)}`;
  },
  // vcpu since v5.6, fixed-width info, intr_info and error_code since v5.10 (235ba74f008d), requests since v6.14 (0e77b324110c).
  kvm_exit: (e, kernel, dialect) => {
    const id = vcpuId(e, dialect);
    const what = `reason ${exitReasonName(dialect.vendor, e.reason, kernel)} rip ${hex(e.rip)}`;
    if (kernel < 5_006) return `${what} info ${e.info1.toString(16)} ${e.info2.toString(16)}`;
    if (kernel < 5_010) return `vcpu ${id} ${what} info ${e.info1.toString(16)} ${e.info2.toString(16)}`;
    const info = `info1 ${pad(e.info1, 16)} info2 ${pad(e.info2, 16)}`;
    const event = `intr_info ${pad(e.intrInfo, 8)} error_code ${pad(e.errorCode, 8)}`;
    return `vcpu ${id} ${what} ${info} ${event}${kernel < 6_014 ? '' : ` requests ${pad(e.requests ?? 0, 16)}`}`;
  },
  kvm_hypercall: (e) => `nr ${hex(e.nr)} a0 ${hex(e.a0)} a1 ${hex(e.a1)} a2 ${hex(e.a2)} a3 ${hex(e.a3)}`,
  kvm_msr: (e) => `msr_${e.write ? 'write' : 'read'} ${e.msr.toString(16)} = ${hex(e.data)}${e.fault ? ' (#GP)' : ''}`,
  // The value became 64 bits wide in v5.18, together with the x2APIC ICR.
  kvm_apic: (e, kernel) =>
    `apic_${e.write ? 'write' : 'read'} ${apicRegisterName(e.reg)} = ${hex(kernel < 5_018 ? BigInt.asUintN(32, e.value) : e.value)}`,
  kvm_apic_ipi: (e) => {
    const icr = Icr.fromLow(e.icrLow, e.destId);
    const words = [
      deliveryModeName(icr.mode),
      icr.destinationMode,
      icr.level === 'assert' ? 'assert' : 'de-assert',
      icr.trigger,
      icr.shorthand === 'none' ? 'dst' : icr.shorthand,
    ];
    return `dst ${icr.destination.toString(16)} vec ${icr.vector} (${words.join('|')})`;
  },
  kvm_apic_accept_irq: acceptText,
  kvm_apicv_accept_irq: acceptText,
  kvm_eoi: (e) => `apicid ${e.apicid.toString(16)} vector ${e.vector}`,
  kvm_pv_eoi: (e) => `apicid ${e.apicid.toString(16)} vector ${e.vector}`,
  // Soft interrupts and re-injection are told apart since v6.0.
  kvm_inj_virq: (e, kernel) =>
    kernel < 6_000
      ? `irq ${e.irq}`
      : `${e.soft ? 'Soft/INTn' : 'IRQ'} ${hex(e.irq)}${e.reinjected ? ' [reinjected]' : ''}`,
  kvm_inj_nmi: () => '',
  // Until v5.19 an exception without error code was printed as if it had 0.
  kvm_inj_exception: (e, kernel) => {
    const name = exceptionName(e.vector);
    if (kernel < 6_000) return `${name} (${hex(e.errorCode ?? 0)})`;
    return `${name}${e.errorCode === null ? '' : ` (${hex(e.errorCode)})`}${e.reinjected ? ' [reinjected]' : ''}`;
  },
  // The index, and whether the last basic leaf answered for one out of range, are shown since v5.7 (43561123ab37, 2b110b616529).
  kvm_cpuid: (e, kernel) => {
    const values = `rax ${e.eax.toString(16)} rbx ${e.ebx.toString(16)} rcx ${e.ecx.toString(16)} rdx ${e.edx.toString(16)}`;
    const leaf = kernel < 5_007 ? e.func.toString(16) : `${e.func.toString(16)} idx ${e.index.toString(16)}`;
    const instead = kernel >= 5_007 && e.usedMaxBasic === true ? ', used max basic' : '';
    return `func ${leaf} ${values}, cpuid entry ${e.found ? 'found' : 'not found'}${instead}`;
  },
  // KVM's text ends in a blank unless several items moved: the last %s is empty.
  kvm_pio: (e) =>
    `pio_${e.write ? 'write' : 'read'} at ${hex(e.port)} size ${e.size} count 1 val ${hex(e.value >>> 0)} `,
  kvm_mmio: (e) => `mmio ${e.write ? 'write' : 'read'} len ${e.size} gpa ${hex(e.gpa)} val ${hex(e.value)}`,
  kvm_cr: (e) => `cr_${e.write ? 'write' : 'read'} ${e.cr.toString(16)} = ${hex(e.value)}`,
  kvm_userspace_exit: (e) => {
    const name = e.reason.replace(/^KVM_EXIT_/, '').toUpperCase();
    return `reason KVM_EXIT_${name} (${userspaceExitNumber(name)})`;
  },
  kvm_pvclock_update: (e) =>
    `vcpu_id ${e.vcpuId}, pvclock { version ${e.version}, tsc_timestamp ${hex(e.tscTimestamp)}, ` +
    `system_time ${hex(e.systemTime)}, tsc_to_system_mul ${hex(e.mul)}, tsc_shift ${e.shift}, flags ${hex(e.flags)} }`,
  kvm_pv_tlb_flush: (e) => `vcpu ${e.vcpuId} need_flush_tlb ${e.needFlush}`,
  kvm_async_pf_not_present: (e) => `token ${hex(e.token)} gva ${hex(e.gva)}`,
  kvm_async_pf_ready: (e) => `token ${hex(e.token)} gva ${hex(e.gva)}`,
};

/** The text after `kvm_…: ` in a trace line, exactly as the era's kernel prints it. */
export function formatEvent(event: KvmTraceEvent, dialect: TraceDialect): string {
  const format = FORMATTERS[event.event] as (event: KvmTraceEvent, kernel: number, dialect: TraceDialect) => string;
  return format(event, kernelVersion(dialect.era), dialect);
}

/** Nanoseconds as `seconds.nanoseconds`. */
const seconds = (time: number): string => `${Math.floor(time / 1e9)}.${String(time % 1e9).padStart(9, '0')}`;

/** Whole lines as `trace-cmd report -N -t` shows them: `comm-tid [cpu] seconds: event: text`. vCPU n's thread runs on CPU n. */
export function* ftraceLines(run: TimedTrace): Generator<string> {
  for (const [i, event] of run.trace.entries()) {
    if (!isTracepoint(event)) continue;
    const { vcpu } = event;
    const task = `${vcpuComm(vcpu).padStart(16)}-${String(vcpuTid(vcpu)).padEnd(5)}`;
    const time = seconds(run.times[i]).padStart(15);
    const name = `${event.event}: `.padEnd(22);
    yield `${task} [${String(vcpu).padStart(3, '0')}] ${time}: ${name}${formatEvent(event, run)}`;
  }
}
