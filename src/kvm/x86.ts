/**
 * `struct kvm` and the vCPU run loop (arch/x86/kvm/x86.c): KVM_RUN, event evaluation before an entry, exit handling
 * after it, and the effect of the WRMSR fastpath. One `Kvm` is one VM over one `Cpu`.
 *
 * The loop allocates nothing for a hypercall or an MSR write unless an observer listens.
 *
 * Hardware help for local APICs (APICv, AVIC) is in `hardware-apic.ts`; without it this file asks `assist` for nothing.
 *
 * Not modelled: SMM (an SMI is taken and its handler is a lone RSM), nested guests, Hyper-V and Xen interfaces, user-space MSR
 * exits, PAUSE-loop exiting (a PAUSE only tells the scheduler to switch, without an exit), VMM debugging. KVM has no
 * I/O breakpoints: DR7 may ask for them, but the exit of the instruction comes instead.
 */
import * as layout from '../cpu/core/layout.ts';
import type { Cpu, CpuState, Vendor } from '../cpu/cpu.ts';
import type {
  Cr8Exit,
  ExceptionExit,
  Exit,
  InternalExit,
  IoExit,
  MmioExit,
  RdmsrExit,
  WrmsrExit,
} from '../cpu/exit.ts';
import { type Feature, findFeatures, XCR0_SUPPORTED } from '../cpu/features.ts';
import { KvmscopeError } from '../errors.ts';
import type { ApicMap } from './apic-map.ts';
import { type AsyncPageFault, deliverReady, pageNotPresent, queueReady } from './async-pf.ts';
import { VirtualClock } from './clock.ts';
import type { CostModel } from './cost-model.ts';
import * as cpuidBits from './cpuid.ts';
import { CpuidCache, defaultPvFeatures, signature } from './cpuid.ts';
import { decision, reach } from './decisions.ts';
import { type Era, resolveEra } from './eras.ts';
import type { VendorExit } from './exits.ts';
import * as X from './exits.ts';
import * as fastpathCodes from './fastpath.ts';
import { deadlineFastpath, icrVerdict } from './fastpath.ts';
import {
  type ApicvInhibit,
  HardwareApic,
  type HardwareApicState,
  type HardwareKind,
  hardwareKind,
  NOT_HANDLED,
} from './hardware-apic.ts';
import * as hypercallCodes from './hypercall.ts';
import { type HypercallContext, type HypercallRow, hypercallTable } from './hypercall.ts';
import * as icrLayout from './icr.ts';
import { Router, type RouterState } from './irq-comm.ts';
import { Irqchip } from './irqchip.ts';
import type { Lapic } from './lapic.ts';
import * as lapics from './lapic.ts';
import { type MsrContext, msrRow } from './msr.ts';
import { join64, Observation, type OpenRecord } from './observation.ts';
import { armPvEoi, syncPvEoi } from './pv-eoi.ts';
import { type PvVm, REQ_APF_READY, REQ_CLOCK_UPDATE, REQ_MASTERCLOCK_UPDATE, REQ_STEAL_UPDATE } from './pv-state.ts';
import { DEFAULT_WALL_CLOCK, NANOSECONDS, updateMasterClock, updateSystemTime } from './pvclock.ts';
import { recordStealTime, setPreempted } from './steal-time.ts';
import { SVM_EXITS, SVM_HYPERCALL } from './svm.ts';
import type { FastpathVerdict, KvmOptions, MpState, VcpuRunResult } from './types.ts';
import * as vcpuStates from './vcpu.ts';
import { KvmVcpu } from './vcpu.ts';
import { VMX_EXITS, VMX_HYPERCALL } from './vmx.ts';

// Of its own constants V8 folds the values; imported ones it would load, and check, at every use. On the way of an exit fields are
// compared with `true`: V8 has one step for that, and a dozen for the truth of a value whose type it does not know.
const {
  NEXT,
  REENTER,
  RESUME,
  RETURN,
  EXIT_CPUID,
  EXIT_EXCEPTION,
  EXIT_EXTERNAL_INTERRUPT,
  EXIT_HLT,
  EXIT_HYPERCALL,
  EXIT_INTERRUPT_WINDOW,
  EXIT_INVD,
  EXIT_INVLPG,
  EXIT_IO,
  EXIT_MONITOR,
  EXIT_MWAIT,
  EXIT_NESTED_PAGE_FAULT,
  EXIT_NMI_WINDOW,
  EXIT_PREEMPTION_TIMER,
  EXIT_RDMSR,
  EXIT_RDPMC,
  EXIT_RDTSC,
  EXIT_TPR_BELOW_THRESHOLD,
  EXIT_TRIPLE_FAULT,
  EXIT_WBINVD,
  EXIT_WRMSR,
  EXIT_XSETBV,
} = X;
const {
  HIDDEN_INVPCID,
  INTERCEPT_PAUSE,
  R_BASE,
  R_CR0,
  R_CR2,
  R_CR4,
  R_DR6,
  R_RAX,
  R_RBX,
  R_RCX,
  R_RDX,
  R_RFLAGS,
  R_RIP,
  R_SEL,
  R_XCR0,
  S_HIDDEN,
  SEG_CS,
  SHADOW_STI,
  WINDOW_INTERRUPT,
  WINDOW_NMI,
} = layout;
const { CPUID_APIC_ENABLED, CPUID_OSPKE, CPUID_OSXSAVE } = cpuidBits;
const { ICR_BUSY, ICR_MODE, ICR_MODE_SHIFT, ICR_RESERVED, MODE_LOWEST } = icrLayout;
const { APIC_BASE_BSP, APIC_ICR, APIC_ICR2, APIC_SELF_IPI, WRITE_EOI, WRITE_FAULT, WRITE_MAP, WRITE_SEND } = lapics;
const {
  COMPLETE_HYPERCALL,
  COMPLETE_IO,
  COMPLETE_MMIO,
  COMPLETE_NOTHING,
  EXITING_GUEST,
  IN_GUEST,
  MP_APF_HALTED,
  MP_HALTED,
  MP_INIT_RECEIVED,
  MP_RUNNABLE,
  OUTSIDE_GUEST,
  TIMER_EXIT,
  TIMER_EXIT_AGAIN,
  TIMER_EXIT_NONE,
} = vcpuStates;
const { EXIT_TO_USER, HOST_BUG, KVM_ENOSYS, KVM_EPERM } = hypercallCodes;
const { MSR_TSC_DEADLINE, MSR_X2APIC_ICR, VERDICT } = fastpathCodes;

// KVM_X86_QUIRK_* bits (KVM_CAP_DISABLE_QUIRKS2).
const QUIRK_LINT0_REENABLED = 1 << 0;
const QUIRK_LAPIC_MMIO_HOLE = 1 << 2;
const QUIRK_FIX_HYPERCALL_INSN = 1 << 5;
const QUIRK_MWAIT_NEVER_UD = 1 << 6;

const X2APIC_MSR_FIRST = 0x800;
/** Last MSR that a processor takes for an x2APIC register. */
const X2APIC_MSR_LAST = 0x8ff;
const APIC_PAGE = 0xfff;

const VECTOR_DB = 1;
const VECTOR_UD = 6;
const VECTOR_GP = 13;
const VECTOR_PF = 14;
/** Exceptions that push an error code: #DF, #TS, #NP, #SS, #GP, #PF, #AC, #CP. */
const WITH_ERROR_CODE = 0x00227d00;
/** Exceptions that are traps or aborts: #DB, #BP, #OF, #DF, #MC. The others are faults. */
const TRAPS_AND_ABORTS = 0x0004011a;
const RFLAGS_TF = 0x100;
const RFLAGS_RF = 0x10000;
const RFLAGS_VM = 0x20000;
const CR0_PE = 1;
const CR4_OSXSAVE = 1 << 18;
const CR4_PKE = 1 << 22;
const XCR0_X87 = 1;
const DR6_BS = 0x4000;
const DR6_TRAPS = 0xf;

// VM-entry interruption information (SDM vol. 3, 26.8.3).
const INFO_EXTERNAL = 0x80000000;
const INFO_NMI = 0x80000202;
const INFO_EXCEPTION = 0x80000300;
const INFO_ERROR_CODE = 0x800;
/** The host's reschedule vector, which kicks a vCPU out of the guest. */
const RESCHEDULE_VECTOR = 0xfd;

// Decision points, for fuzzing.
const AT_HOST_BUG = decision('host-bug');
const AT_HYPERCALL_TO_USER = decision('hypercall-to-user');
const AT_HYPERCALL_UPPER_HALF = decision('hypercall-upper-half');
const AT_HYPERCALL_UNKNOWN = decision('hypercall-unknown');
const AT_YIELD_NOBODY = decision('yield-nobody');
const AT_YIELD_TAKEN = decision('yield-taken');
const AT_FASTPATH_TAKEN = decision('fastpath-taken');
const AT_FASTPATH_REFUSED = decision('fastpath-refused');
const AT_APIC_BASE_CHANGES_MAP = decision('apic-base-changes-map');
const AT_X2APIC_MSR_OUTSIDE_X2APIC = decision('x2apic-msr-outside-x2apic');
const AT_X2APIC_HIGH_HALF = decision('x2apic-high-half');
const AT_ICR_RESERVED = decision('icr-reserved');
const AT_X2APIC_WRITE_REFUSED = decision('x2apic-write-refused');
const AT_X2APIC_READ_REFUSED = decision('x2apic-read-refused');
const AT_INIT_BSP = decision('init-bsp');
const AT_INIT_AP = decision('init-ap');
const AT_SIPI_STARTS = decision('sipi-starts');
const AT_SIPI_IGNORED = decision('sipi-ignored');
const AT_INJECT_NMI = decision('inject-nmi');
const AT_INJECT_INTERRUPT = decision('inject-interrupt');
const AT_INJECT_WAITS = decision('inject-waits');
const AT_HALT_PASSES = decision('halt-passes');
const AT_HALT_SLEEPS = decision('halt-sleeps');

// What `handleExit` never returns.
const UNHANDLED = -1;
const HANDLED = -2;

const BUDGET: VcpuRunResult = Object.freeze({ kind: 'budget' });
const BLOCKED: VcpuRunResult = Object.freeze({ kind: 'blocked' });
const YIELD: VcpuRunResult = Object.freeze({ kind: 'yield' });
const SHUTDOWN: VcpuRunResult = Object.freeze({ kind: 'shutdown' });

/**
 * Legacy and REX prefixes the instruction emulator skips to find a wrong-vendor hypercall. LOCK is not among them: it
 * is #UD.
 */
const isPrefix = (byte: number, long: boolean): boolean =>
  [0x66, 0x67, 0xf2, 0xf3, 0x26, 0x2e, 0x36, 0x3e, 0x64, 0x65].includes(byte) || (long && (byte & 0xf0) === 0x40);

/** What a snapshot holds of a `Kvm`: everything but RAM and CPU registers, which are the engine's. Only for `Kvm.restore`. */
export interface KvmState {
  readonly vcpus: readonly KvmVcpu[];
  readonly clock: VirtualClock;
  readonly pvVm: Readonly<PvVm>;
  readonly messages: number;
  readonly stirred: Uint32Array;
  readonly lastRun: KvmVcpu | null;
  readonly yieldRequested: boolean;
  readonly result: VcpuRunResult;
  readonly hostBug: VcpuRunResult | null;
  readonly dataLo: number;
  readonly dataHi: number;
  readonly router: RouterState;
  readonly irqchip: Irqchip | null;
  readonly assist: HardwareApicState | null;
  readonly records: readonly (OpenRecord | null)[];
}

