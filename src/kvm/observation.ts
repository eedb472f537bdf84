/**
 * What an observer of a VM gets to see: trace events in KVM's order, and one record per exit. Exists only while
 * somebody listens; the run loop asks for it before it composes anything.
 */
import { R_ATTR, R_BASE, R_RAX, R_RBX, R_RCX, R_RDX, R_RIP, R_RSI, SEG_CS } from '../cpu/core/layout.ts';
import { GENERAL_REGISTERS } from '../cpu/registers.ts';
import type { VendorExit } from './exits.ts';
import { ICR_LEVEL, ICR_MODE, ICR_MODE_SHIFT, ICR_VECTOR } from './icr.ts';
import type { Lapic } from './lapic.ts';
import type { KvmTraceEvent } from './trace.ts';
import type { ExitRecord, FastpathCompletion, FastpathOutcome, FastpathVerdict, KvmObserver } from './types.ts';
import type { KvmVcpu } from './vcpu.ts';

/** VM-entry interruption information: an error code is delivered (SDM vol. 3, 26.8.3). */
const INFO_ERROR_CODE = 0x800;
/** D in a segment attribute word: 32-bit code (SDM vol. 3, 24.4.1). */
const ATTR_CS_D = 0x4000;

/** A 64-bit value from two halves, signed or unsigned. */
export const join64 = (lo: number, hi: number): bigint => (BigInt(hi >>> 0) << 32n) | BigInt(lo >>> 0);

/** What kvm_apic_accept_irq says of a message, an ICR low word. */
const messageFields = (message: number): { deliveryMode: number; triggerMode: 0 | 1; vector: number } => ({
  deliveryMode: (message & ICR_MODE) >> ICR_MODE_SHIFT,
  triggerMode: (message & ICR_LEVEL) !== 0 ? 1 : 0,
  vector: message & ICR_VECTOR,
});

// vcpu->requests, bits of arch/x86/include/asm/kvm_host.h in v6.14, the first kernel that prints them.
const KVM_REQ_EVENT = 1 << 14;
const KVM_REQ_NMI = 1 << 17;
const KVM_REQ_SMI = 1 << 20;

/** What others asked of a vCPU while it was in the guest: NMI and SMI have bits of their own, all else is KVM_REQ_EVENT. */
function pendingRequests(lapic: Lapic): number {
  const special = (lapic.nmiQueued > 0 ? KVM_REQ_NMI : 0) | (lapic.smiPending ? KVM_REQ_SMI : 0);
  if (!lapic.requestEvent) return special;
  const other = lapic.irrPending || lapic.initPending || lapic.sipiPending || lapic.pvUnhalted;
  return special === 0 || other ? special | KVM_REQ_EVENT : special;
}

/** An ExitRecord that is still being filled. */
export interface OpenRecord {
  readonly name: string;
  readonly reason: number;
  readonly rip: bigint;
  readonly linear: bigint;
  readonly bits: 16 | 32 | 64;
  readonly before: readonly bigint[];
  readonly events: KvmTraceEvent[];
  fastpath: FastpathOutcome | undefined;
}

const copyRecord = (record: OpenRecord | null): OpenRecord | null =>
  record === null ? null : { ...record, events: [...record.events] };

const generalRegisters = (vcpu: KvmVcpu): readonly bigint[] =>
  GENERAL_REGISTERS.map((register) => vcpu.state.get(register.id));

export class Observation {
  private readonly observer: KvmObserver;
  private readonly exitTable: readonly VendorExit[];
  /** By vCPU: the exit being handled. */
  private readonly records: (OpenRecord | null)[];

  constructor(observer: KvmObserver, exitTable: readonly VendorExit[], vcpus: number) {
    this.observer = observer;
    this.exitTable = exitTable;
    this.records = new Array<OpenRecord | null>(vcpus).fill(null);
  }

  /** What a snapshot holds: the records that are still open. */
  save(): readonly (OpenRecord | null)[] {
    return this.records.map(copyRecord);
  }

  restore(records: readonly (OpenRecord | null)[]): void {
    for (let index = 0; index < records.length; index++) this.records[index] = copyRecord(records[index]);
  }

  emit(event: KvmTraceEvent): void {
    this.records[event.vcpu]?.events.push(event);
    this.observer.event?.(event);
  }

  // ---- exit records ----

  /** Begins the record of an exit. */
  open(vcpu: KvmVcpu, kind: number): void {
    const { name, number } = this.exitTable[kind];
    const { state } = vcpu;
    const rip = state.get(R_RIP);
    const long = state.is64bit;
    this.records[vcpu.index] = {
      name,
      reason: number,
      rip,
      linear: long ? rip : BigInt.asUintN(32, rip + state.get(R_BASE + SEG_CS)),
      bits: long ? 64 : (state.lo(R_ATTR + SEG_CS) & ATTR_CS_D) !== 0 ? 32 : 16,
      before: generalRegisters(vcpu),
      events: [],
      fastpath: undefined,
    };
  }

