/**
 * What an exit meant, in a sentence: hypercalls, MSRs, ICR fields, ports. Decoding for readers only; KVM's decisions are made
 * elsewhere and arrive here as the events and registers of the exit record.
 */
import { GENERAL_REGISTERS } from '../cpu/registers.ts';
import { Icr, X2APIC_BROADCAST } from '../kvm/icr.ts';
import type { KvmTraceEvent } from '../kvm/trace.ts';
import type { ExitRecord } from '../kvm/types.ts';
import { apicRegisterName, DELIVERY_MODES, deliveryModeName, exceptionName } from './ftrace.ts';
import { hex, ranges, vcpuNames } from './text.ts';

/** Hypercall numbers (include/uapi/linux/kvm_para.h) that x86 KVM knows. */
const HYPERCALLS: ReadonlyMap<bigint, string> = new Map([
  [1n, 'KVM_HC_VAPIC_POLL_IRQ'],
  [2n, 'KVM_HC_MMU_OP'],
  [3n, 'KVM_HC_FEATURES'],
  [5n, 'KVM_HC_KICK_CPU'],
  [9n, 'KVM_HC_CLOCK_PAIRING'],
  [10n, 'KVM_HC_SEND_IPI'],
  [11n, 'KVM_HC_SCHED_YIELD'],
  [12n, 'KVM_HC_MAP_GPA_RANGE'],
]);

/** Hypercall errors, by the number the guest finds negated in RAX. */
const ERRORS: ReadonlyMap<number, string> = new Map([
  [1, 'KVM_EPERM'],
  [7, 'KVM_E2BIG'],
  [14, 'KVM_EFAULT'],
  [22, 'KVM_EINVAL'],
  [95, 'KVM_EOPNOTSUPP'],
  [1000, 'KVM_ENOSYS'],
]);

/** Model-specific registers a reader meets here, by their SDM or Linux name. */
const MSRS: ReadonlyMap<number, string> = new Map([
  [0x10, 'IA32_TIME_STAMP_COUNTER'],
  [0x11, 'MSR_KVM_WALL_CLOCK'],
  [0x12, 'MSR_KVM_SYSTEM_TIME'],
  [0x1b, 'IA32_APIC_BASE'],
  [0x3b, 'IA32_TSC_ADJUST'],
  [0x8b, 'IA32_BIOS_SIGN_ID'],
  [0xfe, 'IA32_MTRRCAP'],
  [0x179, 'IA32_MCG_CAP'],
  [0x1a0, 'IA32_MISC_ENABLE'],
  [0x277, 'IA32_PAT'],
  [0x6e0, 'IA32_TSC_DEADLINE'],
  [0x802, 'x2APIC ID'],
  [0x803, 'x2APIC version'],
  [0x808, 'x2APIC TPR'],
  [0x80a, 'x2APIC PPR'],
  [0x80b, 'x2APIC EOI'],
  [0x80d, 'x2APIC LDR'],
  [0x80f, 'x2APIC SIVR'],
  [0x828, 'x2APIC ESR'],
  [0x830, 'x2APIC ICR'],
  [0x832, 'x2APIC LVT timer'],
  [0x835, 'x2APIC LVT LINT0'],
  [0x836, 'x2APIC LVT LINT1'],
  [0x837, 'x2APIC LVT error'],
  [0x838, 'x2APIC initial count'],
  [0x839, 'x2APIC current count'],
  [0x83e, 'x2APIC divide configuration'],
  [0x83f, 'x2APIC SELF IPI'],
  [0x4b564d00, 'MSR_KVM_WALL_CLOCK_NEW'],
  [0x4b564d01, 'MSR_KVM_SYSTEM_TIME_NEW'],
  [0x4b564d02, 'MSR_KVM_ASYNC_PF_EN'],
  [0x4b564d03, 'MSR_KVM_STEAL_TIME'],
  [0x4b564d04, 'MSR_KVM_PV_EOI_EN'],
  [0x4b564d05, 'MSR_KVM_POLL_CONTROL'],
  [0x4b564d06, 'MSR_KVM_ASYNC_PF_INT'],
  [0x4b564d07, 'MSR_KVM_ASYNC_PF_ACK'],
  [0x4b564d08, 'MSR_KVM_MIGRATION_CONTROL'],
  [0xc0000080, 'IA32_EFER'],
]);