export class Kvm implements HypercallContext, MsrContext {
  readonly era: Era;
  readonly cpu: Cpu;
  readonly vendor: Vendor;
  readonly vcpus: readonly KvmVcpu[];
  readonly exitHypercalls: number;
  /** CPUID 0x40000001 EAX. */
  readonly pvFeatures: number;
  /** Those that are not refused, as a signed number. */
  readonly allowedPvFeatures: number;

  /** Time of this VM: it passes while `run` executes steps, and by `advanceTime`. */
  readonly clock: VirtualClock = new VirtualClock();
  readonly pvVm: PvVm;
  /** Null: nobody listens. */
  readonly trace: Observation | null;
  /** PIC, I/O APIC and PIT; null: user space has asked for local APICs only, or for nothing. */
  readonly irqchip: Irqchip | null;
  /** Interrupt messages given to local APICs so far. */
  messages = 0;
  /**
   * Bit n: vCPU n may have become runnable since whoever reads this cleared the bit, by what another vCPU, a device or time did. What user
   * space does to a vCPU does not show here.
   */
  readonly stirred: Uint32Array;

  private readonly hidden: readonly Feature[];
  private readonly cpuidCache: CpuidCache;
  /** Null: exits take no time. */
  private readonly costs: CostModel | null;
  private readonly disabledQuirks: number;
  private readonly inKernelApic: boolean;
  private readonly hypercalls: readonly (HypercallRow | undefined)[];
  private readonly exitTable: readonly VendorExit[];
  private readonly nativeHypercall: Uint8Array;
  private readonly router: Router;
  /** Hardware help for local APICs; null: the host has none. */
  private readonly assist: HardwareApic | null;
  /** Somebody listens, or exits take time. */
  private readonly measured: boolean;
  /** Nobody listens and no hardware helps. */
  private readonly plain: boolean;
  /** kvm_exit comes before the fastpath's events. */
  private readonly exitTracedFirst: boolean;
  private readonly deadlineIsFast: boolean;
  /** The fastpath of an ICR write ends with the guest going on at once. */
  private readonly reentersGuest: boolean;

  /** The vCPU inside `run`. */
  private running: KvmVcpu | null = null;
  /** The vCPU whose thread was last on the host CPU. */
  private lastRun: KvmVcpu | null = null;
  private yieldRequested = false;
  /** During `loop`: what the handling of the exit led to; UNHANDLED until then, HANDLED when `loop` has taken notice. */
  private next: number = HANDLED;
  /** Exits since the last entry from `loop` after which the guest went on at once. */
  private passed = 0;
  private result: VcpuRunResult = BUDGET;
  /** Set when the host crashed: every later run gives it again. */
  private hostBug: VcpuRunResult | null = null;
  /** Value of the last MSR read. */
  private dataLo = 0;
  private dataHi = 0;

  /**
   * Creates the VM on `options.cpu` and resets every vCPU, registers and LAPIC: write the boot state afterwards. vCPU
   * id 0 is the bootstrap processor and RUNNABLE, the others are UNINITIALIZED. Throws KvmscopeError('usage') for an
   * unknown era and for ids that are not integers, repeated, or beyond what the era allows.
   */
  constructor(options: KvmOptions) {
    const { cpu } = options;
    const era = resolveEra(options.era);
    this.era = era;
    this.cpu = cpu;
    this.vendor = cpu.vendor;
    this.costs = options.costs ?? null;
    this.hidden = hiddenFeatures(options.hiddenFeatures ?? []);
    this.disabledQuirks = options.disabledQuirks ?? 0;
    this.inKernelApic = options.inKernelApic ?? true;
    this.exitHypercalls = options.exitHypercalls ?? 0;
    this.pvFeatures = (options.pvFeatures ?? defaultPvFeatures(era)) >>> 0;
    const enforced = (options.enforcePvFeatures ?? false) && era.pvEnforcement;
    this.allowedPvFeatures = enforced ? this.pvFeatures | 0 : -1;
    const intel = cpu.vendor === 'intel';
    this.exitTable = intel ? VMX_EXITS : SVM_EXITS;
    this.nativeHypercall = intel ? VMX_HYPERCALL : SVM_HYPERCALL;
    this.exitTracedFirst = intel ? era.vmxExitTracedFirst : era.svmExitTracedFirst;
    this.deadlineIsFast = deadlineFastpath(era, cpu.vendor);
    this.reentersGuest = era.fastpathCompletion === 're-enter guest';
    this.hypercalls = hypercallTable(era, this.allowedPvFeatures);
    const { vendor, pvFeatures, hidden } = this;
    this.cpuidCache = new CpuidCache({ vendor, pvFeatures, hidden, vcpuCount: cpu.vcpuCount });
    this.pvVm = {
      wallClock: 0n,
      wallClockBase: BigInt(options.wallClock ?? DEFAULT_WALL_CLOCK) * NANOSECONDS,
      oldKvmclock: false,
      masterNs: 0,
    };

    const ids = checkedIds(options.apicIds, cpu.vcpuCount, era);
    const lint0Reenabled = (this.disabledQuirks & QUIRK_LINT0_REENABLED) === 0;
    this.stirred = new Uint32Array((ids.length + 31) >> 5);
    this.vcpus = ids.map((vcpuId, index) => {
      const state = cpu.vcpu(index);
      state.reset('reset', signature(cpu.vendor));
      state.window = 0;
      state.exceptionBitmap = 1 << VECTOR_UD;
      state.intercepts = INTERCEPT_PAUSE;
      hideFrom(state, this.hidden);
      const { clock, exitTable } = this;
      const shows = (name: string): boolean => this.hidden.every((feature) => feature.name !== name);
      const wideIcr = era.icrStorage === 'one 64-bit register' || (era.icrStorage === 'by vendor' && intel);
      const setup = { index, vcpuId, state, era, clock, exitTable, lint0Reenabled, wideIcr };
      return new KvmVcpu({ ...setup, showsX2apic: shows('x2apic'), showsDeadline: shows('tsc_deadline_timer') });
    });
    this.trace =
      options.observer === undefined ? null : new Observation(options.observer, this.exitTable, this.vcpus.length);
    this.router = new Router({
      lapics: this.inKernelApic ? this.vcpus.map((vcpu) => vcpu.lapic) : [],
      era,
      x2apicApi: options.x2apicApi ?? 0,
      vectorHashing: options.vectorHashing ?? true,
      sink: this,
    });
    if (!this.inKernelApic) for (const { lapic } of this.vcpus) lapic.setBase(0, 0);
    this.irqchip = options.irqchip === true && this.inKernelApic ? this.makeIrqchip(options.pit ?? true) : null;
    const hardware = hardwareKind(era, cpu.vendor, options.apicv ?? 'off', options.avic ?? false);
    this.assist = hardware === null ? null : this.makeAssist(hardware);
    this.assist?.recalculate();
    this.plain = this.trace === null && this.assist === null;
    this.measured = this.trace !== null || this.costs !== null;
    const inside = this.plain && this.costs === null;
    cpu.handleExits?.(inside ? this.handleInside : null);
  }

  private makeIrqchip(pit: boolean): Irqchip {
    const { clock, vcpus } = this;
    const accepted = (): number => vcpus.reduce((sum, { lapic }) => sum + lapic.received, 0);
    const irqchip = new Irqchip({
      clock,
      pit,
      sink: {
        send: (icrLow, dest) => {
          const before = accepted();
          this.router.route(null, icrLow, dest);
          return accepted() - before;
        },
      },
      picRaised: () => {
        for (const vcpu of vcpus) {
          if (!vcpu.lapic.acceptsPicInterrupt) continue;
          vcpu.lapic.requestEvent = true;
          this.kick(vcpu);
        }
      },
    });
    for (const vcpu of vcpus) vcpu.pics = irqchip.pics;
    return irqchip;
  }

  private makeAssist(kind: HardwareKind): HardwareApic {
    const { era, vendor, vcpus, trace, inKernelApic } = this;
    return new HardwareApic(kind, {
      ...{ era, vendor, vcpus, trace, inKernelApic },
      apicMap: () => this.router.apicMap(),
      leave: (vcpu, exitKind, info1, info2) => this.leaveWith(vcpu, exitKind, info1, info2, 0),
      skipSilently: (vcpu) => this.skipSilently(vcpu),
      raiseGp: (vcpu) => this.inject(vcpu, (INFO_EXCEPTION | INFO_ERROR_CODE | VECTOR_GP) >>> 0, 0),
      injectVector: (vcpu, vector) => this.inject(vcpu, (INFO_EXTERNAL | vector) >>> 0, 0),
      accessMemory: (vcpu, exit) => this.accessMemory(vcpu, exit),
      writeX2Icr: (vcpu, lo, hi) => this.writeX2Icr(vcpu, lo, hi),
      endOfInterrupt: (vcpu, vector) => this.endOfInterrupt(vcpu, vector),
      eoiExits: (vector) => this.irqchip?.ioapic.handles(vector) ?? false,
      writeApicRegister: (vcpu, offset, value) => this.writeApicRegister(vcpu, offset, value),
      countMessages: (count) => {
        this.messages += count;
        this.stirred.fill(0xffffffff);
      },
      wakeUp: (vcpu) => this.wakeUp(vcpu),
      kickOut: (vcpu) => this.kickOut(vcpu),
    });
  }

  /** Whether APICv or AVIC is in use now. */
  get apicvActive(): boolean {
    return this.assist?.active ?? false;
  }

  /** Why APICv or AVIC, which the host has, is not in use; empty if it is, or if there is none. */
  get apicvInhibits(): readonly ApicvInhibit[] {
    return this.assist?.inhibits ?? [];
  }

  /**
   * Sets whether an EOI of `vector` at vCPU `index` leaves the guest under APICv, as the routes of an I/O APIC would (the
   * EOI-exit bitmap of the VMCS).
   */
  setEoiExit(index: number, vector: number, on = true): void {
    const { index: at } = this.vcpu(index);
    this.assist?.setEoiExit(at, vector, on);
  }

  // ---- snapshots ----

  /** The state now, to be put back by `restore`. Not while a vCPU runs. */
  save(): KvmState {
    this.checkOutside();
    const { messages, lastRun, yieldRequested, result, hostBug, dataLo, dataHi } = this;
    const clock = new VirtualClock();
    clock.assign(this.clock);
    return {
      ...{ clock, messages, lastRun, yieldRequested, result, hostBug, dataLo, dataHi },
      stirred: this.stirred.slice(),
      vcpus: this.vcpus.map((vcpu) => vcpu.copy()),
      pvVm: { ...this.pvVm },
      router: this.router.save(),
      irqchip: this.irqchip?.copy() ?? null,
      assist: this.assist?.save() ?? null,
      records: this.trace?.save() ?? [],
    };
  }

  /** Goes back to a state that this `Kvm` saved; RAM and registers of that moment must be back, too (`Cpu.restore`). */
  restore(state: KvmState): void {
    this.checkOutside();
    for (let index = 0; index < this.vcpus.length; index++) this.vcpus[index].assign(state.vcpus[index]);
    this.clock.assign(state.clock);
    this.pvVm.wallClock = state.pvVm.wallClock;
    this.pvVm.oldKvmclock = state.pvVm.oldKvmclock;
    this.pvVm.masterNs = state.pvVm.masterNs;
    this.messages = state.messages;
    this.stirred.set(state.stirred);
    this.lastRun = state.lastRun;
    this.yieldRequested = state.yieldRequested;
    this.result = state.result;
    this.hostBug = state.hostBug;
    this.dataLo = state.dataLo;
    this.dataHi = state.dataHi;
    this.router.restore(state.router);
    if (state.irqchip !== null) this.irqchip?.assign(state.irqchip);
    if (state.assist !== null) this.assist?.restore(state.assist);
    this.trace?.restore(state.records);
  }