  /** Notes the fastpath's verdict in the open record. */
  verdict(vcpu: KvmVcpu, verdict: FastpathVerdict): void {
    const record = this.records[vcpu.index];
    if (record !== null) record.fastpath = verdict;
  }

  /** Notes how KVM goes on after a taken fastpath. */
  completion(vcpu: KvmVcpu, completion: FastpathCompletion): void {
    const record = this.records[vcpu.index];
    if (record?.fastpath !== undefined) record.fastpath = { ...record.fastpath, completion };
  }

  /** Ends the open record, if there is one, and hands it over. */
  close(vcpu: KvmVcpu): void {
    const record = this.records[vcpu.index];
    if (record === null) return;
    this.records[vcpu.index] = null;
    if (this.observer.exit === undefined) return;
    const { fastpath, ...rest } = record;
    const after = generalRegisters(vcpu);
    const full: ExitRecord = { vcpu: vcpu.index, ...rest, after, ...(fastpath === undefined ? {} : { fastpath }) };
    this.observer.exit(full);
  }

  // ---- events, as KVM's tracepoints see them ----

  entry(vcpu: KvmVcpu): void {
    const intrInfo = vcpu.state.injected >>> 0;
    const errorCode = (intrInfo & INFO_ERROR_CODE) !== 0 ? vcpu.injectedError : 0;
    this.emit({ event: 'kvm_entry', vcpu: vcpu.index, rip: vcpu.state.get(R_RIP), intrInfo, errorCode });
  }

  exit(vcpu: KvmVcpu, kind: number, info1: bigint, info2: bigint, intrInfo: number): void {
    const { number: reason } = this.exitTable[kind];
    // RIP of the exit: the fastpath may have advanced it since.
    const rip = this.records[vcpu.index]?.rip ?? vcpu.state.get(R_RIP);
    const requests = pendingRequests(vcpu.lapic);
    const shown = requests === 0 ? {} : { requests };
    this.emit({ event: 'kvm_exit', vcpu: vcpu.index, reason, rip, info1, info2, intrInfo, errorCode: 0, ...shown });
  }

  hypercall(vcpu: KvmVcpu): void {
    const { state, index } = vcpu;
    const [nr, a0, a1, a2, a3] = [R_RAX, R_RBX, R_RCX, R_RDX, R_RSI].map((id) => state.get(id)) as [
      bigint,
      bigint,
      bigint,
      bigint,
      bigint,
    ];
    this.emit({ event: 'kvm_hypercall', vcpu: index, nr, a0, a1, a2, a3 });
  }

  msr(vcpu: KvmVcpu, write: boolean, msr: number, lo: number, hi: number, fault: boolean): void {
    this.emit({ event: 'kvm_msr', vcpu: vcpu.index, write, msr, data: join64(lo, hi), fault });
  }

  apic(vcpu: KvmVcpu, write: boolean, reg: number, lo: number, hi: number): void {
    this.emit({ event: 'kvm_apic', vcpu: vcpu.index, write, reg, value: join64(lo, hi) });
  }

  ipi(vcpu: KvmVcpu, icrLow: number, destId: number): void {
    this.emit({ event: 'kvm_apic_ipi', vcpu: vcpu.index, icrLow: icrLow >>> 0, destId: destId >>> 0 });
  }

  /** `thread`: index of the vCPU that sends. */
  accept(thread: number, target: Lapic, message: number): void {
    this.emit({ event: 'kvm_apic_accept_irq', vcpu: thread, apicid: target.vcpuId, ...messageFields(message) });
  }

  /** `thread`: index of the vCPU that sends. */
  apicvAccept(thread: number, target: Lapic, message: number): void {
    this.emit({ event: 'kvm_apicv_accept_irq', vcpu: thread, apicid: target.vcpuId, ...messageFields(message) });
  }

  eoi(vcpu: KvmVcpu, vector: number): void {
    this.emit({ event: 'kvm_eoi', vcpu: vcpu.index, apicid: vcpu.apicId, vector });
  }

  port(vcpu: KvmVcpu, write: boolean, port: number, size: number, value: number): void {
    const seen = size === 4 ? value >>> 0 : value & ((1 << (size * 8)) - 1);
    this.emit({ event: 'kvm_pio', vcpu: vcpu.index, write, port, size, value: seen });
  }

  memory(vcpu: KvmVcpu, write: boolean, gpa: bigint, size: number, value: bigint): void {
    this.emit({ event: 'kvm_mmio', vcpu: vcpu.index, write, gpa, size, value });
  }

  userspaceExit(vcpu: KvmVcpu, reason: string): void {
    this.emit({ event: 'kvm_userspace_exit', vcpu: vcpu.index, reason });
  }
}
