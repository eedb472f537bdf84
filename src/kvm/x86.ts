/** `struct kvm` and the vCPU run loop. Signatures; the body follows. */
import type { Cpu } from '../cpu/cpu.ts';
import type { Era } from './eras.ts';
import type { KvmOptions, VcpuRunResult } from './types.ts';
import type { KvmVcpu } from './vcpu.ts';

export declare class Kvm {
  /**
   * Creates the VM on `options.cpu` and resets every vCPU (registers, LAPIC): write the boot state afterwards.
   * vCPU id 0 is the BSP and RUNNABLE, the others are UNINITIALIZED. Throws KvmscopeError('usage').
   */
  constructor(options: KvmOptions);
  readonly era: Era;
  readonly cpu: Cpu;
  readonly vcpus: readonly KvmVcpu[];
  /** KVM_RUN; the result is reused by the next call. */
  run(index: number, budget: number): VcpuRunResult;
  completeIo(index: number, value: number): void;
  completeMmio(index: number, value: bigint): void;
  completeHypercall(index: number, ret: bigint): void;
  isRunnable(index: number): boolean;
  /** KVM_SET_MSRS; false where the guest would get #GP. */
  setMsr(index: number, msr: number, value: bigint, hostInitiated?: boolean): boolean;
  getMsr(index: number, msr: number): bigint | undefined;
}