  private checkOutside(): void {
    if (this.running === null) return;
    throw new KvmscopeError(
      'usage',
      `vCPU ${this.running.index} is running; snapshots are taken and restored between runs`,
    );
  }

  // ---- the ioctls ----

  /**
   * KVM_RUN of vCPU `index`: enters the guest again and again until `budget` is used up (steps, plus one per exit) or
   * something needs the caller. The result is reused by the next call.
   */
  run(index: number, budget: number): VcpuRunResult {
    if (this.hostBug !== null) return this.hostBug;
    const vcpu = this.vcpu(index);
    if (vcpu.completion !== COMPLETE_NOTHING) {
      throw new KvmscopeError(
        'usage',
        `vCPU ${index} waits for the result of its last exit; call complete… before run`,
      );
    }
    vcpu.syncTsc();
    if (this.lastRun !== vcpu || !vcpu.pv.loaded) this.load(vcpu);
    this.running = vcpu;
    this.clock.enter(vcpu.state);
    const result = this.loop(vcpu, budget);
    this.next = HANDLED;
    this.passed = 0;
    this.clock.leave();
    this.running = null;
    return result;
  }

  /** Lets `ns` of virtual time (a whole number, 0 or more) pass while no vCPU runs; LAPIC timers expire on the way. */
  advanceTime(ns: number): void {
    if (!Number.isSafeInteger(ns) || ns < 0) {
      throw new KvmscopeError('usage', `time advances by a whole number of nanoseconds, not by ${ns}`);
    }
    const { clock } = this;
    const end = clock.now + ns;
    while (clock.next <= end) {
      clock.advance(Math.max(0, clock.next - clock.now));
      this.expireTimers();
    }
    clock.advance(end - clock.now);
  }

  /**
   * For when every vCPU sleeps: advances time to the next timer that changes anything by expiring, and expires
   * it. False: there is none, the VM sleeps for good.
   */
  sleepUntilTimer(): boolean {
    const { clock } = this;
    let deadline = Number.POSITIVE_INFINITY;
    for (const timer of clock.armed) {
      const stuck = timer.index >= 0 && this.vcpu(timer.index).lapic.timerStuck;
      if (timer.deadline < deadline && !stuck) ({ deadline } = timer);
    }
    if (deadline === Number.POSITIVE_INFINITY) return false;
    this.sleepUntil(deadline);
    return true;
  }

  /**
   * Time jumps to `time` while every vCPU sleeps. Of a timer, all expiries before it are one: however short its period, a long sleep is
   * little work.
   */
  sleepUntil(time: number): void {
    const { clock } = this;
    clock.advance(Math.max(0, time - clock.now));
    this.expireTimers();
  }

  /** Why the host is gone, null: it is not. */
  get crash(): VcpuRunResult | null {
    return this.hostBug;
  }

  /**
   * Handles one exit of vCPU `index` as if its guest had just caused it, without executing anything: for whoever wants KVM's part alone.
   * A fault stays queued for the next `run`.
   */
  handle(index: number, exit: Exit): void {
    const vcpu = this.vcpu(index);
    this.running = vcpu;
    this.handleExit(vcpu, exit);
    this.running = null;
  }

  /** Finishes an `io` result: `value` is what an IN read; ignored for OUT. */
  completeIo(index: number, value: number): void {
    const vcpu = this.takeCompletion(index, COMPLETE_IO, 'io');
    vcpu.state.completeIo(value);
    if (vcpu.io.direction === 'in') this.trace?.port(vcpu, false, vcpu.io.port, vcpu.io.size, value);
    if (vcpu.ioString) {
      vcpu.finishing = true;
      return;
    }
    this.singleStep(vcpu);
    this.trace?.close(vcpu);
  }

  /** Finishes an `mmio` result: `value` is what a read returns; ignored for a write. */
  completeMmio(index: number, value: bigint): void {
    const vcpu = this.takeCompletion(index, COMPLETE_MMIO, 'mmio');
    vcpu.state.completeMmio(Number(value & 0xffffffffn), Number((value >> 32n) & 0xffffffffn));
    vcpu.finishing = true;
  }

  /**
   * Finishes a `hypercall` result with the value of run->hypercall.ret; without one user space has left the field alone.
   */
  completeHypercall(index: number, ret?: bigint): void {
    const vcpu = this.takeCompletion(index, COMPLETE_HYPERCALL, 'hypercall');
    if (ret !== undefined) vcpu.hypercallRet = ret;
    vcpu.state.put(R_RAX, BigInt.asUintN(vcpu.state.is64bit ? 64 : 32, vcpu.hypercallRet));
    if (!this.era.hypercallCountedFirst) vcpu.stat.hypercalls++;
    this.skip(vcpu);
    this.trace?.close(vcpu);
  }

  /** Whether KVM_RUN would get anywhere: RUNNABLE, or asleep with something pending that wakes it. */
  isRunnable(index: number): boolean {
    return this.vcpu(index).runnable;
  }

  /** KVM_SET_MSRS, or with `hostInitiated` false what WRMSR would do. False: the guest would get #GP. */
  setMsr(index: number, msr: number, value: bigint, hostInitiated = true): boolean {
    const lo = Number(value & 0xffffffffn);
    const hi = Number((value >> 32n) & 0xffffffffn);
    return this.writeMsr(this.vcpu(index), msr >>> 0, lo, hi, hostInitiated);
  }

  /** KVM_GET_MSRS; undefined: the guest would get #GP. */
  getMsr(index: number, msr: number, hostInitiated = true): bigint | undefined {
    if (!this.readMsr(this.vcpu(index), msr >>> 0, hostInitiated)) return undefined;
    return join64(this.dataLo, this.dataHi);
  }

  /**
   * KVM_GET_MP_STATE: unlike `mpState` it carries out a pending INIT or SIPI first, and shows a PV kick as RUNNABLE.
   */
  getMpState(index: number): MpState {
    const vcpu = this.vcpu(index);
    this.acceptInitSipi(vcpu);
    return vcpu.mp === MP_HALTED && vcpu.pvUnhalted ? 'runnable' : vcpu.mpState;
  }

  /** A system reset of one vCPU: what a VMM sets with KVM_SET_REGS, KVM_SET_LAPIC and KVM_SET_MP_STATE. */
  resetVcpu(index: number): void {
    const vcpu = this.vcpu(index);
    vcpu.lapic.reset(false);
    vcpu.clearEvents();
    vcpu.pv.reset();
    vcpu.state.reset('reset', signature(this.vendor));
    vcpu.mpState = vcpu.bsp ? 'runnable' : 'uninitialized';
    this.mapChanged();
  }

  /** KVM_SET_LAPIC: 64 registers, slot = offset / 16. */
  setLapic(index: number, registers: Uint32Array): void {
    this.vcpu(index).lapic.load(registers);
    this.mapChanged();
  }

  /** KVM_KVMCLOCK_CTRL: the guest was paused; its next kvmclock record says so. False: it has no kvmclock. */
  kvmclockCtrl(index: number): boolean {
    const { pv } = this.vcpu(index);
    if (pv.timeAddress < 0) return false;
    pv.guestStopped = true;
    pv.requests |= REQ_CLOCK_UPDATE;
    return true;
  }

  /**
   * The guest touches a page that the host still has to fetch; `token` (32 bits) names the wait. Only a caller of the
   * library makes this happen: RAM is always there.
   */
  asyncPageNotPresent(index: number, token: number): AsyncPageFault {
    const vcpu = this.vcpu(index);
    if (vcpu.mode !== OUTSIDE_GUEST) this.leaveNestedPageFault(vcpu, 0n, false);
    const result = pageNotPresent(this, vcpu, token >>> 0);
    this.trace?.close(vcpu);
    return result;
  }

  /** The page that `asyncPageNotPresent` announced with `token` is there. */
  asyncPageReady(index: number, token: number): void {
    const vcpu = this.vcpu(index);
    queueReady(vcpu, token >>> 0);
    deliverReady(this, vcpu);
    this.kick(vcpu);
  }

  private vcpu(index: number): KvmVcpu {
    const vcpu = this.vcpus[index];
    if (vcpu === undefined) {
      throw new KvmscopeError('usage', `no vCPU ${index}; this VM has ${this.vcpus.length}, numbered from 0`);
    }
    return vcpu;
  }

  private takeCompletion(index: number, expected: number, what: string): KvmVcpu {
    const vcpu = this.vcpu(index);
    if (vcpu.completion !== expected) {
      throw new KvmscopeError('usage', `vCPU ${index} has no ${what} exit to complete`);
    }
    vcpu.completion = COMPLETE_NOTHING;
    return vcpu;
  }

  // ---- the run loop ----

  private loop(vcpu: KvmVcpu, budget: number): VcpuRunResult {
    const { state, lapic, pv, index } = vcpu;
    const { timer } = lapic;
    const { cpu, clock, trace, assist, costs } = this;
    let left = budget;
    let steps = state.steps;
    if (vcpu.mode === EXITING_GUEST) this.externalInterrupt(vcpu);
    let inGuest = vcpu.mode === IN_GUEST;
    for (;;) {
      if (vcpu.finishing === true) {
        if (this.finishInstruction(vcpu) === RETURN) return this.result;
        left -= state.steps - steps;
        steps = state.steps;
        inGuest &&= vcpu.mode === IN_GUEST;
        continue;
      }
      if (clock.next !== Number.POSITIVE_INFINITY) this.expireTimers();
      if (inGuest && vcpu.timerExit !== TIMER_EXIT_NONE) {
        this.timerInterrupt(vcpu);
        inGuest = false;
        left--;
      }
      if (!inGuest) {
        if (timer.pending === true) this.injectTimer(vcpu);
        if (vcpu.mp !== MP_RUNNABLE && !this.unblock(vcpu)) return BLOCKED;
        if (pv.requests !== 0) this.serviceRequests(vcpu);
        if (left <= 0) return BUDGET;
        if (lapic.requestEvent === true) {
          this.evaluateEvents(vcpu);
          if (vcpu.mp !== MP_RUNNABLE) continue;
        }
        if (trace !== null) trace.entry(vcpu);
        vcpu.mode = IN_GUEST;
      } else if (left <= 0) {
        return BUDGET;
      }
      if (assist?.active) assist.beforeEntry(vcpu);
      if (costs !== null) vcpu.syncTsc();
      this.passed = 0;
      this.next = UNHANDLED;
      // Whosever timer is next, it expires on time.
      const exit = cpu.run(
        index,
        clock.next === Number.POSITIVE_INFINITY ? left : Math.min(left, Math.max(1, clock.next - clock.now)),
      );
      const now = state.steps;
      left -= now - steps + this.passed;
      steps = now;
      // The vCPU counts as being in the guest until it is kicked or goes on.
      if (exit.reason === 'budget') {
        // Exits on the way have cost budget, but no time.
        if (this.passed === 0 && clock.next > clock.now) return BUDGET;
        inGuest = true;
        continue;
      }
      left--;
      const next = this.next === UNHANDLED ? this.handleExit(vcpu, exit) : this.next;
      this.next = HANDLED;
      if (next === RETURN) return this.result;
      inGuest = next === RESUME;
    }
  }

  /**
   * Lets the CPU execute the rest of an instruction whose access was answered: in KVM the emulator has done that before
   * the next entry. Further accesses of the same instruction belong to the same exit.
   */
  private finishInstruction(vcpu: KvmVcpu): number {
    const { state } = vcpu;
    const { window } = state;
    state.window = 0;
    const exit = this.cpu.run(vcpu.index, 1);
    state.window = window;
    // If the first access was no exit, this one may be.
    if (exit.reason === 'mmio') return vcpu.mode === IN_GUEST ? this.mmio(vcpu, exit) : this.accessMemory(vcpu, exit);
    if (exit.reason === 'io') return this.accessPort(vcpu, exit);
    vcpu.finishing = false;
    this.assist?.trap(vcpu);
    this.trace?.close(vcpu);
    return exit.reason === 'budget' ? NEXT : this.handleExit(vcpu, exit);
  }

