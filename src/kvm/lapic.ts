/**
 * The local APIC of one vCPU (`struct kvm_lapic`; SDM vol. 3, chapter 11): registers, the IRR/ISR/TMR sets, priority,
 * EOI, and `accept`, which takes one interrupt message. It knows no other APIC: a register write returns what the VM
 * has to do, and the message to route stands in `message`.
 *
 * What is accepted but not meant for the IRR (NMI, SMI, INIT, SIPI, the PV kick) waits here until the vCPU evaluates
 * it.
 *
 * The timer behind LVTT, TMICT, TMCCT and TDCR is in `lapic-timer.ts`.
 */
import { VirtualClock } from './clock.ts';
import { decision, reach } from './decisions.ts';
import type { Era } from './eras.ts';
import * as icrLayout from './icr.ts';
import { LapicTimer } from './lapic-timer.ts';

// Of its own constants V8 folds the values; imported ones it would load, and check, at every use.
const {
  ICR_ASSERT,
  ICR_BUSY,
  ICR_LEVEL,
  ICR_MODE,
  ICR_MODE_SHIFT,
  ICR_SHORTHAND_SHIFT,
  ICR_VECTOR,
  MODE_EXTINT,
  MODE_INIT,
  MODE_LOWEST,
  MODE_NMI,
  MODE_REMOTE_READ,
  MODE_SMI,
  MODE_STARTUP,
  SHORTHAND_SELF,
} = icrLayout;
/** Delivery mode lowest priority, in its place in a message. */
const LOWEST = MODE_LOWEST << ICR_MODE_SHIFT;
/** What nearly all messages are not: of another mode than Fixed, or level-triggered. */
const SPECIAL = ICR_MODE | ICR_LEVEL;

// Register offsets in the 4-KiB page; the x2APIC MSR is 0x800 + offset / 16.
export const APIC_ID = 0x20;
export const APIC_LVR = 0x30;
export const APIC_TPR = 0x80;
export const APIC_APR = 0x90;
export const APIC_PPR = 0xa0;
export const APIC_EOI = 0xb0;
export const APIC_LDR = 0xd0;
export const APIC_DFR = 0xe0;
export const APIC_SVR = 0xf0;
export const APIC_ISR = 0x100;
export const APIC_TMR = 0x180;
export const APIC_IRR = 0x200;
export const APIC_ESR = 0x280;
export const APIC_LVT_CMCI = 0x2f0;
export const APIC_ICR = 0x300;
export const APIC_ICR2 = 0x310;
export const APIC_LVTT = 0x320;
export const APIC_LVT_THERMAL = 0x330;
export const APIC_LVT_PERF = 0x340;
export const APIC_LVT0 = 0x350;
export const APIC_LVT1 = 0x360;
export const APIC_LVT_ERROR = 0x370;
export const APIC_TMICT = 0x380;
export const APIC_TMCCT = 0x390;
export const APIC_TDCR = 0x3e0;
export const APIC_SELF_IPI = 0x3f0;

/** IA32_APIC_BASE. */
export const APIC_BASE_BSP = 1 << 8;
export const APIC_BASE_EXTD = 1 << 10;
export const APIC_BASE_EN = 1 << 11;
const APIC_DEFAULT_BASE = 0xfee00000;

/** SVR bit 8. */
const SVR_ENABLED = 0x100;
/** SVR vector, bit 8 and focus bit 9. */
const SVR_WRITABLE = 0x3ff;
const LVT_MASKED = 1 << 16;
/** Mask bit, send-pending, vector. */
const LVT_COMMON = LVT_MASKED | (1 << 12) | 0xff;
const LVT_MODE = 0x700;
/** Polarity, remote IRR, level. */
const LVT_LINT = (1 << 13) | (1 << 14) | (1 << 15);
/** Timer mode: one-shot, periodic, TSC-deadline (CPUID.1 ECX bit 24 is set), reserved. */
const LVTT_MODE = 3 << 17;
/** The half of it that the TSC-deadline timer brings. */
const LVTT_DEADLINE = 1 << 18;
/** Flat model; any other value means cluster model to the map. */
export const DFR_FLAT = 0xffffffff;
export const DFR_CLUSTER = 0x0fffffff;
/** Version 0x14 with six LVT entries. */
const LVR_VALUE = 0x50014;

