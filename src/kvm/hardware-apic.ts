/**
 * A VM whose host has hardware help for local APICs: Intel APICv (with or without IPI virtualization) or AMD AVIC. Which
 * accesses leave the guest is decided in `apicv.ts` and `avic.ts`; here is what they do, how messages reach a vCPU in the
 * guest without an exit, and what switches the help off at run time (kvm_set_apicv_inhibit).
 *
 * The CPU core leaves for every access to an APIC register. What the processor would have performed itself is performed
 * here and shows nowhere: no counter, no trace event. A posted interrupt is merged into IRR at once: nobody can look
 * between the posted-interrupt request register and the processor's merging it.
 *
 * Which IPIs the processors send by themselves follows their manuals, not a recording.
 */
import { WINDOW_INTERRUPT } from '../cpu/core/layout.ts';
import type { Vendor } from '../cpu/cpu.ts';
import type { MmioExit } from '../cpu/exit.ts';
import { KvmscopeError } from '../errors.ts';
import type { ApicMap } from './apic-map.ts';
import { FAULTS, INTERCEPTED, SENDS, SENDS_SELF, TRAPS, vmxLoad, vmxRdmsr, vmxStore, vmxWrmsr } from './apicv.ts';
import {
  avicIpi,
  avicLoad,
  avicRdmsr,
  avicStore,
  avicWrmsr,
  IPI_COMPLETE,
  IPI_INVALID_TARGET,
  IPI_INVALID_TYPE,
  IPI_NOT_RUNNING,
} from './avic.ts';
import type { Era } from './eras.ts';
import { EXIT_APIC_ACCESS, EXIT_APIC_WRITE, EXIT_EOI_INDUCED, EXIT_INCOMPLETE_IPI, NEXT, RESUME } from './exits.ts';
import {
  ICR_BUSY,
  ICR_LOGICAL,
  ICR_SHORTHAND,
  ICR_SHORTHAND_SHIFT,
  ICR_VECTOR,
  SHORTHAND_ALL,
  SHORTHAND_ALL_BUT_SELF,
  SHORTHAND_SELF,
  X2APIC_BROADCAST,
  XAPIC_BROADCAST,
} from './icr.ts';
import { APIC_EOI, APIC_ICR, APIC_ICR2, APIC_SELF_IPI, APIC_TPR, type Lapic } from './lapic.ts';
import { join64, type Observation } from './observation.ts';
import type { ApicvMode } from './types.ts';
import type { KvmVcpu } from './vcpu.ts';

/** Answer of this file to an access that it leaves to the ordinary exit. */
export const NOT_HANDLED = -1;

/** Why the help is off (APICV_INHIBIT_REASON_*): those that a guest of this model can cause. */
export type ApicvInhibit =
  | 'no in-kernel APIC'
  | 'APIC ID modified'
  | 'APIC base modified'
  | 'physical ID aliased'
  | 'logical ID aliased'
  | 'physical ID too big'
  | 'x2APIC mode';

export type HardwareKind = 'apicv' | 'ipiv' | 'avic';

/** The options as one word; null: no help. Throws KvmscopeError('usage') for what the host or the era has not. */
export function hardwareKind(era: Era, vendor: Vendor, apicv: ApicvMode, avic: boolean): HardwareKind | null {
  if (apicv !== 'off' && vendor !== 'intel') {
    throw new KvmscopeError('usage', `APICv '${apicv}' is Intel's; for an AMD host give avic`);
  }
  if (avic && vendor !== 'amd') throw new KvmscopeError('usage', "AVIC is AMD's; for an Intel host give apicv");
  if (apicv === 'ipiv' && !era.ipiVirtualization) {
    throw new KvmscopeError('usage', `KVM ${era.name} has no IPI virtualization, which came in 6.0; use apicv 'on'`);
  }
  if (avic) return 'avic';
  return apicv === 'off' ? null : apicv === 'on' ? 'apicv' : 'ipiv';
}

const DEFAULT_BASE = 0xfee00000;
const PAGE = 0xfff;
/** x2AVIC's largest APIC id; AVIC's in xAPIC mode is 254. */
const MAX_AVIC_ID = 511;
/** EXITINFO1 bit 32 of exit 0x402. */
const AVIC_WRITE = 1n << 32n;