  /** kvm_vcpu_block: whether a vCPU that is not RUNNABLE becomes so. */
  private unblock(vcpu: KvmVcpu): boolean {
    if (vcpu.runnable) {
      this.acceptInitSipi(vcpu);
      if (vcpu.mp === MP_HALTED || vcpu.mp === MP_APF_HALTED) vcpu.setMp(MP_RUNNABLE);
    }
    vcpu.blocked = vcpu.mp !== MP_RUNNABLE;
    if (vcpu.blocked) {
      vcpu.pv.readySince = -1;
      vcpu.pv.loaded = false;
    }
    return !vcpu.blocked;
  }

  /** A kick made the vCPU leave the guest: one external-interrupt exit, however many messages arrived. */
  private externalInterrupt(vcpu: KvmVcpu): void {
    const info = this.vendor === 'intel' ? (INFO_EXTERNAL | RESCHEDULE_VECTOR) >>> 0 : 0;
    this.leaveWith(vcpu, EXIT_EXTERNAL_INTERRUPT, 0n, 0n, info);
    vcpu.stat.irq_exits++;
    // One exit serves a timer that expired meanwhile, too.
    vcpu.timerExit = TIMER_EXIT_NONE;
    this.trace?.close(vcpu);
  }

  // ---- the host's scheduler (kvm_arch_vcpu_load, kvm_arch_vcpu_put) ----

  /** The thread of `vcpu` comes onto the host CPU, another one leaves it. */
  private load(vcpu: KvmVcpu): void {
    const { lastRun } = this;
    if (lastRun !== null && lastRun !== vcpu) this.put(lastRun);
    this.lastRun = vcpu;
    const { pv } = vcpu;
    if (pv.readySince >= 0) pv.runDelay += this.clock.now - pv.readySince;
    pv.readySince = -1;
    pv.loaded = true;
    if (pv.stealAddress >= 0) pv.requests |= REQ_STEAL_UPDATE;
  }

  /**
   * The thread has left the host CPU because another one runs. Whether the slice of a vCPU ended inside the guest shows
   * as an exit only if the guest watches its steal time: then a host interrupt has taken it out.
   */
  private put(vcpu: KvmVcpu): void {
    const { pv } = vcpu;
    if (pv.stealAddress >= 0) {
      const interrupted = vcpu.mode !== OUTSIDE_GUEST;
      if (interrupted) this.externalInterrupt(vcpu);
      setPreempted(this, vcpu, interrupted);
    }
    pv.loaded = false;
    pv.readySince = vcpu.mp === MP_RUNNABLE ? this.clock.now : -1;
  }

  /** What PV interfaces want done before the next entry. */
  private serviceRequests(vcpu: KvmVcpu): void {
    const { pv } = vcpu;
    if ((pv.requests & REQ_MASTERCLOCK_UPDATE) !== 0) updateMasterClock(this);
    const { requests } = pv;
    pv.requests = 0;
    if ((requests & REQ_CLOCK_UPDATE) !== 0) updateSystemTime(this, vcpu);
    if ((requests & REQ_APF_READY) !== 0) deliverReady(this, vcpu);
    if ((requests & REQ_STEAL_UPDATE) !== 0) recordStealTime(this, vcpu);
  }

  // ---- timers ----

  /** What is due expires: its vCPU wakes up, leaves the guest, or finds the interrupt before its next entry. */
  private expireTimers(): void {
    for (let timer = this.clock.due(); timer !== null; timer = this.clock.due()) {
      if (timer.index < 0) {
        timer.expire();
        continue;
      }
      const vcpu = this.vcpus[timer.index];
      this.stir(vcpu);
      const again = vcpu.lapic.timer.pending;
      vcpu.lapic.timer.expire();
      if (vcpu.mode === IN_GUEST) {
        vcpu.timerExit = again ? TIMER_EXIT_AGAIN : TIMER_EXIT;
      } else if (vcpu.blocked) {
        vcpu.stat.halt_wakeup++;
        this.injectTimer(vcpu);
        this.wake(vcpu);
      }
    }
  }

  /**
   * The timer expired in the guest: on Intel it is the VMX preemption timer, on AMD a timer of the host that
   * interrupts. If the interrupt of the last expiry is still held back (LVTT masked), KVM re-enters from the
   * preemption-timer fastpath of v5.8.
   */
  private timerInterrupt(vcpu: KvmVcpu): void {
    const intel = this.vendor === 'intel';
    const reenters = intel && vcpu.timerExit === TIMER_EXIT_AGAIN && this.deadlineIsFast;
    vcpu.timerExit = TIMER_EXIT_NONE;
    this.leave(vcpu, EXIT_PREEMPTION_TIMER);
    if (reenters && !this.era.reentryCounted) vcpu.stat.exits--;
    if (!intel) vcpu.stat.irq_exits++;
    this.injectTimer(vcpu);
    this.trace?.close(vcpu);
  }

  /** kvm_inject_pending_timer_irqs: the interrupt of an expired timer goes into IRR unless LVTT holds it back. */
  private injectTimer(vcpu: KvmVcpu): void {
    const { lapic } = vcpu;
    const vector = lapic.timerVector();
    if (vector < 0) return;
    lapic.timer.delivered();
    this.trace?.accept(vcpu.index, lapic, vector);
    if (this.assist?.active) this.assist.accept(lapic, vcpu.index, vector);
    else lapic.accept(vector);
  }

  // ---- before an entry: events (kvm_apic_accept_events, kvm_check_and_inject_events) ----

  private evaluateEvents(vcpu: KvmVcpu): void {
    const { lapic, state, stat } = vcpu;
    stat.req_event++;
    // What the guest did with the byte counts even if it was not an exit that led here.
    if (vcpu.pv.eoiPending) syncPvEoi(this, vcpu);
    lapic.requestEvent = false;
    if (vcpu.nmiLatched + lapic.nmiQueued > 0) {
      vcpu.nmiLatched = vcpu.nmiPending;
      lapic.nmiQueued = 0;
    }
    if (lapic.initPending || lapic.sipiPending) this.acceptInitSipi(vcpu);
    if (vcpu.mp !== MP_RUNNABLE) return;

    let canInject = state.injected === 0;
    if (canInject && vcpu.exceptionVector >= 0) {
      this.injectException(vcpu);
      canInject = false;
    }
    // The SMI handler is a lone RSM.
    lapic.smiPending = false;
    if (vcpu.nmiLatched > 0) {
      if (canInject && vcpu.nmiAllowed) {
        vcpu.nmiLatched--;
        reach(AT_INJECT_NMI);
        stat.nmi_injections++;
        this.inject(vcpu, INFO_NMI, 0);
        this.trace?.emit({ event: 'kvm_inj_nmi', vcpu: vcpu.index });
        canInject = false;
      }
      if (vcpu.nmiLatched > 0) state.window |= this.nmiWindow(state);
    }
    if (vcpu.pics !== null && vcpu.picInterrupt) {
      if (canInject && vcpu.interruptAllowed) {
        this.injectInterrupt(vcpu, vcpu.pics.acknowledge());
        canInject = false;
      }
      if (vcpu.picInterrupt) state.window |= WINDOW_INTERRUPT;
    }
    // The processor delivers interrupts and performs EOIs itself.
    if (this.assist?.active) return;
    const vector = lapic.deliverable();
    if (vector >= 0) {
      if (canInject && vcpu.interruptAllowed) {
        lapic.acknowledge(vector);
        this.injectInterrupt(vcpu, vector);
      }
      if (lapic.deliverable() >= 0) {
        reach(AT_INJECT_WAITS);
        state.window |= WINDOW_INTERRUPT;
      }
    }
    this.updateTprThreshold(vcpu);
    const toIoApic = this.irqchip?.ioapic.handles(lapic.highestIsrCache) ?? false;
    if (vcpu.pv.eoiAddress >= 0 && lapic.hwEnabled && lapic.swEnabled && !toIoApic) armPvEoi(this, vcpu);
  }

  /**
   * What to wait for when an NMI cannot be taken now. On Intel the NMI window would open too early behind STI: KVM waits until interrupts
   * are allowed, which is long if a CLI follows (vmx_enable_nmi_window). On AMD it single-steps over the shadow; here that is the exit
   * of an IRET.
   */
  private nmiWindow({ interruptibility }: CpuState): number {
    const behindSti = (interruptibility & SHADOW_STI) !== 0;
    return behindSti && this.vendor === 'intel' ? WINDOW_INTERRUPT : WINDOW_NMI;
  }

  private injectInterrupt(vcpu: KvmVcpu, vector: number): void {
    reach(AT_INJECT_INTERRUPT);
    vcpu.stat.irq_injections++;
    this.trace?.emit({ event: 'kvm_inj_virq', vcpu: vcpu.index, irq: vector, soft: false, reinjected: false });
    this.inject(vcpu, (INFO_EXTERNAL | vector) >>> 0, 0);
  }

  /** update_cr8_intercept: the priority class a pending but masked interrupt waits for. */
  private updateTprThreshold(vcpu: KvmVcpu): void {
    const irr = vcpu.lapic.highestIrr() >> 4;
    const tpr = vcpu.lapic.tpr >> 4;
    vcpu.tprThreshold = irr < 0 || tpr < irr ? 0 : irr;
  }

  private injectException(vcpu: KvmVcpu): void {
    const vector = vcpu.exceptionVector;
    const error = vcpu.exceptionError;
    vcpu.exceptionVector = -1;
    const info = (INFO_EXCEPTION | vector | (error >= 0 ? INFO_ERROR_CODE : 0)) >>> 0;
    // A fault pushes RF = 1, so that an instruction breakpoint does not hit again after the handler
    // (SDM vol. 3, 18.3.1.1).
    const { state } = vcpu;
    if (((TRAPS_AND_ABORTS >>> vector) & 1) === 0) state.set(R_RFLAGS, state.lo(R_RFLAGS) | RFLAGS_RF, 0);
    const errorCode = error >= 0 ? error : null;
    this.trace?.emit({ event: 'kvm_inj_exception', vcpu: vcpu.index, vector, errorCode, reinjected: false });
    this.inject(vcpu, info, Math.max(0, error));
  }

  private inject(vcpu: KvmVcpu, info: number, error: number): void {
    vcpu.injectedError = error;
    vcpu.state.inject(info, error, 0);
  }

  /** Makes the next entry raise an exception in the guest. */
  queueException(vcpu: KvmVcpu, vector: number, error = -1): void {
    vcpu.exceptionVector = vector;
    vcpu.exceptionError = error;
    vcpu.lapic.requestEvent = true;
  }

  /** Carries out INIT and SIPI, INIT first. A SIPI counts only in wait-for-SIPI. */
  private acceptInitSipi(vcpu: KvmVcpu): void {
    const { lapic, state } = vcpu;
    if (lapic.initPending) {
      // The guest may have written the bit (kvm_vcpu_is_bsp).
      const bsp = (lapic.baseLo & APIC_BASE_BSP) !== 0;
      reach(bsp ? AT_INIT_BSP : AT_INIT_AP);
      lapic.initPending = false;
      this.initReset(vcpu);
      vcpu.setMp(bsp ? MP_RUNNABLE : MP_INIT_RECEIVED);
    }
    if (lapic.sipiPending) {
      lapic.sipiPending = false;
      reach(vcpu.mp === MP_INIT_RECEIVED ? AT_SIPI_STARTS : AT_SIPI_IGNORED);
      if (vcpu.mp === MP_INIT_RECEIVED) {
        state.set(R_SEL + SEG_CS, lapic.sipiVector << 8, 0);
        state.set(R_BASE + SEG_CS, lapic.sipiVector << 12, 0);
        state.set(R_RIP, 0, 0);
        vcpu.setMp(MP_RUNNABLE);
      }
    }
  }