/** Writable bits of each LVT entry. */
const LVT_WRITABLE: ReadonlyMap<number, number> = new Map([
  [APIC_LVTT, LVT_COMMON | LVTT_MODE],
  [APIC_LVT_THERMAL, LVT_COMMON | LVT_MODE],
  [APIC_LVT_PERF, LVT_COMMON | LVT_MODE],
  [APIC_LVT0, LVT_COMMON | LVT_MODE | LVT_LINT],
  [APIC_LVT1, LVT_COMMON | LVT_MODE | LVT_LINT],
  [APIC_LVT_ERROR, LVT_COMMON],
]);

// Slots in `registers`.
const ID = APIC_ID >> 4;
const TPR = APIC_TPR >> 4;
const PPR = APIC_PPR >> 4;
const LDR = APIC_LDR >> 4;
const DFR = APIC_DFR >> 4;
const SVR = APIC_SVR >> 4;
const ISR = APIC_ISR >> 4;
const TMR = APIC_TMR >> 4;
const IRR = APIC_IRR >> 4;
const ICR = APIC_ICR >> 4;
const ICR2 = APIC_ICR2 >> 4;
const LVTT = APIC_LVTT >> 4;
const TMICT = APIC_TMICT >> 4;
const TMCCT = APIC_TMCCT >> 4;
const TDCR = APIC_TDCR >> 4;
const SLOTS = 64;

/** What a register write asks of the VM; bits may be combined. 0: done. */
export const WRITE_DONE = 0;
/** Refused: #GP from an MSR write, no effect from MMIO. */
export const WRITE_FAULT = 1;
/** Route `message`. */
export const WRITE_SEND = 2;
/** An EOI was performed; `eoiVector` tells for which vector. */
export const WRITE_EOI = 4;
/** Something the APIC map depends on changed. */
export const WRITE_MAP = 8;

/** The message of the last write that returned WRITE_SEND. */
export interface IpiMessage {
  /** ICR low word with the busy bit clear. */
  icrLow: number;
  /** Destination as the mode writes it: 8 or 32 bits. */
  dest: number;
}

/** Registers an x2APIC MSR read may touch (SDM vol. 3, table 11-6), besides ISR, TMR and IRR. */
const X2_READABLE = new Set([
  APIC_ID,
  APIC_LVR,
  APIC_TPR,
  APIC_PPR,
  APIC_LDR,
  APIC_SVR,
  APIC_ESR,
  APIC_ICR,
  APIC_LVTT,
  APIC_LVT_THERMAL,
  APIC_LVT_PERF,
  APIC_LVT0,
  APIC_LVT1,
  APIC_LVT_ERROR,
  APIC_TMICT,
  APIC_TMCCT,
  APIC_TDCR,
]);
/** What the MMIO page has on top of these. */
const XAPIC_READABLE = new Set([APIC_APR, APIC_DFR, APIC_ICR2]);

// Decision points, for fuzzing.
const AT_ACCEPT_LEVEL = decision('accept-level');
const AT_ACCEPT_EDGE = decision('accept-edge');
const AT_ACCEPT_SMI = decision('accept-smi');
const AT_ACCEPT_KICK = decision('accept-kick');
const AT_ACCEPT_NMI = decision('accept-nmi');
const AT_ACCEPT_INIT = decision('accept-init');
const AT_ACCEPT_SIPI_AGAIN = decision('accept-sipi-again');
const AT_ACCEPT_SIPI = decision('accept-sipi');
const AT_ACCEPT_EXTINT = decision('accept-extint');
const AT_EOI_NOTHING = decision('eoi-nothing');
const AT_EOI_VECTOR = decision('eoi-vector');
const AT_XAPIC_ICR = decision('xapic-icr');
const AT_SVR_DISABLES = decision('svr-disables');
const AT_SVR_ENABLES = decision('svr-enables');
const AT_SELF_IPI = decision('self-ipi');
const AT_LVT_WRITE = decision('lvt-write');

const isVectorSet = (offset: number): boolean => offset >= APIC_ISR && offset < APIC_ESR;

/** Highest vector in the 256-bit set that starts at `slot`, -1 if it is empty. */
function highest(registers: Uint32Array, slot: number): number {
  for (let word = 7; word >= 0; word--) {
    const bits = registers[slot + word];
    if (bits !== 0) return word * 32 + 31 - Math.clz32(bits);
  }
  return -1;
}