/** Ports of the machine's test devices. */
const PORTS: ReadonlyMap<number, string> = new Map([
  [0xe8, 'report port'],
  [0xe9, 'debug console'],
  [0xf4, 'debug exit'],
  [0x3f8, 'COM1 data'],
  [0x3fd, 'COM1 line status'],
]);

const SLOT = new Map(GENERAL_REGISTERS.map((register, i) => [register.name, i]));
const slot = (name: string): number => SLOT.get(name) as number;

/** A general register of an exit record. */
export const registerOf = (values: readonly bigint[], name: string): bigint => values[slot(name)];

export const msrName = (msr: number): string => {
  const known = MSRS.get(msr);
  if (known) return `${known} (${hex(msr)})`;
  if (msr >= 0x810 && msr < 0x818) return `x2APIC ISR[${msr - 0x810}] (${hex(msr)})`;
  if (msr >= 0x818 && msr < 0x820) return `x2APIC TMR[${msr - 0x818}] (${hex(msr)})`;
  if (msr >= 0x820 && msr < 0x828) return `x2APIC IRR[${msr - 0x820}] (${hex(msr)})`;
  return `MSR ${hex(msr)}`;
};

/** 'vector 0xd1, Fixed, edge'. Modes that carry no vector are shown without one. */
export function interruptWords(icr: Icr): string {
  const parts: string[] = [deliveryModeName(icr.mode)];
  if (icr.mode === 'fixed' || icr.mode === 'lowest' || icr.mode === 'startup')
    parts.unshift(`vector ${hex(icr.vector)}`);
  parts.push(icr.trigger === 'level' ? `level ${icr.level === 'assert' ? 'assert' : 'de-assert'}` : 'edge');
  return parts.join(', ');
}

const SHORTHAND_WORDS = {
  self: 'to itself (shorthand self)',
  all: 'to all including itself (shorthand all)',
  'all-but-self': 'to all but itself (shorthand all-but-self)',
} as const;

/** Where an ICR write goes: shorthand, or physical or logical destination. */
export function destinationWords({ shorthand, destination, destinationMode }: Icr, x2apic = true): string {
  if (shorthand !== 'none') return SHORTHAND_WORDS[shorthand];
  if (x2apic && destination === X2APIC_BROADCAST) return `to everybody (destination ${hex(destination)})`;
  if (destinationMode === 'physical') return `to APIC id ${destination} (physical)`;
  if (!x2apic) return `to logical destination ${hex(destination)}`;
  const cluster = destination >>> 16;
  return `to logical destination ${hex(destination)} (cluster ${cluster}, members ${hex(destination & 0xffff)})`;
}

/** APIC ids a SEND_IPI bitmap pair names: two halves of `half` bits from `min`, the second one's base wrapping at 2^32. */
export function bitmapIds(low: bigint, high: bigint, min: number, half: 32 | 64): number[] {
  const ids: number[] = [];
  for (const [bits, base] of [
    [BigInt.asUintN(half, low), min],
    [BigInt.asUintN(half, high), (min + half) >>> 0],
  ] as const) {
    for (let i = 0; i < half; i += 1) if ((bits >> BigInt(i)) & 1n) ids.push(base + i);
  }
  return ids;
}

/** A hypercall's RAX: '3', '-22 (KVM_EINVAL)'; `wide` for a 64-bit caller. */
export function hypercallResult(rax: bigint, wide: boolean): string {
  const value = Number(BigInt.asIntN(wide ? 64 : 32, rax));
  const error = ERRORS.get(-value);
  return error ? `${value} (-${error})` : `${value}`;
}