  /** kvm_vcpu_reset with init_event. */
  private initReset(vcpu: KvmVcpu): void {
    const { lapic, state } = vcpu;
    lapic.reset(true);
    lapic.nmiQueued = 0;
    lapic.smiPending = false;
    vcpu.nmiLatched = 0;
    vcpu.exceptionVector = -1;
    vcpu.tprThreshold = 0;
    vcpu.pv.reset();
    state.reset('init', signature(this.vendor));
    state.window = 0;
    this.mapChanged();
  }

  // ---- after an exit ----

  /**
   * Handles an exit of `loop` while the engine still waits (vmx_vcpu_enter_exit and vmx_handle_exit in one). True: the guest goes on from
   * here. Only for VMs whose exits nobody records.
   */
  private readonly handleInside = (exit: Exit): boolean => {
    if (this.next !== UNHANDLED) return false;
    const vcpu = this.running as KvmVcpu;
    const next = this.dispatch(vcpu, exit);
    if (next !== REENTER || vcpu.lapic.requestEvent !== false) {
      this.next = next;
      return false;
    }
    vcpu.mode = IN_GUEST;
    this.passed++;
    return true;
  };

  private handleExit(vcpu: KvmVcpu, exit: Exit): number {
    const next = this.dispatch(vcpu, exit);
    if (this.plain !== true) this.closeRecord(vcpu, next);
    return next;
  }

  private dispatch(vcpu: KvmVcpu, exit: Exit): number {
    const { reason } = exit;
    if (reason === 'hypercall') return this.hypercall(vcpu);
    return reason === 'wrmsr' ? this.wrmsr(vcpu, exit) : this.otherExit(vcpu, exit);
  }

  /** Closes the exit's record unless user space has to finish the exit. */
  private closeRecord(vcpu: KvmVcpu, next: number): void {
    if (next !== RESUME && vcpu.completion === COMPLETE_NOTHING && !vcpu.finishing) this.trace?.close(vcpu);
  }

  private otherExit(vcpu: KvmVcpu, exit: Exit): number {
    switch (exit.reason) {
      case 'rdmsr':
        return this.rdmsr(vcpu, exit);
      case 'hlt':
        return this.hlt(vcpu);
      case 'cpuid':
        return this.cpuid(vcpu);
      case 'mmio':
        return this.mmio(vcpu, exit);
      case 'io':
        return this.io(vcpu, exit);
      case 'interrupt-window':
        if (this.assist?.active) return RESUME;
        this.leave(vcpu, EXIT_INTERRUPT_WINDOW);
        vcpu.stat.irq_window_exits++;
        return this.windowOpen(vcpu, WINDOW_INTERRUPT);
      case 'nmi-window':
        this.leave(vcpu, EXIT_NMI_WINDOW);
        vcpu.stat.nmi_window_exits++;
        return this.windowOpen(vcpu, WINDOW_NMI);
      case 'cr8':
        return this.cr8(vcpu, exit);
      case 'pause':
        return this.pause(vcpu);
      case 'exception':
        return this.exception(vcpu, exit);
      case 'shutdown':
        this.leave(vcpu, EXIT_TRIPLE_FAULT);
        return this.toUser(vcpu, SHUTDOWN, 'KVM_EXIT_SHUTDOWN');
      case 'rdtsc': {
        this.leave(vcpu, EXIT_RDTSC);
        const { tsc } = vcpu;
        vcpu.state.put(R_RAX, tsc & 0xffffffffn);
        vcpu.state.put(R_RDX, (tsc >> 32n) & 0xffffffffn);
        return this.skipNext(vcpu);
      }
      case 'wbinvd':
        this.leave(vcpu, EXIT_WBINVD);
        return this.skipNext(vcpu);
      case 'invd':
        this.leave(vcpu, EXIT_INVD);
        return this.skipNext(vcpu);
      case 'invlpg':
        this.leave(vcpu, EXIT_INVLPG);
        vcpu.state.flushTlb();
        return this.skipNext(vcpu);
      case 'mwait':
        return this.monitorMwait(vcpu, EXIT_MWAIT);
      case 'monitor':
        return this.monitorMwait(vcpu, EXIT_MONITOR);
      case 'xsetbv':
        return this.xsetbv(vcpu);
      case 'rdpmc':
        // There is no PMU: no counter has a number.
        this.leave(vcpu, EXIT_RDPMC);
        this.queueException(vcpu, VECTOR_GP, 0);
        return NEXT;
      case 'internal':
        return this.internal(vcpu, exit);
      default:
        return this.unexpected(vcpu, `exit '${exit.reason}', which was not asked for`);
    }
  }

  /** What every exit does first: counters, record, kvm_exit. This one has no exit qualification. */
  private leave(vcpu: KvmVcpu, kind: number): void {
    if (this.measured === true) {
      this.leaveWith(vcpu, kind, 0n, 0n, 0);
      return;
    }
    vcpu.mode = OUTSIDE_GUEST;
    vcpu.exitCounts[kind]++;
    vcpu.stat.exits++;
    if (vcpu.pv.eoiPending === true) syncPvEoi(this, vcpu);
  }

  private leaveWith(vcpu: KvmVcpu, kind: number, info1: bigint, info2: bigint, intrInfo: number): void {
    const { trace } = this;
    this.count(vcpu, kind);
    vcpu.stat.exits++;
    trace?.open(vcpu, kind);
    if (this.exitTracedFirst) trace?.exit(vcpu, kind, info1, info2, intrInfo);
    if (vcpu.pv.eoiPending) syncPvEoi(this, vcpu);
    if (!this.exitTracedFirst) trace?.exit(vcpu, kind, info1, info2, intrInfo);
    if (kind === EXIT_HYPERCALL) trace?.hypercall(vcpu);
  }

  private count(vcpu: KvmVcpu, kind: number): void {
    vcpu.mode = OUTSIDE_GUEST;
    vcpu.exitCounts[kind]++;
    if (this.costs !== null) this.clock.advance(this.costs.exit[kind]);
  }

  /** Advances RIP (kvm_skip_emulated_instruction). */
  private skip(vcpu: KvmVcpu): void {
    const { state } = vcpu;
    state.skipInstruction();
    if ((state.lo(R_RFLAGS) & RFLAGS_TF) !== 0) this.singleStep(vcpu);
  }

  /** After an instruction that KVM finished: with RFLAGS.TF set the next entry raises #DB. */
  private singleStep(vcpu: KvmVcpu): void {
    const { state } = vcpu;
    if ((state.lo(R_RFLAGS) & RFLAGS_TF) === 0) return;
    state.set(R_DR6, (state.lo(R_DR6) & ~DR6_TRAPS) | DR6_BS, 0);
    this.queueException(vcpu, VECTOR_DB);
  }

  private skipNext(vcpu: KvmVcpu): number {
    this.skip(vcpu);
    return NEXT;
  }

  private skipReenter(vcpu: KvmVcpu): number {
    this.skip(vcpu);
    return REENTER;
  }

  private toUser(vcpu: KvmVcpu, result: VcpuRunResult, reason: string): number {
    this.result = result;
    if (this.costs !== null) this.clock.advance(this.costs.userSpace);
    vcpu.pv.loaded = false;
    this.trace?.userspaceExit(vcpu, reason);
    return RETURN;
  }

  private windowOpen(vcpu: KvmVcpu, window: number): number {
    vcpu.state.window &= ~window;
    vcpu.lapic.requestEvent = true;
    return NEXT;
  }

  // ---- hypercalls ----

  private hypercall(vcpu: KvmVcpu): number {
    this.leave(vcpu, EXIT_HYPERCALL);
    const ret = this.dispatchHypercall(vcpu);
    if (ret >= EXIT_TO_USER) return this.hypercallWithoutResult(vcpu, ret);
    vcpu.stat.hypercalls++;
    const { state } = vcpu;
    // Signed halves: unsigned ones of this size would each be an object wherever V8 does not inline the call.
    state.set(R_RAX, ret, ret < 0 && state.is64bit ? -1 : 0);
    this.skip(vcpu);
    return this.yieldRequested === true ? this.yieldNow() : REENTER;
  }

  private hypercallWithoutResult(vcpu: KvmVcpu, answer: number): number {
    reach(answer === HOST_BUG ? AT_HOST_BUG : AT_HYPERCALL_TO_USER);
    if (this.era.hypercallCountedFirst) vcpu.stat.hypercalls++;
    return answer === HOST_BUG ? RETURN : this.hypercallToUser(vcpu, vcpu.state.is64bit);
  }

  private yieldNow(): number {
    this.yieldRequested = false;
    this.result = YIELD;
    return RETURN;
  }

  private dispatchHypercall(vcpu: KvmVcpu): number {
    const { state } = vcpu;
    if (state.cpl !== 0) return -KVM_EPERM;
    const long = state.is64bit;
    if (long && state.hi(R_RAX) !== 0) return this.noHypercall(AT_HYPERCALL_UPPER_HALF);
    const nr = state.lo(R_RAX);
    const row = nr < this.hypercalls.length ? this.hypercalls[nr] : undefined;
    return row === undefined ? this.noHypercall(AT_HYPERCALL_UNKNOWN) : row.call(this, vcpu, long);
  }

  private noHypercall(point: number): number {
    reach(point);
    return -KVM_ENOSYS;
  }

  /** KVM_EXIT_HYPERCALL; RIP stays until it is completed. */
  private hypercallToUser(vcpu: KvmVcpu, long: boolean): number {
    const { state } = vcpu;
    if (this.era.mapGpaRangeRawNumber && state.hi(R_RAX) !== 0) {
      // All of these versions count after RAX is written.
      state.set(R_RAX, 0, 0);
      vcpu.stat.hypercalls++;
      this.skip(vcpu);
      return NEXT;
    }
    const bits = long ? 64 : 32;
    const args = [R_RBX, R_RCX, R_RDX].map((id) => BigInt.asUintN(bits, state.get(id)));
    if (this.era.hypercallRetCleared) vcpu.hypercallRet = 0n;
    vcpu.completion = COMPLETE_HYPERCALL;
    const nr = BigInt.asUintN(bits, state.get(R_RAX));
    return this.toUser(vcpu, { kind: 'hypercall', nr, args, longmode: long }, 'KVM_EXIT_HYPERCALL');
  }

  yieldTo(from: KvmVcpu, apicId: number): void {
    if (this.era.yieldCounted) from.stat.directed_yield_attempted++;
    const map = this.apicMap();
    const target = map !== null && apicId <= map.maxApicId ? map.phys[apicId] : null;
    reach(AT_YIELD_NOBODY);
    if (target === null || target === from.lapic || !this.vcpus[target.index].runnable) return;
    reach(AT_YIELD_TAKEN);
    if (this.era.yieldCounted) from.stat.directed_yield_successful++;
    this.yieldRequested = true;
  }

  reportHostBug(bug: string, cve: string | undefined, detail: string): void {
    this.hostBug = cve === undefined ? { kind: 'host-bug', bug, detail } : { kind: 'host-bug', bug, cve, detail };
    this.result = this.hostBug;
  }

  // ---- MSRs ----