/** What this needs of KVM. */
export interface HardwareApicHost {
  readonly era: Era;
  readonly vendor: Vendor;
  readonly vcpus: readonly KvmVcpu[];
  /** kvm_ioapic_send_eoi, and its trace. */
  readonly endOfInterrupt: (vcpu: KvmVcpu, vector: number) => void;
  /** Whether an EOI of this vector concerns the I/O APIC. */
  readonly eoiExits: (vector: number) => boolean;
  readonly trace: Observation | null;
  readonly inKernelApic: boolean;
  apicMap(): ApicMap | null;
  leave(vcpu: KvmVcpu, kind: number, info1: bigint, info2: bigint): void;
  /** Advances RIP; NEXT or RESUME. */
  skipSilently(vcpu: KvmVcpu): number;
  /** #GP(0) without an exit. */
  raiseGp(vcpu: KvmVcpu): void;
  /** The processor injects an external interrupt. */
  injectVector(vcpu: KvmVcpu, vector: number): void;
  accessMemory(vcpu: KvmVcpu, exit: MmioExit): number;
  writeX2Icr(vcpu: KvmVcpu, lo: number, hi: number): boolean;
  writeApicRegister(vcpu: KvmVcpu, offset: number, value: number): boolean;
  /** Messages cost the budget of a run. */
  countMessages(count: number): void;
  /** Ends a sleep. */
  wakeUp(vcpu: KvmVcpu): void;
  /** Makes a vCPU in the guest leave it. */
  kickOut(vcpu: KvmVcpu): void;
}

/** An exit that follows the instruction. */
interface Trap {
  readonly kind: number;
  readonly offset: number;
  readonly lo: number;
  readonly hi: number;
  /** Incomplete IPI: why, and the first target it is about. */
  readonly cause: number;
  readonly index: number;
}

/** What a snapshot holds of the help. */
export interface HardwareApicState {
  readonly active: boolean;
  readonly reasons: ReadonlySet<ApicvInhibit>;
  readonly eoiExits: readonly ReadonlySet<number>[];
  readonly traps: readonly (Trap | null)[];
}

export class HardwareApic {
  readonly kind: HardwareKind;
  /** Whether the help is on now. */
  active = false;

  private readonly host: HardwareApicHost;
  // Sets are replaced when they change, so that snapshots may share them.
  /** Vectors whose EOI an I/O APIC wants to know, by vCPU: its EOI-exit bitmap. */
  private readonly eoiExits: ReadonlySet<number>[];
  private reasons: ReadonlySet<ApicvInhibit> = new Set();
  private readonly traps: (Trap | null)[];
  /** PID-pointer table. */
  private readonly byVcpuId: ReadonlyMap<number, KvmVcpu>;

  constructor(kind: HardwareKind, host: HardwareApicHost) {
    this.kind = kind;
    this.host = host;
    this.eoiExits = host.vcpus.map(() => new Set<number>());
    this.traps = host.vcpus.map(() => null);
    this.byVcpuId = new Map(host.vcpus.map((vcpu) => [vcpu.apicId, vcpu]));
  }

  get inhibits(): readonly ApicvInhibit[] {
    return [...this.reasons];
  }

  /** Sets whether an EOI of `vector` at vCPU `index` is an exit. */
  setEoiExit(index: number, vector: number, on: boolean): void {
    const vectors = new Set(this.eoiExits[index]);
    if (on) vectors.add(vector);
    else vectors.delete(vector);
    this.eoiExits[index] = vectors;
  }

  save(): HardwareApicState {
    const { active, reasons } = this;
    return { active, reasons, eoiExits: [...this.eoiExits], traps: [...this.traps] };
  }

  restore(state: HardwareApicState): void {
    this.active = state.active;
    this.reasons = state.reasons;
    for (let index = 0; index < state.traps.length; index++) {
      this.eoiExits[index] = state.eoiExits[index];
      this.traps[index] = state.traps[index];
    }
  }

  // ---- on and off ----

