/**
 * Asynchronous page faults: the host tells the guest that a page is being fetched ("not present", with a token) and later
 * that it is there ("ready"), so that the guest can run another task meanwhile (kvm_arch_async_page_not_present,
 * kvm_arch_async_page_present; msr.rst). This project's RAM is always there: events happen only when the host asks for
 * them (`Kvm.asyncPageNotPresent`, `Kvm.asyncPageReady`), except the wake-up of all tasks, token 0xFFFFFFFF, that KVM
 * sends when the guest enables the interface.
 *
 * Until v5.7 both events are page faults with the token in CR2, told apart by a 32-bit reason in guest memory. Since
 * v5.8 "not present" is such a page fault, and "ready" is an interrupt, with the token in the second 32 bits; it waits
 * for the guest to clear them and to acknowledge the last one.
 */
import { R_CR2 } from '../cpu/core/layout.ts';
import { PV_ASYNC_PF_INT, PV_ASYNC_PF_VMEXIT } from './cpuid.ts';
import { ramAddress, readGuest32, writeGuest32 } from './guest-memory.ts';
import { PV_ENABLED, type PvContext, pvAllowed, REQ_APF_READY } from './pv-state.ts';
import { type KvmVcpu, MP_APF_HALTED, MP_HALTED, MP_RUNNABLE } from './vcpu.ts';

// MSR KVM_ASYNC_PF_EN.
const SEND_ALWAYS = 1n << 1n;
const DELIVERY_AS_PF_VMEXIT = 1n << 2n;
const DELIVERY_AS_INT = 1n << 3n;
const ADDRESS = ~0x3fn;

// struct kvm_vcpu_pv_apf_data.
const REASON = 0;
const TOKEN = 4;
const REASON_NOT_PRESENT = 1;
const REASON_READY = 2;

const VECTOR_PF = 14;
/** Wakes every task of the guest. */
export const TOKEN_ALL = 0xffffffff;

/**
 * What became of a page that is not there. `injected`: the guest knows. `halted`: it cannot be told, the vCPU sleeps
 * until the page or an interrupt comes. `synchronous`: it cannot be told now at all, the host fetches the page itself.
 */
export type AsyncPageFault = 'injected' | 'halted' | 'synchronous';

/** kvm_pv_async_pf_enabled. */
const enabled = (kvm: PvContext, value: bigint): boolean => {
  const mask = kvm.era.pvAsyncPfInt ? PV_ENABLED | DELIVERY_AS_INT : PV_ENABLED;
  return (value & mask) === mask;
};

/** Write of KVM_ASYNC_PF_EN; false: #GP. */
export function writeAsyncPf(kvm: PvContext, vcpu: KvmVcpu, value: bigint): boolean {
  const { era } = kvm;
  // Bit 3 got its meaning with the interrupt.
  if ((value & (era.pvAsyncPfInt ? 0x30n : 0x38n)) !== 0n) return false;
  if (era.pvEnforcement) {
    if ((value & DELIVERY_AS_PF_VMEXIT) !== 0n && !pvAllowed(kvm, PV_ASYNC_PF_VMEXIT)) return false;
    if ((value & DELIVERY_AS_INT) !== 0n && !pvAllowed(kvm, PV_ASYNC_PF_INT)) return false;
  }
  const { pv } = vcpu;
  pv.asyncPf = value;
  pv.apfAddress = -1;
  if (!enabled(kvm, value)) {
    pv.pagesReady.length = 0;
    pv.pagesMissing.clear();
    return true;
  }
  const address = ramAddress(kvm.cpu, value & ADDRESS, era.pvAsyncPfInt ? 8 : 4);
  if (address < 0) return false;
  pv.apfAddress = address;
  // Tasks that wait since before a migration.
  if (pv.pagesReady.length === 0) queueReady(vcpu, TOKEN_ALL);
  return true;
}