  private wrmsr(vcpu: KvmVcpu, exit: WrmsrExit): number {
    if (this.plain !== true) {
      const next = this.prepareWrmsr(vcpu, exit);
      if (next !== NOT_HANDLED) return next;
    }
    this.count(vcpu, EXIT_WRMSR);
    // Signed halves: no number that V8 would have to put on the heap.
    const lo = exit.dataLo | 0;
    const hi = exit.dataHi | 0;
    if (this.era.fastpath === true && this.tryFastpath(vcpu, exit.msr, lo, hi))
      return exit.msr === MSR_X2APIC_ICR ? REENTER : NEXT;
    return this.slowWrmsr(vcpu, exit.msr, lo, hi);
  }

  /** Gives hardware APICs the write, or opens its record. */
  private prepareWrmsr(vcpu: KvmVcpu, { msr, dataLo, dataHi }: WrmsrExit): number {
    if (this.assist !== null) {
      const next = this.assistedWrmsr(this.assist, vcpu, msr, dataLo, dataHi);
      if (next !== NOT_HANDLED) return next;
    }
    this.trace?.open(vcpu, EXIT_WRMSR);
    return NOT_HANDLED;
  }

  private slowWrmsr(vcpu: KvmVcpu, msr: number, lo: number, hi: number): number {
    const { trace } = this;
    vcpu.stat.exits++;
    if (vcpu.pv.eoiPending) syncPvEoi(this, vcpu);
    if (trace !== null && !(this.era.fastpath && this.exitTracedFirst)) this.traceWrmsrExit(vcpu);
    const ok = this.writeMsr(vcpu, msr, lo, hi, false);
    if (trace !== null) trace.msr(vcpu, true, msr, lo, hi, !ok);
    if (ok) this.skip(vcpu);
    else this.queueException(vcpu, VECTOR_GP, 0);
    return NEXT;
  }

  /** Offers a WRMSR exit to the fastpath; true if it was handled completely, counters and trace included. */
  private tryFastpath(vcpu: KvmVcpu, msr: number, lo: number, hi: number): boolean {
    if (this.trace !== null && this.exitTracedFirst) this.traceWrmsrExit(vcpu);
    const taken = msr === MSR_X2APIC_ICR ? this.fastpathIcr(vcpu, lo, hi) : this.fastpathDeadline(vcpu, msr, lo, hi);
    reach(taken ? AT_FASTPATH_TAKEN : AT_FASTPATH_REFUSED);
    if (taken) this.endFastpath(vcpu, msr === MSR_TSC_DEADLINE);
    return taken;
  }

  private fastpathDeadline(vcpu: KvmVcpu, msr: number, lo: number, hi: number): boolean {
    const verdict = msr === MSR_TSC_DEADLINE && this.deadlineIsFast ? VERDICT.taken : VERDICT.otherMsr;
    this.trace?.verdict(vcpu, verdict);
    if (!verdict.taken) return false;
    vcpu.stat.fastpath++;
    this.writeMsr(vcpu, msr, lo, hi, false);
    if (this.trace !== null) this.traceFastpath(this.trace, vcpu, msr, lo, hi);
    return true;
  }

  /** The ICR write of the fastpath: same effect as `writeX2Icr`, other order of events. */
  private fastpathIcr(vcpu: KvmVcpu, lo: number, hi: number): boolean {
    const { era, router } = this;
    const { lapic } = vcpu;
    const delivery = era.fastpathFixedPhysicalOnly === true ? -1 : router.delivery(lapic, lo, hi);
    const verdict = icrVerdict(era, lapic.x2apic, lo, hi, delivery);
    if (this.trace !== null) return this.observedFastpathIcr(this.trace, vcpu, verdict, lo, hi);
    if (verdict !== VERDICT.taken) return false;
    vcpu.stat.fastpath++;
    lapic.writeX2Icr(lo, hi);
    router.routeAs(delivery, lapic, lo & ~ICR_BUSY, hi);
    return true;
  }

  private observedFastpathIcr(
    trace: Observation,
    vcpu: KvmVcpu,
    verdict: FastpathVerdict,
    lo: number,
    hi: number,
  ): boolean {
    trace.verdict(vcpu, verdict);
    if (!verdict.taken) return false;
    vcpu.stat.fastpath++;
    const { lapic } = vcpu;
    const command = lo & ~ICR_BUSY;
    const { fastpathIcrWrite, fastpathIpiTracedLast } = this.era;
    if (fastpathIcrWrite === 'register') trace.apic(vcpu, true, APIC_ICR, lo, 0);
    if (!fastpathIpiTracedLast) trace.ipi(vcpu, command, hi);
    this.router.route(lapic, command, hi);
    if (fastpathIpiTracedLast) trace.ipi(vcpu, command, hi);
    lapic.writeX2Icr(lo, hi);
    if (fastpathIcrWrite === 'split') trace.apic(vcpu, true, APIC_ICR, command, 0);
    if (fastpathIcrWrite === 'x2apic') trace.apic(vcpu, true, APIC_ICR, command, hi);
    this.traceFastpath(trace, vcpu, MSR_X2APIC_ICR, lo, hi);
    return true;
  }

  private traceFastpath(trace: Observation, vcpu: KvmVcpu, msr: number, lo: number, hi: number): void {
    trace.msr(vcpu, true, msr, lo, hi, false);
    if (this.exitTracedFirst) return;
    if (vcpu.pv.eoiPending) syncPvEoi(this, vcpu);
    this.traceWrmsrExit(vcpu);
  }

  /** Straight back into the guest, unless the vCPU sent something to itself or its deadline has passed. */
  private endFastpath(vcpu: KvmVcpu, deadline: boolean): void {
    const { lapic, pv } = vcpu;
    if (pv.eoiPending === true && !this.exitTracedFirst) syncPvEoi(this, vcpu);
    this.skip(vcpu);
    const reenters =
      lapic.requestEvent === false && (deadline ? lapic.timer.pending === false : this.reentersGuest === true);
    if (this.trace !== null) this.traceCompletion(this.trace, vcpu, reenters);
    if (!reenters || this.era.reentryCounted === true) vcpu.stat.exits++;
    if (pv.eoiPending === true && !reenters) syncPvEoi(this, vcpu);
  }

  private traceCompletion(trace: Observation, vcpu: KvmVcpu, reenters: boolean): void {
    const handled = this.era.fastpathCompletion === 'skip instruction' ? 'SKIP_EMUL_INS' : 'EXIT_HANDLED';
    trace.completion(vcpu, reenters ? 'REENTER_GUEST' : handled);
  }

  /** kvm_exit of a WRMSR. */
  private traceWrmsrExit(vcpu: KvmVcpu): void {
    this.trace?.exit(vcpu, EXIT_WRMSR, this.vendor === 'amd' ? 1n : 0n, 0n, 0);
  }

  /** A WRMSR that the hardware may perform without an exit, or with one of its own. */
  private assistedWrmsr(assist: HardwareApic, vcpu: KvmVcpu, msr: number, lo: number, hi: number): number {
    if (!assist.active || msr < X2APIC_MSR_FIRST || msr > X2APIC_MSR_LAST) return NOT_HANDLED;
    return assist.wrmsr(vcpu, (msr - X2APIC_MSR_FIRST) << 4, lo, hi);
  }

  /** True: the hardware has answered, and the value is in RDX:RAX. */
  private assistedRdmsr(assist: HardwareApic, vcpu: KvmVcpu, msr: number): boolean {
    if (!assist.active || msr < X2APIC_MSR_FIRST || msr > X2APIC_MSR_LAST) return false;
    const offset = (msr - X2APIC_MSR_FIRST) << 4;
    const value = assist.rdmsr(vcpu, offset);
    if (value === NOT_HANDLED) return false;
    vcpu.state.set(R_RAX, value, 0);
    vcpu.state.set(R_RDX, offset === APIC_ICR ? assist.icrHigh(vcpu.lapic) : 0, 0);
    return true;
  }

  private rdmsr(vcpu: KvmVcpu, exit: RdmsrExit): number {
    const { state } = vcpu;
    if (this.assist !== null && this.assistedRdmsr(this.assist, vcpu, exit.msr)) return this.skipSilently(vcpu);
    this.leave(vcpu, EXIT_RDMSR);
    const ok = this.readMsr(vcpu, exit.msr, false);
    this.trace?.msr(vcpu, false, exit.msr, ok ? this.dataLo : 0, ok ? this.dataHi : 0, !ok);
    if (!ok) {
      this.queueException(vcpu, VECTOR_GP, 0);
      return NEXT;
    }
    state.set(R_RAX, this.dataLo, 0);
    state.set(R_RDX, this.dataHi, 0);
    return this.skipReenter(vcpu);
  }

  private writeMsr(vcpu: KvmVcpu, msr: number, lo: number, hi: number, host: boolean): boolean {
    if (msr >= X2APIC_MSR_FIRST && msr <= this.era.x2apicMsrLast) return this.writeX2apic(vcpu, msr, lo, hi);
    const row = msrRow(msr);
    return row?.write(vcpu, join64(lo, hi), this, host) ?? false;
  }

  /** Leaves the value in `dataLo` and `dataHi`. */
  private readMsr(vcpu: KvmVcpu, msr: number, host: boolean): boolean {
    if (msr >= X2APIC_MSR_FIRST && msr <= this.era.x2apicMsrLast) return this.readX2apic(vcpu, msr);
    const value = msrRow(msr)?.read(vcpu, this, host) ?? null;
    if (value === null) return false;
    this.dataLo = Number(value & 0xffffffffn);
    this.dataHi = Number(value >> 32n);
    return true;
  }

  setApicBase(vcpu: KvmVcpu, value: bigint): void {
    if (!this.inKernelApic) return;
    if (vcpu.lapic.setBase(Number(value & 0xffffffffn), Number(value >> 32n))) {
      reach(AT_APIC_BASE_CHANGES_MAP);
      this.router.invalidateMap();
    }
    this.assist?.recalculate();
  }

  // ---- APIC registers ----

  private writeX2apic(vcpu: KvmVcpu, msr: number, lo: number, hi: number): boolean {
    const { lapic } = vcpu;
    if (!lapic.x2apic) reach(AT_X2APIC_MSR_OUTSIDE_X2APIC);
    if (!lapic.x2apic) return false;
    const offset = (msr - X2APIC_MSR_FIRST) << 4;
    if (offset === APIC_ICR) return this.writeX2Icr(vcpu, lo, hi);
    if (hi !== 0) reach(AT_X2APIC_HIGH_HALF);
    if (offset === APIC_ICR2 || (hi !== 0 && this.era.x2apicHighGp)) return false;
    return this.writeApicRegister(vcpu, offset, lo >>> 0);
  }

  /** The x2APIC ICR on the slow path (kvm_x2apic_icr_write). */
  private writeX2Icr(vcpu: KvmVcpu, lo: number, hi: number): boolean {
    const { lapic } = vcpu;
    const { era } = this;
    if ((lo & ICR_RESERVED) !== 0) reach(AT_ICR_RESERVED);
    if (era.icrReservedGp && (lo & ICR_RESERVED) !== 0) return false;
    const command = lo & ~ICR_BUSY;
    if (!era.icrTracedAfterSend) {
      this.trace?.apic(vcpu, true, APIC_ICR2, hi, 0);
      this.trace?.apic(vcpu, true, APIC_ICR, lo, 0);
    }
    this.trace?.ipi(vcpu, command, hi);
    lapic.writeX2Icr(lo, hi);
    this.router.route(lapic, command, hi);
    if (era.icrTracedAfterSend) this.trace?.apic(vcpu, true, APIC_ICR, command, hi);
    return true;
  }