  /** Looks at what may switch the help off, after a change of the APIC map or of an APIC base. */
  recalculate(): void {
    const { host, kind } = this;
    const reasons = new Set(this.reasons);
    this.reasons = reasons;
    const { era, vcpus } = host;
    const set = (reason: ApicvInhibit, on: boolean) => {
      if (on) reasons.add(reason);
      else reasons.delete(reason);
    };
    set('no in-kernel APIC', !host.inKernelApic);
    if (host.inKernelApic) {
      if (era.apicvInhibitedByApicBase) {
        const modified = vcpus.some(({ lapic }) => isIdModified(lapic));
        if (modified || era.apicvIdInhibitClears) set('APIC ID modified', modified);
        // For good.
        if (vcpus.some(({ lapic }) => lapic.hwEnabled && !isDefaultBase(lapic))) reasons.add('APIC base modified');
      }
      const map = host.apicMap();
      set('physical ID aliased', era.mapStrictIds && map === null);
      if (kind === 'avic') {
        set('logical ID aliased', era.mapStrictLogical && map?.logicalMode === 'none');
        set(
          'physical ID too big',
          vcpus.some(({ apicId }) => apicId > MAX_AVIC_ID),
        );
        set('x2APIC mode', !era.x2avic && vcpus.some(({ lapic }) => lapic.x2apic));
      }
    }
    if (this.active !== (reasons.size === 0)) this.switchTo(reasons.size === 0);
  }

  /** kvm_vcpu_update_apicv: from now on KVM looks after pending interrupts, or the processor does. */
  private switchTo(active: boolean): void {
    this.active = active;
    for (const vcpu of this.host.vcpus) {
      const { lapic } = vcpu;
      lapic.irrPending = true;
      lapic.highestIsrCache = -1;
      vcpu.state.window &= ~WINDOW_INTERRUPT;
      vcpu.tprThreshold = 0;
      if (!active) lapic.requestEvent = true;
      this.host.kickOut(vcpu);
    }
  }

  // ---- arriving ----

  /**
   * A message of mode Fixed or lowest priority for `target`: no event request, and no exit if it is in the guest.
   * `thread`: index of the vCPU that sends. Returns 1 if it was accepted.
   */
  accept(target: Lapic, thread: number, message: number): 0 | 1 {
    const { trace, era } = this.host;
    const requested = target.requestEvent;
    const accepted = target.accept(message);
    target.requestEvent = requested;
    if (accepted !== 0 && trace !== null && era.apicvAcceptTraced) trace.apicvAccept(thread, target, message);
    return accepted;
  }

  /** Virtual-interrupt delivery: before the next instruction, as soon as the guest can take it. */
  beforeEntry(vcpu: KvmVcpu): void {
    const { lapic, state } = vcpu;
    state.window &= ~WINDOW_INTERRUPT;
    let vector = lapic.deliverable();
    if (vector < 0) return;
    if (state.injected === 0 && vcpu.interruptAllowed) {
      lapic.acknowledge(vector);
      this.host.injectVector(vcpu, vector);
      vector = lapic.deliverable();
    }
    if (vector >= 0) state.window |= WINDOW_INTERRUPT;
  }

  // ---- the guest's accesses ----

  /** WRMSR of the x2APIC register at `offset`. NOT_HANDLED, NEXT or RESUME. */
  wrmsr(vcpu: KvmVcpu, offset: number, lo: number, hi: number): number {
    const { lapic } = vcpu;
    if (!lapic.x2apic) return NOT_HANDLED;
    const verdict =
      this.kind === 'avic'
        ? avicWrmsr(offset, lo, hi, lapic.levelInService)
        : vmxWrmsr(offset, lo, hi, this.kind === 'ipiv');
    if (verdict === INTERCEPTED) return NOT_HANDLED;
    if (verdict === FAULTS) {
      this.host.raiseGp(vcpu);
      return RESUME;
    }
    if (offset === APIC_ICR) {
      lapic.writeX2Icr(lo, hi);
      lapic.processorIcrHigh = hi;
    }
    this.write(vcpu, verdict, offset, lo, hi);
    const next = this.host.skipSilently(vcpu);
    return this.traps[vcpu.index] === null ? next : this.trap(vcpu);
  }