function members(registers: Uint32Array, slot: number): number[] {
  const vectors: number[] = [];
  for (let vector = 0; vector < 256; vector++) {
    if ((registers[slot + (vector >> 5)] >>> (vector & 31)) & 1) vectors.push(vector);
  }
  return vectors;
}

export class Lapic {
  /** Index of the vCPU. */
  readonly index: number;
  /** vcpu_id: the x2APIC id. */
  readonly vcpuId: number;
  /** 32-bit registers, slot = offset / 16. In x2APIC mode ICR2 holds ICR[63:32]. */
  readonly registers: Uint32Array = new Uint32Array(SLOTS);
  /** IRR and TMR in there, 32 vectors a word. */
  private readonly requested: Uint32Array = this.registers.subarray(IRR, IRR + 8);
  private readonly triggers: Uint32Array = this.registers.subarray(TMR, TMR + 8);
  /** x2APIC ICR[63:32] as the processor itself last wrote it, on hardware that virtualizes the write; else 0. */
  processorIcrHigh = 0;
  /** KVM keeps the x2APIC ICR as one register of 64 bits, apart from the ICR2 of xAPIC mode. */
  wideIcr = false;
  /** With `wideIcr`, whichever of ICR[63:32] and ICR2 does not show in this mode. */
  #hiddenIcrHigh = 0;
  readonly message: IpiMessage = { icrLow: 0, dest: 0 };
  eoiVector = -1;

  /** APIC_BASE bit 11. */
  hwEnabled = true;
  /** SVR bit 8. */
  swEnabled = false;
  /** APIC_BASE bits 11 and 10. */
  x2apic = false;
  /** IA32_APIC_BASE, unsigned halves. */
  baseLo = 0;
  baseHi = 0;

  /** KVM_REQ_EVENT: something must be evaluated before the next entry. */
  requestEvent = false;
  /** KVM's hint that IRR may not be empty. */
  irrPending = false;
  /** Messages of mode lowest priority accepted so far. */
  arbitration = 0;
  /** Messages accepted so far; only differences mean something. */
  received = 0;
  nmiQueued = 0;
  smiPending = false;
  initPending = false;
  sipiPending = false;
  sipiVector = 0;
  pvUnhalted = false;
  /** Vector of the last change of ISR if that was an injection, else -1 (highest_isr_cache). */
  highestIsrCache = -1;
  /** The guest's CPUID shows the TSC-deadline timer. */
  showsDeadline = true;
  readonly timer: LapicTimer;

  readonly #era: Era;
  readonly #bsp: boolean;
  /** KVM_X86_QUIRK_LINT0_REENABLED. */
  readonly #lint0Reenabled: boolean;

  constructor(
    index: number,
    vcpuId: number,
    era: Era,
    bsp = vcpuId === 0,
    lint0Reenabled = true,
    clock = new VirtualClock(),
  ) {
    this.index = index;
    this.vcpuId = vcpuId;
    this.#era = era;
    this.#bsp = bsp;
    this.#lint0Reenabled = lint0Reenabled;
    this.timer = new LapicTimer(index, clock, era);
    this.reset(false);
  }