  /** Any other APIC register, by MSR or MMIO. False: refused. */
  private writeApicRegister(vcpu: KvmVcpu, offset: number, value: number): boolean {
    const { lapic } = vcpu;
    this.trace?.apic(vcpu, true, offset, value, 0);
    const effect = lapic.write(offset, value);
    if ((effect & WRITE_FAULT) !== 0) reach(AT_X2APIC_WRITE_REFUSED);
    if ((effect & WRITE_FAULT) !== 0) return false;
    if ((effect & WRITE_MAP) !== 0) this.mapChanged();
    if ((effect & WRITE_EOI) !== 0) this.endOfInterrupt(vcpu, lapic.eoiVector);
    if ((effect & WRITE_SEND) !== 0) {
      const { icrLow, dest } = lapic.message;
      if (offset === APIC_SELF_IPI && this.era.selfIpiThroughIcr) this.trace?.apic(vcpu, true, APIC_ICR, icrLow, 0);
      this.trace?.ipi(vcpu, icrLow, dest);
      this.router.route(lapic, icrLow, dest);
    }
    return true;
  }

  /** A local APIC has ended an interrupt: whoever sent a level-triggered one wants to know (kvm_ioapic_send_eoi). */
  private endOfInterrupt(vcpu: KvmVcpu, vector: number): void {
    this.trace?.eoi(vcpu, vector);
    if (vector >= 0 && this.irqchip?.ioapic.handles(vector))
      this.irqchip.ioapic.eoi(vector, vcpu.lapic.isLevel(vector));
  }

  private readX2apic(vcpu: KvmVcpu, msr: number): boolean {
    const { lapic } = vcpu;
    const offset = (msr - X2APIC_MSR_FIRST) << 4;
    if (!lapic.readable(offset)) reach(AT_X2APIC_READ_REFUSED);
    if (!lapic.x2apic || !lapic.readable(offset)) return false;
    this.dataLo = lapic.read(offset);
    this.dataHi = 0;
    if (offset === APIC_ICR) {
      this.dataHi = lapic.read(APIC_ICR2);
      if (this.era.icrTracedAfterSend) return true;
    }
    this.trace?.apic(vcpu, false, offset, this.dataLo, 0);
    if (offset === APIC_ICR) this.trace?.apic(vcpu, false, APIC_ICR2, this.dataHi, 0);
    return true;
  }

  // ---- messages ----

  apicMap(): ApicMap | null {
    return this.router.apicMap();
  }

  private mapChanged(): void {
    this.router.invalidateMap();
    this.assist?.recalculate();
  }

  /** Gives one message to one APIC, traces it and kicks the target. Returns 1 if it was accepted. */
  deliver(target: Lapic, message: number): number {
    this.messages++;
    if (this.plain !== true) return this.deliverSpecially(target, message);
    if (target.accept(message) === 0) return 0;
    this.kick(this.vcpus[target.index]);
    return 1;
  }

  private deliverSpecially(target: Lapic, message: number): number {
    const { assist } = this;
    // A host call has no vCPU thread: the event names the target.
    this.trace?.accept(this.running?.index ?? target.index, target, message);
    const mode = (message & ICR_MODE) >> ICR_MODE_SHIFT;
    if (assist?.active && mode <= MODE_LOWEST) return this.post(assist, target, message);
    if (target.accept(message) === 0) return 0;
    this.kick(this.vcpus[target.index]);
    return 1;
  }

  /** Delivery with hardware help: a sleeper wakes, a vCPU in the guest takes the interrupt without leaving it. */
  private post(assist: HardwareApic, target: Lapic, message: number): number {
    const thread = this.running?.index ?? target.index;
    const accepted = assist.accept(target, thread, message);
    const vcpu = this.vcpus[target.index];
    this.stir(vcpu);
    if (accepted !== 0 && vcpu.blocked) this.wakeUp(vcpu);
    return accepted;
  }

  setIrq(vcpu: KvmVcpu, vector: number): void {
    this.deliver(vcpu.lapic, vector);
  }

  deliverWithoutSource(mode: number, dest: number): void {
    this.router.route(null, mode << ICR_MODE_SHIFT, dest);
  }

  /** kvm_vcpu_kick: wake a sleeper, or make a vCPU in the guest leave it. */
  private kick(target: KvmVcpu): void {
    if (target.blocked === true) this.wakeUp(target);
    else this.kickOut(target);
  }

  private stir({ index }: KvmVcpu): void {
    this.stirred[index >> 5] |= 1 << (index & 31);
  }

  private wakeUp(target: KvmVcpu): void {
    target.stat.halt_wakeup++;
    this.wake(target);
  }

  private kickOut(target: KvmVcpu): void {
    if (target.mp !== MP_RUNNABLE) this.stir(target);
    if (target.mode === IN_GUEST && target !== this.running) target.mode = EXITING_GUEST;
  }

  /** If nothing a sleeper got may end its sleep, it goes back to sleep at once. */
  private wake(vcpu: KvmVcpu): void {
    vcpu.blocked = !vcpu.runnable;
    if (vcpu.blocked) return;
    this.stir(vcpu);
    vcpu.pv.readySince = this.clock.now;
  }

  // ---- other exits ----

  private hlt(vcpu: KvmVcpu): number {
    this.leave(vcpu, EXIT_HLT);
    vcpu.stat.halt_exits++;
    this.skip(vcpu);
    // Without a local APIC in the kernel user space does the waiting.
    if (!this.inKernelApic) this.trace?.userspaceExit(vcpu, 'KVM_EXIT_HLT');
    reach(vcpu.hasEvents ? AT_HALT_PASSES : AT_HALT_SLEEPS);
    if (vcpu.hasEvents) vcpu.lapic.pvUnhalted = false;
    else vcpu.mp = MP_HALTED;
    return NEXT;
  }

  private cpuid(vcpu: KvmVcpu): number {
    const { state, lapic } = vcpu;
    this.leave(vcpu, EXIT_CPUID);
    const func = state.lo(R_RAX) | 0;
    const index = state.lo(R_RCX) | 0;
    const cr4 = state.lo(R_CR4);
    const shown =
      (lapic.hwEnabled ? CPUID_APIC_ENABLED : 0) |
      ((cr4 & CR4_OSXSAVE) !== 0 ? CPUID_OSXSAVE : 0) |
      ((cr4 & CR4_PKE) !== 0 ? CPUID_OSPKE : 0);
    const leaf = this.cpuidCache.leaf(func, index, vcpu.apicId, shown, state.lo(R_XCR0));
    state.set(R_RAX, leaf.eax, 0);
    state.set(R_RBX, leaf.ebx, 0);
    state.set(R_RCX, leaf.ecx, 0);
    state.set(R_RDX, leaf.edx, 0);
    this.trace?.emit({ event: 'kvm_cpuid', vcpu: vcpu.index, func: func >>> 0, index: index >>> 0, ...leaf });
    return this.skipReenter(vcpu);
  }

  private io(vcpu: KvmVcpu, exit: IoExit): number {
    if (this.trace === null) this.leave(vcpu, EXIT_IO);
    else this.leaveWith(vcpu, EXIT_IO, this.ioQualification(exit), 0n, 0);
    return this.accessPort(vcpu, exit);
  }

  /** VMX exit qualification (SDM vol. 3, table 28-5); SVM EXITINFO1 (APM vol. 2, 15.10.2). */
  private ioQualification({ port, size, direction, string }: IoExit): bigint {
    const input = direction === 'in';
    const vmx = (size - 1) | (input ? 8 : 0) | (string ? 16 : 0);
    const svm = (input ? 1 : 0) | (string ? 4 : 0) | (size << 4);
    return BigInt(this.vendor === 'intel' ? vmx : svm) | (BigInt(port) << 16n);
  }

  /** KVM_EXIT_IO. */
  private accessPort(vcpu: KvmVcpu, exit: IoExit): number {
    const { port, size, direction, value } = exit;
    if (direction === 'out') this.trace?.port(vcpu, true, port, size, value);
    if (this.irqchip?.handlesPort(port)) return this.portInKernel(vcpu, this.irqchip, exit);
    vcpu.io.direction = direction;
    vcpu.io.port = port;
    vcpu.io.size = size;
    vcpu.io.value = value;
    vcpu.ioString = exit.string;
    vcpu.finishing = false;
    vcpu.completion = COMPLETE_IO;
    return this.toUser(vcpu, vcpu.io, 'KVM_EXIT_IO');
  }

  /** A port of a device in the kernel: no exit to user space. */
  private portInKernel(vcpu: KvmVcpu, irqchip: Irqchip, exit: IoExit): number {
    const { port, size, direction, string } = exit;
    const input = direction === 'in';
    if (!input) irqchip.writePort(port, exit.value);
    const value = input ? irqchip.readPort(port) : 0;
    vcpu.state.completeIo(value);
    if (input) this.trace?.port(vcpu, false, port, size, value);
    vcpu.finishing = string;
    if (!string) this.singleStep(vcpu);
    return NEXT;
  }

  private mmio(vcpu: KvmVcpu, exit: MmioExit): number {
    if (this.assist?.active) {
      const next = this.assist.mmio(vcpu, exit);
      if (next !== NOT_HANDLED) return next;
    }
    this.leaveNestedPageFault(vcpu, gpaOf(exit), exit.direction === 'write');
    return this.accessMemory(vcpu, exit);
  }

  private leaveNestedPageFault(vcpu: KvmVcpu, gpa: bigint, write: boolean): void {
    // VMX exit qualification (SDM vol. 3, table 28-7); SVM EXITINFO1 is a page-fault error code (APM vol. 2, 15.25.6).
    if (this.vendor === 'intel') this.leaveWith(vcpu, EXIT_NESTED_PAGE_FAULT, write ? 0x182n : 0x181n, 0n, 0);
    else this.leaveWith(vcpu, EXIT_NESTED_PAGE_FAULT, write ? 0x1_0000_0006n : 0x1_0000_0004n, gpa, 0);
  }

  /** The APIC page, or KVM_EXIT_MMIO. */
  private accessMemory(vcpu: KvmVcpu, exit: MmioExit): number {
    const { size, direction } = exit;
    const write = direction === 'write';
    const gpa = gpaOf(exit);
    let value = join64(exit.valueLo, exit.valueHi);
    const inApicPage = this.inApicPage(vcpu, exit.gpaLo, exit.gpaHi);
    const inIoApic = !inApicPage && this.irqchip !== null && Irqchip.handlesMemory(exit.gpaLo, exit.gpaHi);
    const inKernel = inApicPage || inIoApic;
    if (inApicPage) this.apicPage(vcpu, exit.gpaLo & APIC_PAGE, exit);
    else if (inIoApic) this.ioapicPage(vcpu, this.irqchip as Irqchip, exit);
    if (inKernel && !write) value = join64(this.dataLo, this.dataHi);
    if (inKernel || write) this.trace?.memory(vcpu, write, gpa, size, value);
    vcpu.finishing = inKernel;
    if (inKernel) return NEXT;
    vcpu.completion = COMPLETE_MMIO;
    return this.toUser(vcpu, { kind: 'mmio', direction, gpa, size, value }, 'KVM_EXIT_MMIO');
  }

  /** Whether KVM answers an access to this guest-physical address itself. */
  private inApicPage(vcpu: KvmVcpu, gpaLo: number, gpaHi: number): boolean {
    const { lapic } = vcpu;
    if (((lapic.baseLo ^ gpaLo) & ~APIC_PAGE) !== 0 || lapic.baseHi !== gpaHi) return false;
    const usable = lapic.hwEnabled && !lapic.x2apic;
    if (!this.inKernelApic) return false;
    return usable || (this.disabledQuirks & QUIRK_LAPIC_MMIO_HOLE) === 0;
  }