  /** Value of an x2APIC register that the guest reads without an exit, else -1. ICR[63:32] is `icrHigh`. */
  rdmsr(vcpu: KvmVcpu, offset: number): number {
    const { lapic } = vcpu;
    if (!lapic.x2apic) return NOT_HANDLED;
    const readable = lapic.readable(offset);
    const verdict =
      this.kind === 'avic' ? avicRdmsr(offset, readable) : vmxRdmsr(offset, readable, this.host.era.apicvReadsChecked);
    if (verdict === INTERCEPTED) return NOT_HANDLED;
    return readable ? lapic.read(offset) : (lapic.registers[offset >> 4] ?? 0);
  }

  /**
   * ICR[63:32] as the processor finds it: in some versions KVM's own writes go where this processor does not look, and
   * leave there what the processor wrote last (73b42dc69be8).
   */
  icrHigh(lapic: Lapic): number {
    const { icrStorage } = this.host.era;
    const kept =
      icrStorage === 'by vendor' ||
      icrStorage === (this.kind === 'avic' ? 'two 32-bit registers' : 'one 64-bit register');
    return kept ? lapic.registers[APIC_ICR2 >> 4] : lapic.processorIcrHigh;
  }

  /** An access to guest-physical memory. NOT_HANDLED if it is not to an APIC page that the hardware looks after. */
  mmio(vcpu: KvmVcpu, exit: MmioExit): number {
    const { lapic, state } = vcpu;
    const inPage = exit.gpaHi === 0 && (exit.gpaLo & ~PAGE) >>> 0 === DEFAULT_BASE;
    if (!inPage || !isDefaultBase(lapic) || lapic.x2apic || !lapic.hwEnabled) return NOT_HANDLED;
    const at = exit.gpaLo & PAGE;
    const offset = at & ~0xf;
    const byte = at & 0xf;
    const avic = this.kind === 'avic';
    if (exit.direction === 'read') {
      const readable = lapic.readable(offset);
      const verdict = avic ? avicLoad(offset, readable) : vmxLoad(offset);
      if (verdict === INTERCEPTED || byte + exit.size > 4) return this.accessExit(vcpu, exit, at);
      const value = lapic.read(offset) >>> (byte * 8);
      state.completeMmio(exit.size === 4 ? value : value & ((1 << (exit.size * 8)) - 1), 0);
      vcpu.finishing = true;
      return RESUME;
    }
    const value = exit.valueLo >>> 0;
    const verdict = avic ? avicStore(offset, lapic.levelInService) : vmxStore(offset, value, this.kind === 'ipiv');
    if (verdict === INTERCEPTED || byte !== 0 || exit.size !== 4) return this.accessExit(vcpu, exit, at);
    if (offset === APIC_ICR) lapic.registers[APIC_ICR >> 4] = value & ~ICR_BUSY;
    this.write(vcpu, verdict, offset, value, lapic.registers[APIC_ICR2 >> 4] >>> 24);
    state.completeMmio(0, 0);
    vcpu.finishing = true;
    return RESUME;
  }

  /** The access leaves before it is made, and KVM's emulator makes it. */
  private accessExit(vcpu: KvmVcpu, exit: MmioExit, at: number): number {
    const write = exit.direction === 'write';
    // VMX: offset, and 1 in bits 15:12 for a write (SDM vol. 3, table 28-6).
    const info =
      this.kind === 'avic' ? BigInt(at & ~0xf) | (write ? AVIC_WRITE : 0n) : BigInt(at | (write ? 0x1000 : 0));
    this.host.leave(vcpu, EXIT_APIC_ACCESS, info, 0n);
    return this.host.accessMemory(vcpu, exit);
  }