  /** RESET, or INIT, which leaves the mode, the id and an x2APIC LDR alone (SDM vol. 3, 11.4.7; kvm_lapic_reset). */
  reset(init: boolean): void {
    const r = this.registers;
    const id = r[ID];
    const ldr = r[LDR];
    const icrHigh = r[ICR2];
    r.fill(0);
    r[ID] = id;
    // In x2APIC mode KVM has cleared 64 bits at 0x300 since v5.18: of two halves, the second is elsewhere.
    const kept = init && this.x2apic && this.#era.icrStorage !== 'two 32-bit registers';
    if (!kept) this.processorIcrHigh = 0;
    else if (!this.wideIcr) r[ICR2] = icrHigh;
    if (!init) {
      if (this.x2apic && this.wideIcr) this.#hiddenIcrHigh = icrHigh;
      this.baseLo = (APIC_DEFAULT_BASE | APIC_BASE_EN | (this.#bsp ? APIC_BASE_BSP : 0)) >>> 0;
      this.baseHi = 0;
      this.hwEnabled = true;
      this.x2apic = false;
      r[ID] = (this.vcpuId << 24) >>> 0;
    }
    r[APIC_LVR >> 4] = LVR_VALUE;
    for (const offset of LVT_WRITABLE.keys()) r[offset >> 4] = LVT_MASKED;
    if (this.#bsp && this.#lint0Reenabled) r[APIC_LVT0 >> 4] = MODE_EXTINT << 8;
    r[DFR] = DFR_FLAT;
    r[SVR] = 0xff;
    this.swEnabled = false;
    if (this.x2apic) r[LDR] = ldr;
    this.irrPending = false;
    this.arbitration = 0;
    this.highestIsrCache = -1;
    this.timer.reset();
    this.requestEvent = true;
  }

  /** Becomes what another APIC of the same vCPU is. */
  assign(from: Lapic): void {
    this.registers.set(from.registers);
    this.processorIcrHigh = from.processorIcrHigh;
    this.#hiddenIcrHigh = from.#hiddenIcrHigh;
    this.message.icrLow = from.message.icrLow;
    this.message.dest = from.message.dest;
    this.eoiVector = from.eoiVector;
    this.hwEnabled = from.hwEnabled;
    this.swEnabled = from.swEnabled;
    this.x2apic = from.x2apic;
    this.baseLo = from.baseLo;
    this.baseHi = from.baseHi;
    this.requestEvent = from.requestEvent;
    this.irrPending = from.irrPending;
    this.arbitration = from.arbitration;
    this.received = from.received;
    this.nmiQueued = from.nmiQueued;
    this.smiPending = from.smiPending;
    this.initPending = from.initPending;
    this.sipiPending = from.sipiPending;
    this.sipiVector = from.sipiVector;
    this.pvUnhalted = from.pvUnhalted;
    this.highestIsrCache = from.highestIsrCache;
    this.timer.assign(from.timer);
  }

  // ---- views ----

  /** xAPIC: 8-bit id, x2APIC: vcpu_id. */
  get id(): number {
    return this.x2apic ? this.vcpuId : this.xapicId;
  }

  /** Bits 31:24 of the ID register. */
  get xapicId(): number {
    return this.registers[ID] >>> 24;
  }

  get mode(): 'disabled' | 'xapic' | 'x2apic' {
    return this.hwEnabled ? (this.x2apic ? 'x2apic' : 'xapic') : 'disabled';
  }

  /** Vectors in IRR, ascending; likewise ISR and TMR. */
  irr(): number[] {
    return members(this.registers, IRR);
  }

  isr(): number[] {
    return members(this.registers, ISR);
  }

  tmr(): number[] {
    return members(this.registers, TMR);
  }

  get tpr(): number {
    return this.registers[TPR];
  }

  get svr(): number {
    return this.registers[SVR];
  }

  get ldr(): number {
    return this.registers[LDR];
  }

  get dfr(): number {
    return this.registers[DFR];
  }

  /** ICR2:ICR; in x2APIC mode the 64-bit ICR. */
  get icr(): bigint {
    return (BigInt(this.registers[ICR2]) << 32n) | BigInt(this.registers[ICR]);
  }

  get apicBase(): bigint {
    return (BigInt(this.baseHi) << 32n) | BigInt(this.baseLo);
  }

  // ---- IA32_APIC_BASE ----

  /**
   * Stores a checked IA32_APIC_BASE (kvm_lapic_set_base). Returns whether the APIC map depends on the change.
   * SVR, LVT and TPR survive a disable, unlike on hardware.
   */
  setBase(lo: number, hi: number): boolean {
    const changed = (this.baseLo ^ lo) & (APIC_BASE_EN | APIC_BASE_EXTD);
    const { registers, x2apic } = this;
    this.baseLo = lo >>> 0;
    this.baseHi = hi >>> 0;
    this.hwEnabled = (lo & APIC_BASE_EN) !== 0;
    this.x2apic = this.hwEnabled && (lo & APIC_BASE_EXTD) !== 0;
    if (this.wideIcr && this.x2apic !== x2apic) {
      const hidden = this.#hiddenIcrHigh;
      this.#hiddenIcrHigh = registers[ICR2];
      registers[ICR2] = hidden;
    }
    if (changed & APIC_BASE_EN && this.hwEnabled) this.registers[ID] = (this.vcpuId << 24) >>> 0;
    if (changed & APIC_BASE_EXTD) {
      if (lo & APIC_BASE_EXTD) {
        this.registers[ID] = this.vcpuId;
        this.registers[LDR] = (((this.vcpuId >>> 4) << 16) | (1 << (this.vcpuId & 15))) >>> 0;
      } else if (this.hwEnabled && this.#era.xapicIdRestored) {
        this.registers[ID] = (this.vcpuId << 24) >>> 0;
      }
    }
    return changed !== 0;
  }

  /**
   * KVM_SET_LAPIC: loads 64 registers (slot = offset / 16). In x2APIC mode ID and LDR follow from the vcpu_id and stay.
   */
  load(registers: Uint32Array): void {
    const r = this.registers;
    const id = r[ID];
    const ldr = r[LDR];
    r.set(registers.subarray(0, SLOTS));
    if (this.x2apic) {
      r[ID] = id;
      r[LDR] = ldr;
    }
    // The image has both halves where they are in xAPIC mode, and nothing beside ICR.
    this.#hiddenIcrHigh = this.x2apic ? r[ICR2] : 0;
    this.swEnabled = (r[SVR] & SVR_ENABLED) !== 0;
    this.timer.load(r[LVTT], r[TMICT], r[TDCR], r[TMCCT]);
    this.highestIsrCache = -1;
    this.irrPending = true;
    this.requestEvent = true;
  }

  // ---- messages from the bus ----

  /**
   * Takes one interrupt message (__apic_accept_irq): vector, delivery mode, level and trigger mode as in an ICR low word. Returns 1 if it was
   * accepted: the sender has to kick the vCPU then.
   */
  accept(message: number): 0 | 1 {
    if ((message & SPECIAL) !== 0) return this.acceptSpecial(message);
    if (this.swEnabled !== true || this.hwEnabled !== true) return 0;
    reach(AT_ACCEPT_EDGE);
    const word = (message & ICR_VECTOR) >> 5;
    // A shift looks at five bits only.
    const bit = 1 << message;
    this.triggers[word] &= ~bit;
    this.requested[word] |= bit;
    this.irrPending = true;
    this.requestEvent = true;
    this.received++;
    return 1;
  }

  private acceptSpecial(message: number): 0 | 1 {
    const mode = message & ICR_MODE;
    if (mode > LOWEST) return this.acceptOther(message);
    if (mode === LOWEST) this.arbitration++;
    if ((message & ICR_LEVEL) === 0) return this.accept(message & ~SPECIAL);
    if ((message & ICR_ASSERT) === 0) return 0;
    if (this.accept(message & ~SPECIAL) === 0) return 0;
    reach(AT_ACCEPT_LEVEL);
    this.triggers[(message & ICR_VECTOR) >> 5] |= 1 << message;
    return 1;
  }

  /** A message that goes past the IRR. */
  private acceptOther(message: number): 0 | 1 {
    switch ((message & ICR_MODE) >> ICR_MODE_SHIFT) {
      case MODE_SMI:
        reach(AT_ACCEPT_SMI);
        this.smiPending = true;
        break;
      case MODE_REMOTE_READ:
        reach(AT_ACCEPT_KICK);
        this.pvUnhalted = true;
        break;
      case MODE_NMI:
        reach(AT_ACCEPT_NMI);
        this.nmiQueued++;
        break;
      case MODE_INIT:
        reach(AT_ACCEPT_INIT);
        if ((message & ICR_LEVEL) !== 0 && (message & ICR_ASSERT) === 0) return 0;
        this.initPending = true;
        this.sipiPending = false;
        break;
      case MODE_STARTUP:
        if (this.sipiPending) reach(AT_ACCEPT_SIPI_AGAIN);
        else reach(AT_ACCEPT_SIPI);
        this.sipiVector = message & ICR_VECTOR;
        this.sipiPending = true;
        break;
      default:
        reach(AT_ACCEPT_EXTINT);
        // ExtINT means something only through LVT0.
        return 0;
    }
    this.requestEvent = true;
    this.received++;
    return 1;
  }

  /** Sets `vector` in IRR whatever SVR says: what the processor does for an IPI that it sends or posts itself. */
  request(vector: number): void {
    this.registers[IRR + (vector >> 5)] |= 1 << (vector & 31);
    this.irrPending = true;
  }

  /** Whether `vector` was last requested as level-triggered (TMR). */
  isLevel(vector: number): boolean {
    return ((this.registers[TMR + (vector >> 5)] >>> (vector & 31)) & 1) === 1;
  }

  /** Whether the vector that an EOI would end is level-triggered. */
  get levelInService(): boolean {
    const vector = highest(this.registers, ISR);
    return vector >= 0 && this.isLevel(vector);
  }

  /** Whether the INTR line of the PICs reaches the processor: through LVT0, or past a disabled APIC (kvm_apic_accept_pic_intr). */
  get acceptsPicInterrupt(): boolean {
    if (!this.hwEnabled) return true;
    return (this.registers[APIC_LVT0 >> 4] & (LVT_MASKED | LVT_MODE)) === MODE_EXTINT << 8;
  }

  // ---- timer ----

  /**
   * Vector of an expired timer that may be delivered (apic_has_pending_timer, kvm_apic_local_deliver), -1 if there is
   * none.
   */
  timerVector(): number {
    if (!this.timer.pending || !this.hwEnabled || !this.swEnabled) return -1;
    const lvtt = this.registers[LVTT];
    return (lvtt & LVT_MASKED) === 0 ? lvtt & 0xff : -1;
  }

  /** Whether a periodic timer can expire again without anything changing: its interrupt is masked, or still in IRR. */
  get timerStuck(): boolean {
    const vector = this.registers[LVTT] & 0xff;
    const requested = ((this.registers[IRR + (vector >> 5)] >>> (vector & 31)) & 1) === 1;
    return this.timer.periodic && (this.timer.pending || requested);
  }

  // ---- priority, injection, EOI ----

  /** Processor priority from TPR and the highest vector in service (SDM vol. 3, 11.8.3.1); also stored for readers. */
  get ppr(): number {
    const tpr = this.registers[TPR];
    const isrv = highest(this.registers, ISR);
    const ppr = isrv < 0 || (tpr & 0xf0) >= (isrv & 0xf0) ? tpr & 0xff : isrv & 0xf0;
    this.registers[PPR] = ppr;
    return ppr;
  }

  /** Highest vector in IRR, -1 if none. */
  highestIrr(): number {
    return this.irrPending ? highest(this.registers, IRR) : -1;
  }

  /** The vector that could be injected now as far as the APIC is concerned, -1 if none. */
  deliverable(): number {
    if (!this.irrPending || !this.hwEnabled || !this.swEnabled) return -1;
    const vector = highest(this.registers, IRR);
    if (vector < 0) {
      this.irrPending = false;
      return -1;
    }
    return (vector & 0xf0) > this.ppr ? vector : -1;
  }

  /** Moves `vector` from IRR to ISR, as the processor's acknowledge does. */
  acknowledge(vector: number): void {
    const word = vector >> 5;
    const bit = 1 << (vector & 31);
    this.registers[IRR + word] &= ~bit;
    this.registers[ISR + word] |= bit;
    this.highestIsrCache = vector;
    this.irrPending = highest(this.registers, IRR) >= 0;
    void this.ppr;
  }

  /** Ends the highest interrupt in service and returns its vector, -1 if there was none. */
  eoi(): number {
    const vector = highest(this.registers, ISR);
    this.eoiVector = vector;
    if (vector >= 0) {
      this.registers[ISR + (vector >> 5)] &= ~(1 << (vector & 31));
      this.highestIsrCache = -1;
      this.requestEvent = true;
    }
    return vector;
  }

  // ---- registers ----

  /** Sets TPR (0 … 255); if that lowers PPR below a pending vector, the vCPU has something to evaluate. */
  writeTpr(value: number): void {
    const before = this.registers[PPR];
    this.registers[TPR] = value;
    if (this.ppr < before && this.deliverable() >= 0) this.requestEvent = true;
  }

  /** Whether a read of this offset is a register of the current mode. */
  readable(offset: number): boolean {
    if (isVectorSet(offset) || X2_READABLE.has(offset)) return true;
    if (this.x2apic) return offset === APIC_APR && this.#era.aprReadable;
    return XAPIC_READABLE.has(offset);
  }

  /** The 32-bit value at `offset`, unsigned; 0 for what never holds anything (APR, ESR). */
  read(offset: number): number {
    switch (offset) {
      case APIC_PPR:
        return this.ppr;
      case APIC_APR:
      case APIC_ESR:
        return 0;
      case APIC_TMCCT:
        return this.timer.count(this.registers[TMICT]);
      default:
        return this.registers[offset >> 4];
    }
  }

  /**
   * Writes the 32-bit register at `offset` (kvm_lapic_reg_write) in xAPIC or x2APIC mode. For ICR in x2APIC mode use
   * `writeX2Icr`. Returns WRITE_* bits.
   */
  write(offset: number, value: number): number {
    const r = this.registers;
    switch (offset) {
      case APIC_ID:
        if (this.x2apic) return WRITE_FAULT;
        r[ID] = value & 0xff000000;
        return WRITE_MAP;
      case APIC_TPR:
        this.writeTpr(value & 0xff);
        return WRITE_DONE;
      case APIC_EOI:
        if (this.eoi() < 0) reach(AT_EOI_NOTHING);
        else reach(AT_EOI_VECTOR);
        return WRITE_EOI;
      case APIC_LDR:
        if (this.x2apic) return WRITE_FAULT;
        r[LDR] = value & 0xff000000;
        return WRITE_MAP;
      case APIC_DFR:
        if (this.x2apic) return WRITE_FAULT;
        r[DFR] = value | 0x0fffffff;
        return WRITE_MAP;
      case APIC_SVR:
        return this.#writeSvr(value);
      case APIC_ESR:
        return this.x2apic && value !== 0 ? WRITE_FAULT : WRITE_DONE;
      case APIC_ICR:
        r[ICR] = value & ~ICR_BUSY;
        this.message.icrLow = r[ICR];
        this.message.dest = this.x2apic ? r[ICR2] : r[ICR2] >>> 24;
        reach(AT_XAPIC_ICR);
        return WRITE_SEND;
      case APIC_ICR2:
        if (this.x2apic) return WRITE_FAULT;
        r[ICR2] = value & 0xff000000;
        return WRITE_DONE;
      case APIC_TMICT:
        if (this.timer.tscDeadlineMode) return WRITE_DONE;
        r[TMICT] = value;
        this.timer.setCount(value);
        return WRITE_DONE;
      case APIC_TDCR:
        r[TDCR] = this.#era.tdcrMasked ? value & 0xb : value;
        this.timer.setDivider(value, r[TMICT]);
        return WRITE_DONE;
      case APIC_SELF_IPI:
        return this.#writeSelfIpi(value);
      default:
        return this.#writeLvt(offset, value);
    }
  }

  /** Writes the x2APIC ICR: the destination, then the command. Reserved bits are the caller's business. */
  writeX2Icr(lo: number, hi: number): void {
    const r = this.registers;
    r[ICR2] = hi;
    r[ICR] = lo & ~ICR_BUSY;
  }

  #writeSvr(value: number): number {
    const before = this.swEnabled;
    this.registers[SVR] = value & SVR_WRITABLE;
    this.swEnabled = (value & SVR_ENABLED) !== 0;
    if (!this.swEnabled) {
      for (const offset of LVT_WRITABLE.keys()) this.registers[offset >> 4] |= LVT_MASKED;
      this.timer.pending = false;
    }
    if (before === this.swEnabled) return WRITE_DONE;
    if (before) reach(AT_SVR_DISABLES);
    else reach(AT_SVR_ENABLES);
    return this.swEnabled || this.#era.mapRebuildOnSwDisable ? WRITE_MAP : WRITE_DONE;
  }

  #writeSelfIpi(value: number): number {
    if (!this.x2apic) return WRITE_FAULT;
    const vector = value & 0xff;
    if (this.#era.selfIpiReservedGp && vector !== value >>> 0) return WRITE_FAULT;
    reach(AT_SELF_IPI);
    const command = (SHORTHAND_SELF << ICR_SHORTHAND_SHIFT) | vector;
    if (this.#era.selfIpiThroughIcr) this.registers[ICR] = command;
    this.message.icrLow = command;
    this.message.dest = this.#era.selfIpiThroughIcr ? this.registers[ICR2] : 0;
    return WRITE_SEND;
  }

  #writeLvt(offset: number, value: number): number {
    const writable = LVT_WRITABLE.get(offset);
    if (writable === undefined) return WRITE_FAULT;
    reach(AT_LVT_WRITE);
    const kept = offset === APIC_LVTT && !this.showsDeadline ? writable & ~LVTT_DEADLINE : writable;
    this.registers[offset >> 4] = (this.swEnabled ? value : value | LVT_MASKED) & kept;
    if (offset === APIC_LVTT && this.timer.setMode(value & kept)) this.registers[TMICT] = 0;
    return WRITE_DONE;
  }
}