/** Write of KVM_ASYNC_PF_INT; false: #GP. */
export function writeAsyncPfVector(vcpu: KvmVcpu, value: bigint): boolean {
  if (value > 0xffn) return false;
  vcpu.pv.asyncPfVector = Number(value);
  return true;
}

/** Write of KVM_ASYNC_PF_ACK: with bit 0 the guest is ready for the next token. */
export function writeAsyncPfAck(kvm: PvContext, vcpu: KvmVcpu, value: bigint): void {
  if ((value & 1n) === 0n) return;
  vcpu.pv.pageReadyPending = false;
  deliverReady(kvm, vcpu);
}

/** kvm_can_do_async_pf: whether an event could be injected now. */
const canInject = (vcpu: KvmVcpu): boolean =>
  vcpu.exceptionVector < 0 && vcpu.state.injected === 0 && vcpu.interruptAllowed;

function pageFault(kvm: PvContext, vcpu: KvmVcpu, token: number): void {
  vcpu.state.set(R_CR2, token, 0);
  kvm.queueException(vcpu, VECTOR_PF, 0);
}

/** A page the guest wants is not there. */
export function pageNotPresent(kvm: PvContext, vcpu: KvmVcpu, token: number): AsyncPageFault {
  const { pv, state } = vcpu;
  if (!canInject(vcpu)) return 'synchronous';
  kvm.trace?.emit({ event: 'kvm_async_pf_not_present', vcpu: vcpu.index, token, gva: BigInt(token) });
  const toKernel = (pv.asyncPf & SEND_ALWAYS) !== 0n;
  if (pv.apfAddress < 0 || (!toKernel && state.cpl === 0)) {
    vcpu.mp = MP_APF_HALTED;
    return 'halted';
  }
  writeGuest32(kvm.cpu, pv.apfAddress + REASON, REASON_NOT_PRESENT);
  pv.pagesMissing.add(token);
  pageFault(kvm, vcpu, token);
  return 'injected';
}

/** The page of `token` is there. */
export function queueReady(vcpu: KvmVcpu, token: number): void {
  vcpu.pv.pagesReady.push(token);
  vcpu.pv.requests |= REQ_APF_READY;
}

/** kvm_check_async_pf_completion: delivers what is ready, as far as the guest takes it. */
export function deliverReady(kvm: PvContext, vcpu: KvmVcpu): void {
  const { pv, lapic } = vcpu;
  for (;;) {
    const token = pv.pagesReady[0];
    if (token === undefined) return;
    if (pv.apfAddress >= 0) {
      if (!kvm.era.pvAsyncPfInt) {
        if (!canInject(vcpu)) {
          // Asked again before every entry.
          pv.requests |= REQ_APF_READY;
          return;
        }
      } else if (!lapic.hwEnabled || !lapic.swEnabled || readGuest32(kvm.cpu, pv.apfAddress + TOKEN) !== 0) return;
    }
    pv.pagesReady.shift();
    kvm.trace?.emit({ event: 'kvm_async_pf_ready', vcpu: vcpu.index, token, gva: BigInt(token) });
    const known = pv.pagesMissing.delete(token) || token === TOKEN_ALL;
    if (pv.apfAddress >= 0 && (known || !kvm.era.pvAsyncPfInt)) tellReady(kvm, vcpu, token);
    if (vcpu.mp === MP_APF_HALTED || vcpu.mp === MP_HALTED) vcpu.setMp(MP_RUNNABLE);
    if (vcpu.mp === MP_RUNNABLE) vcpu.blocked = false;
  }
}

function tellReady(kvm: PvContext, vcpu: KvmVcpu, token: number): void {
  const { pv } = vcpu;
  if (kvm.era.pvAsyncPfInt) {
    writeGuest32(kvm.cpu, pv.apfAddress + TOKEN, token);
    pv.pageReadyPending = true;
    kvm.setIrq(vcpu, pv.asyncPfVector);
    return;
  }
  writeGuest32(kvm.cpu, pv.apfAddress + REASON, REASON_READY);
  pageFault(kvm, vcpu, token);
}