  /** What the processor does with a write; `hi` is the destination if it is to ICR. */
  private write(vcpu: KvmVcpu, verdict: number, offset: number, lo: number, hi: number): void {
    const { lapic } = vcpu;
    switch (verdict) {
      case SENDS_SELF:
        lapic.request(lo & ICR_VECTOR);
        return;
      case SENDS:
        if (this.kind === 'avic') this.sendAvic(vcpu, lo, hi >>> 0);
        else this.sendVmx(vcpu, offset, lo, hi >>> 0);
        return;
      case TRAPS: {
        const kind = offset === APIC_EOI ? EXIT_EOI_INDUCED : EXIT_APIC_WRITE;
        this.setTrap(vcpu, { kind, offset, lo, hi, cause: 0, index: 0 });
        return;
      }
    }
    if (offset === APIC_ICR2) {
      lapic.registers[APIC_ICR2 >> 4] = lo & 0xff000000;
      return;
    }
    const requested = lapic.requestEvent;
    if (offset === APIC_TPR) {
      lapic.writeTpr(lo & 0xff);
    } else {
      const vector = lapic.eoi();
      if (this.eoiExits[vcpu.index].has(vector) || this.host.eoiExits(vector)) {
        this.setTrap(vcpu, { kind: EXIT_EOI_INDUCED, offset, lo: vector, hi: 0, cause: 0, index: 0 });
      }
    }
    lapic.requestEvent = requested;
  }

  /** MOV to CR8: never an exit. */
  writeTpr(lapic: Lapic, value: number): void {
    const requested = lapic.requestEvent;
    lapic.writeTpr(value);
    lapic.requestEvent = requested;
  }

  // ---- the processor sends ----

  /** IPI virtualization: through the PID-pointer table, by vcpu_id. */
  private sendVmx(vcpu: KvmVcpu, offset: number, lo: number, dest: number): void {
    const target = this.byVcpuId.get(dest);
    if (target === undefined) {
      this.setTrap(vcpu, { kind: EXIT_APIC_WRITE, offset, lo, hi: dest, cause: 0, index: 0 });
      return;
    }
    target.lapic.request(lo & ICR_VECTOR);
    this.host.countMessages(1);
    // The notification of a sleeper is a wake-up vector of the host.
    if (target.blocked) this.host.wakeUp(target);
  }

  private sendAvic(vcpu: KvmVcpu, lo: number, dest: number): void {
    let cause = avicIpi(lo);
    let index = 0;
    if (cause === IPI_COMPLETE) {
      const targets = this.avicTargets(vcpu.lapic, lo, dest);
      if (targets === null) {
        cause = IPI_INVALID_TARGET;
      } else {
        for (const lapic of targets) lapic.request(lo & ICR_VECTOR);
        this.host.countMessages(targets.length);
        const sleeper = targets.find((lapic) => this.host.vcpus[lapic.index].blocked);
        if (sleeper !== undefined) {
          cause = IPI_NOT_RUNNING;
          index = sleeper.vcpuId;
        }
      }
    }
    if (cause === IPI_COMPLETE) return;
    this.setTrap(vcpu, { kind: EXIT_INCOMPLETE_IPI, offset: APIC_ICR, lo, hi: dest, cause, index });
  }

  /** APICs that the AVIC tables give for a destination; null: one of them does not exist. */
  private avicTargets(source: Lapic, lo: number, dest: number): readonly Lapic[] | null {
    const all = () => this.host.vcpus.map(({ lapic }) => lapic).filter((lapic) => lapic.hwEnabled);
    switch ((lo & ICR_SHORTHAND) >> ICR_SHORTHAND_SHIFT) {
      case SHORTHAND_SELF:
        return [source];
      case SHORTHAND_ALL:
        return all();
      case SHORTHAND_ALL_BUT_SELF:
        return all().filter((lapic) => lapic !== source);
    }
    if (dest === (source.x2apic ? X2APIC_BROADCAST : XAPIC_BROADCAST)) return all();
    const map = this.host.apicMap();
    if (map === null) return null;
    if ((lo & ICR_LOGICAL) === 0) {
      const target = dest <= map.maxApicId ? map.phys[dest] : null;
      return target === null ? null : [target];
    }
    const bits = source.x2apic ? dest & 0xffff : map.logicalMode === 'flat' ? dest & 0xff : dest & 0xf;
    const targets: Lapic[] = [];
    for (let bit = 0; bit < 16; bit++) {
      if (((bits >>> bit) & 1) === 0) continue;
      const target = map.logicalCandidate(dest, bit);
      if (target === null) return null;
      targets.push(target);
    }
    return targets;
  }