  /**
   * An access to the APIC page (apic_mmio_read, apic_mmio_write). MMIO never faults: what is not allowed has no effect.
   */
  private apicPage(vcpu: KvmVcpu, offset: number, exit: MmioExit): void {
    const { lapic, state } = vcpu;
    const usable = lapic.hwEnabled && !lapic.x2apic;
    if (exit.direction === 'write') {
      // Outside xAPIC mode the page is a hole.
      if (usable && exit.size === 4 && (offset & 0xf) === 0) this.writeApicRegister(vcpu, offset, exit.valueLo >>> 0);
      state.completeMmio(0, 0);
      return;
    }
    this.dataLo = usable ? this.readApicPage(vcpu, offset, exit.size) : 0xffffffff;
    this.dataHi = usable || exit.size < 8 ? 0 : 0xffffffff;
    state.completeMmio(this.dataLo, this.dataHi);
  }

  private ioapicPage(vcpu: KvmVcpu, { ioapic }: Irqchip, exit: MmioExit): void {
    const offset = exit.gpaLo & APIC_PAGE;
    this.dataLo = 0;
    this.dataHi = 0;
    if (exit.direction === 'write') ioapic.write(offset, exit.size, exit.valueLo);
    else this.dataLo = ioapic.read(offset, exit.size);
    vcpu.state.completeMmio(this.dataLo, 0);
  }

  /** 1, 2 or 4 bytes within the first four of a 16-byte slot; anything else reads 0. */
  private readApicPage(vcpu: KvmVcpu, offset: number, size: number): number {
    const register = offset & ~0xf;
    const byte = offset & 0xf;
    if (byte + size > 4 || !vcpu.lapic.readable(register)) return 0;
    const value = vcpu.lapic.read(register);
    this.trace?.apic(vcpu, false, register, value, 0);
    const shifted = value >>> (byte * 8);
    return size === 4 ? shifted : shifted & ((1 << (size * 8)) - 1);
  }

  /**
   * MOV to or from CR8. The hardware does it without an exit (TPR shadow, V_TPR) except when the write may unmask an
   * interrupt: below Intel's TPR threshold, or at any write while AMD's intercept waits for it.
   */
  private cr8(vcpu: KvmVcpu, exit: Cr8Exit): number {
    const { state, lapic } = vcpu;
    if (this.costs !== null) this.clock.advance(this.costs.cr8);
    if (exit.direction === 'read') {
      state.set(exit.gpr, lapic.tpr >>> 4, 0);
      return this.skipSilently(vcpu);
    }
    if ((exit.valueLo & ~0xf) !== 0 || exit.valueHi !== 0) {
      this.inject(vcpu, (INFO_EXCEPTION | INFO_ERROR_CODE | VECTOR_GP) >>> 0, 0);
      return RESUME;
    }
    const level = exit.valueLo & 0xf;
    const threshold = vcpu.tprThreshold;
    const intel = this.vendor === 'intel';
    if (threshold === 0 || (intel && level >= threshold)) {
      if (this.assist?.active) this.assist.writeTpr(lapic, level << 4);
      else lapic.writeTpr(level << 4);
      return this.skipSilently(vcpu);
    }
    if (intel) this.skip(vcpu);
    this.leave(vcpu, EXIT_TPR_BELOW_THRESHOLD);
    if (!intel) {
      this.trace?.emit({ event: 'kvm_cr', vcpu: vcpu.index, write: true, cr: 8, value: BigInt(level) });
      this.skip(vcpu);
    }
    lapic.writeTpr(level << 4);
    lapic.requestEvent = true;
    return NEXT;
  }

  /** Advances RIP for what is no exit to KVM; something to evaluate still needs a new entry. */
  private skipSilently(vcpu: KvmVcpu): number {
    this.skip(vcpu);
    if (!vcpu.lapic.requestEvent) return RESUME;
    vcpu.mode = OUTSIDE_GUEST;
    return NEXT;
  }

  /** A hint to the scheduler only: the vCPU stays in the guest. */
  private pause(vcpu: KvmVcpu): number {
    this.skipSilently(vcpu);
    this.result = YIELD;
    return RETURN;
  }

  private monitorMwait(vcpu: KvmVcpu, kind: number): number {
    this.leave(vcpu, kind);
    if (this.era.mwaitQuirk && (this.disabledQuirks & QUIRK_MWAIT_NEVER_UD) !== 0) {
      this.queueException(vcpu, VECTOR_UD);
      return NEXT;
    }
    return this.skipNext(vcpu);
  }

  /** __kvm_set_xcr: x87 state cannot be disabled, and there is no other than x87, SSE and PKRU. */
  private xsetbv(vcpu: KvmVcpu): number {
    const { state } = vcpu;
    this.leave(vcpu, EXIT_XSETBV);
    const value = state.lo(R_RAX);
    const valid = state.lo(R_RDX) === 0 && (value & ~XCR0_SUPPORTED) === 0 && (value & XCR0_X87) !== 0;
    if (state.cpl !== 0 || state.lo(R_RCX) !== 0 || !valid) {
      this.queueException(vcpu, VECTOR_GP, 0);
      return NEXT;
    }
    state.set(R_XCR0, value, 0);
    return this.skipNext(vcpu);
  }

  /** KVM_EXIT_INTERNAL_ERROR; in the middle of a delivery KVM's suberror is DELIVERY_EV. */
  private internal(vcpu: KvmVcpu, exit: InternalExit): number {
    const address = join64(exit.addressLo, exit.addressHi).toString(16);
    const { vectoring } = vcpu.state;
    const during = vectoring === 0 ? '' : ` while vector ${vectoring & 0xff} was being delivered`;
    return this.unexpected(vcpu, `${exit.what} (address 0x${address})${during}`);
  }

  private unexpected(vcpu: KvmVcpu, detail: string): number {
    vcpu.mode = OUTSIDE_GUEST;
    return this.toUser(vcpu, { kind: 'internal-error', detail }, 'KVM_EXIT_INTERNAL_ERROR');
  }

  // ---- #UD and the other vendor's hypercall ----

  private exception(vcpu: KvmVcpu, exit: ExceptionExit): number {
    if (exit.vector === VECTOR_UD) return this.invalidOpcode(vcpu);
    this.leaveException(vcpu, exit.vector);
    if (exit.vector === VECTOR_PF) vcpu.state.set(R_CR2, exit.addressLo, exit.addressHi);
    this.queueException(vcpu, exit.vector, exit.hasErrorCode ? exit.errorCode : -1);
    return NEXT;
  }

  private leaveException(vcpu: KvmVcpu, vector: number): void {
    const info = this.vendor === 'intel' ? (INFO_EXCEPTION | vector) >>> 0 : 0;
    this.leaveWith(vcpu, EXIT_EXCEPTION, 0n, 0n, info);
  }

  /**
   * handle_ud: the emulator knows the other vendor's hypercall instruction and overwrites it with the native one at
   * RIP, taken as a linear address; RIP stays, so that the guest executes it again. Everything else is a #UD of the
   * guest.
   */
  private invalidOpcode(vcpu: KvmVcpu): number {
    this.leaveException(vcpu, VECTOR_UD);
    const opcode = this.hypercallOpcode(vcpu);
    if (opcode < 0) this.queueException(vcpu, VECTOR_UD);
    else this.fixHypercall(vcpu, opcode);
    return NEXT;
  }

  private fixHypercall(vcpu: KvmVcpu, opcode: number): void {
    const { state } = vcpu;
    if (opcode === SVM_HYPERCALL[2]) {
      // VMMCALL exists in protected mode only.
      const virtual8086 = (state.lo(R_RFLAGS) & RFLAGS_VM) !== 0;
      if ((state.lo(R_CR0) & CR0_PE) === 0 || virtual8086) {
        this.queueException(vcpu, VECTOR_UD);
        return;
      }
    } else if (state.cpl !== 0) {
      this.queueException(vcpu, VECTOR_GP, 0);
      return;
    }
    if (this.era.fixHypercallQuirk && (this.disabledQuirks & QUIRK_FIX_HYPERCALL_INSN) !== 0) {
      this.queueException(vcpu, VECTOR_UD);
      return;
    }
    const rip = state.get(R_RIP);
    const fault = state.writeLinear(rip, this.nativeHypercall);
    if (fault !== null) {
      if (fault.vector === VECTOR_PF) state.put(R_CR2, fault.address);
      const hasError = ((WITH_ERROR_CODE >>> fault.vector) & 1) === 1;
      this.queueException(vcpu, fault.vector, hasError ? fault.errorCode : -1);
      return;
    }
    // The three bytes may lie in two pages.
    for (const offset of [0n, 2n]) {
      const address = state.translate(rip + offset);
      if (address >= 0) this.cpu.memoryWritten(address, 1);
    }
  }

  /** Third byte of the other vendor's hypercall if that is what RIP points at, else -1. */
  private hypercallOpcode(vcpu: KvmVcpu): number {
    const { state } = vcpu;
    const long = state.is64bit;
    const foreign = this.vendor === 'intel' ? SVM_HYPERCALL : VMX_HYPERCALL;
    const base = long ? 0n : state.get(R_BASE + SEG_CS);
    const rip = state.get(R_RIP);
    const byteAt = (offset: number): number => {
      const linear = BigInt.asUintN(long ? 64 : 32, base + rip + BigInt(offset));
      const address = state.translate(linear);
      return address >= 0 && address < this.cpu.memory.length ? this.cpu.memory[address] : -1;
    };
    let at = 0;
    while (at < 12 && isPrefix(byteAt(at), long)) at++;
    const isForeign = foreign.every((byte, i) => byteAt(at + i) === byte);
    return isForeign ? foreign[2] : -1;
  }
}

const gpaOf = (exit: MmioExit): bigint => join64(exit.gpaLo, exit.gpaHi);

/** The CR4 bits that come with features (__cr4_reserved_bits). */
const CR4_BITS: ReadonlyMap<string, number> = new Map([
  ['umip', 11],
  ['la57', 12],
  ['fsgsbase', 16],
  ['pcid', 17],
  ['xsave', 18],
  ['smep', 20],
  ['smap', 21],
  ['pku', 22],
]);

/** Makes #GP of the CR4 bits and #UD of the instructions that belong to hidden features. */
function hideFrom(state: CpuState, hidden: readonly Feature[]): void {
  let cr4 = 0;
  for (const { name } of hidden) if (CR4_BITS.has(name)) cr4 |= 1 << (CR4_BITS.get(name) as number);
  state.set(S_HIDDEN, cr4, hidden.some(({ name }) => name === 'invpcid') ? HIDDEN_INVPCID : 0);
}

function hiddenFeatures(names: readonly string[]): readonly Feature[] {
  const found = findFeatures(names);
  if (typeof found !== 'string') return found;
  throw new KvmscopeError('usage', `unknown processor feature "${found}"; kvmscope cpu lists those there are`);
}

/** vcpu_ids in index order, checked against the era's limit. */
function checkedIds(ids: readonly number[] | undefined, count: number, era: Era): readonly number[] {
  const list = ids ?? Array.from({ length: count }, (_, index) => index);
  if (list.length !== count) {
    throw new KvmscopeError('usage', `${list.length} APIC ids for ${count} vCPUs; give one id per vCPU`);
  }
  const seen = new Set<number>();
  for (const id of list) {
    if (!Number.isInteger(id) || id < 0 || id > era.maxVcpuId) {
      throw new KvmscopeError('usage', `APIC id ${id} is not in 0 … ${era.maxVcpuId}, the range of KVM ${era.name}`);
    }
    if (seen.has(id)) throw new KvmscopeError('usage', `APIC id ${id} is given twice; ids must differ`);
    seen.add(id);
  }
  return list;
}