function hypercallWords(before: readonly bigint[], wide: boolean): string {
  const cut = (value: bigint): bigint => (wide ? value : BigInt.asUintN(32, value));
  const [nr, a0, a1, a2, a3] = ['rax', 'rbx', 'rcx', 'rdx', 'rsi'].map((name) => cut(registerOf(before, name)));
  const name = HYPERCALLS.get(nr);
  if (nr === 10n) {
    const ids = bitmapIds(a0, a1, Number(BigInt.asUintN(32, a2)), wide ? 64 : 32);
    const whom = ids.length === 0 ? 'to nobody' : `to APIC id${ids.length === 1 ? '' : 's'} ${ranges(ids)}`;
    const bitmap = a1 === 0n ? hex(a0) : `${hex(a0)}, ${hex(a1)}`;
    return `${name}: ${interruptWords(Icr.fromX2(a3))}, ${whom} (bitmap ${bitmap} from id ${hex(a2)})`;
  }
  if (nr === 5n) return `${name}: wake the vCPU with APIC id ${a1}`;
  if (nr === 11n) return `${name}: let the vCPU with APIC id ${a0} run`;
  return name ? `${name} (${hex(a0)}, ${hex(a1)}, ${hex(a2)}, ${hex(a3)})` : `unknown hypercall ${hex(nr)}`;
}

/** What an exit wanted, as `label: sentence`; the label says whether something was sent. */
export interface Meaning {
  readonly label: 'sent' | 'asked' | 'why';
  readonly text: string;
}

const find = <Name extends KvmTraceEvent['event']>(
  events: readonly KvmTraceEvent[],
  name: Name,
): Extract<KvmTraceEvent, { event: Name }> | undefined =>
  events.find((event): event is Extract<KvmTraceEvent, { event: Name }> => event.event === name);

/** Causes of exit 0x401 (APM vol. 2, 15.29.9.1). */
const INCOMPLETE_IPI: Readonly<Record<number, string>> = {
  0: 'it is not Fixed and edge-triggered',
  1: 'a target does not run',
  2: 'a target does not exist',
  4: 'its vector is below 16',
};