  // ---- exits after the instruction ----

  private setTrap(vcpu: KvmVcpu, trap: Trap): void {
    this.traps[vcpu.index] = trap;
  }

  /** The exit that follows the instruction just finished, if there is one: NEXT, else RESUME. */
  trap(vcpu: KvmVcpu): number {
    const trap = this.traps[vcpu.index];
    if (trap === null) return RESUME;
    this.traps[vcpu.index] = null;
    switch (trap.kind) {
      case EXIT_EOI_INDUCED:
        if (this.kind === 'avic') this.registerTrap(vcpu, trap);
        else this.eoiInduced(vcpu, trap.lo);
        break;
      case EXIT_INCOMPLETE_IPI:
        this.incompleteIpi(vcpu, trap);
        break;
      default:
        this.registerTrap(vcpu, trap);
    }
    return NEXT;
  }

  /** handle_apic_eoi_induced: the EOI is done, the I/O APIC hears of it. */
  private eoiInduced(vcpu: KvmVcpu, vector: number): void {
    this.host.leave(vcpu, EXIT_EOI_INDUCED, BigInt(vector), 0n);
    this.host.endOfInterrupt(vcpu, vector);
    vcpu.lapic.requestEvent = true;
  }

  /** kvm_apic_write_nodecode. */
  private registerTrap(vcpu: KvmVcpu, { kind, offset, lo, hi }: Trap): void {
    const { host } = this;
    const avic = this.kind === 'avic';
    const ending = avic && offset === APIC_EOI ? highestIsr(vcpu.lapic) : 0;
    host.leave(vcpu, kind, avic ? BigInt(offset) | AVIC_WRITE : BigInt(offset), BigInt(ending));
    if (offset === APIC_ICR && vcpu.lapic.x2apic) {
      host.writeX2Icr(vcpu, lo, hi);
      return;
    }
    if (!host.era.apicWriteRaw) host.trace?.apic(vcpu, false, offset, lo, 0);
    // SELF_IPI gets here with a vector below 16 only.
    host.writeApicRegister(vcpu, offset, offset === APIC_SELF_IPI ? lo & ICR_VECTOR : lo);
  }

  /** avic_incomplete_ipi_interception. */
  private incompleteIpi(vcpu: KvmVcpu, { lo, hi, cause, index }: Trap): void {
    const { host } = this;
    const { x2apic } = vcpu.lapic;
    const high = x2apic ? hi : hi << 24;
    host.leave(vcpu, EXIT_INCOMPLETE_IPI, join64(lo, high), (BigInt(cause) << 32n) | BigInt(index));
    if (cause === IPI_NOT_RUNNING) {
      const targets = this.avicTargets(vcpu.lapic, lo, hi) ?? [];
      for (const lapic of targets) {
        const target = host.vcpus[lapic.index];
        if (target.blocked) host.wakeUp(target);
      }
      return;
    }
    if (cause !== IPI_INVALID_TYPE && !(cause === IPI_INVALID_TARGET && host.era.avicInvalidTargetSent)) return;
    if (x2apic) {
      host.writeX2Icr(vcpu, lo, hi);
      return;
    }
    if (host.era.avicReplaysIcr) host.writeApicRegister(vcpu, APIC_ICR2, high >>> 0);
    host.writeApicRegister(vcpu, APIC_ICR, lo);
  }
}

const isDefaultBase = (lapic: Lapic): boolean => lapic.baseHi === 0 && (lapic.baseLo & ~PAGE) >>> 0 === DEFAULT_BASE;

/** kvm_lapic_xapic_id_updated. */
const isIdModified = (lapic: Lapic): boolean =>
  lapic.hwEnabled && !lapic.x2apic && lapic.xapicId !== (lapic.vcpuId & 0xff);

/** 0 if nothing is in service. */
const highestIsr = (lapic: Lapic): number => lapic.isr().at(-1) ?? 0;