/** What the guest wanted from KVM with this exit. */
export function exitMeaning(record: ExitRecord): Meaning {
  const { before, events } = record;
  const name = record.name.toLowerCase();
  if (name === 'vmcall' || name === 'vmmcall' || name === 'hypercall') {
    const text = hypercallWords(before, record.bits === 64);
    return { label: text.startsWith('KVM_HC_SEND_IPI') ? 'sent' : 'asked', text };
  }
  if (name === 'msr_write' || name === 'wrmsr' || (name === 'msr' && find(events, 'kvm_msr')?.write)) {
    const msr = Number(BigInt.asUintN(32, registerOf(before, 'rcx')));
    const low = Number(BigInt.asUintN(32, registerOf(before, 'rax')));
    const high = Number(BigInt.asUintN(32, registerOf(before, 'rdx')));
    if (msr === 0x830) {
      const icr = Icr.fromLow(low, high);
      return { label: 'sent', text: `ICR write: ${interruptWords(icr)}, ${destinationWords(icr)}` };
    }
    if (msr === 0x83f) return { label: 'sent', text: `SELF IPI write: vector ${hex(low & 0xff)} to itself` };
    if (msr === 0x80b) return { label: 'asked', text: 'EOI: the interrupt in service has been handled' };
    const value = (BigInt(high) << 32n) | BigInt(low);
    return { label: 'asked', text: `write ${hex(value)} to ${msrName(msr)}` };
  }
  if (name === 'msr_read' || name === 'rdmsr' || name === 'msr') {
    return { label: 'asked', text: `read ${msrName(Number(BigInt.asUintN(32, registerOf(before, 'rcx'))))}` };
  }
  if (name === 'cpuid') {
    const [leaf, index] = ['rax', 'rcx'].map((register) => BigInt.asUintN(32, registerOf(before, register)));
    return { label: 'asked', text: `CPUID leaf ${hex(leaf)} index ${hex(index)}` };
  }
  if (name === 'xsetbv') {
    const [low, high, index] = ['rax', 'rdx', 'rcx'].map((register) =>
      BigInt.asUintN(32, registerOf(before, register)),
    );
    return { label: 'asked', text: `write ${hex((high << 32n) | low)} to XCR${index}` };
  }
  const pio = find(events, 'kvm_pio');
  if (pio) {
    const port = PORTS.get(pio.port);
    const where = port ? `${port} (${hex(pio.port)})` : `port ${hex(pio.port)}`;
    return pio.write
      ? { label: 'asked', text: `write ${hex(pio.value >>> 0)} to the ${where}, ${pio.size} byte` }
      : { label: 'asked', text: `read ${pio.size} byte from the ${where}` };
  }
  const mmio = find(events, 'kvm_mmio');
  if (mmio) {
    const what = mmio.write ? `write ${hex(mmio.value)} to` : 'read';
    return { label: 'asked', text: `${what} guest-physical address ${hex(mmio.gpa)}, ${mmio.size} byte` };
  }
  const apic = find(events, 'kvm_apic');
  if (apic) {
    const text = `${apic.write ? `write ${hex(apic.value)} to` : 'read'} local APIC register ${apicRegisterName(apic.reg)}`;
    return { label: find(events, 'kvm_apic_ipi') ? 'sent' : 'asked', text };
  }
  const cr = find(events, 'kvm_cr');
  if (cr) return { label: 'asked', text: cr.write ? `write ${hex(cr.value)} to CR${cr.cr}` : `read CR${cr.cr}` };
  const eoi = find(events, 'kvm_eoi');
  if (name === 'eoi_induced' && eoi)
    return { label: 'why', text: `the EOI of vector ${hex(eoi.vector)}, which an I/O APIC waits for` };
  if (name === 'avic_incomplete_ipi') {
    const cause = Number((find(events, 'kvm_exit')?.info2 ?? 0n) >> 32n);
    return { label: 'why', text: `AVIC did not complete an IPI: ${INCOMPLETE_IPI[cause] ?? `cause ${cause}`}` };
  }
  if (name === 'hlt') return { label: 'asked', text: 'HLT: sleep until an interrupt, NMI or kick' };
  // AMD has one exit for both: the timer's comes with its vector.
  if (name === 'preemption_timer' || (name === 'interrupt' && find(events, 'kvm_apic_accept_irq')))
    return { label: 'why', text: 'the LAPIC timer expired' };
  if (name === 'external_interrupt' || name === 'interrupt')
    return { label: 'why', text: 'another vCPU kicked this one out of the guest' };
  if (name === 'interrupt_window' || name === 'vintr')
    return { label: 'why', text: 'the guest can take interrupts again and one is pending' };
  if (name === 'nmi_window' || name === 'iret') return { label: 'why', text: 'the guest can take an NMI again' };
  if (name === 'triple_fault' || name === 'shutdown')
    return { label: 'why', text: 'triple fault: an exception during double-fault delivery' };
  if (name === 'pause_instruction' || name === 'pause') return { label: 'asked', text: 'PAUSE: let others run' };
  const exception = find(events, 'kvm_inj_exception');
  if (exception) return { label: 'why', text: `${exceptionName(exception.vector)} in the guest` };
  if (name.startsWith('exception') || name.endsWith('excp'))
    return { label: 'why', text: "#UD, which KVM looks at first: it may be the other vendor's hypercall instruction" };
  return { label: 'why', text: record.name };
}

/** Who accepted something during this exit: one sentence per kind of message, in order of the first acceptance. */
export function receivers(events: readonly KvmTraceEvent[], vcpuOfApicId: (apicid: number) => number): string[] {
  const byMessage = new Map<string, number[]>();
  for (const event of events) {
    if (event.event !== 'kvm_apic_accept_irq') continue;
    const mode = event.deliveryMode & 7;
    const what = mode === 0 || mode === 1 || mode === 6 ? `vector ${hex(event.vector)} ` : '';
    const trigger = mode === 0 || mode === 1 ? (event.triggerMode ? ', level' : ', edge') : '';
    const key = `${what}(${DELIVERY_MODES[mode]}${trigger})`;
    const list = byMessage.get(key) ?? [];
    list.push(vcpuOfApicId(event.apicid));
    byMessage.set(key, list);
  }
  return [...byMessage].map(([key, indices]) => `${vcpuNames(indices.sort((a, b) => a - b))}: ${key}`);
}
