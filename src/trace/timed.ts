/** A trace with its clock: what every trace file is made from. A `RunResult` is one. */
import type { KvmTraceEvent } from '../kvm/trace.ts';
import type { TraceDialect } from './ftrace.ts';

export interface TimedTrace extends TraceDialect {
  readonly trace: readonly KvmTraceEvent[];
  /** Virtual time of each event in nanoseconds, strictly increasing. */
  readonly times: readonly number[];
  readonly vcpus: readonly { readonly apicId: number }[];
}

/** Thread group of the virtual machine in traces. */
export const VM_PID = 999;
/** Thread id of vCPU 0 in traces; vCPU n has FIRST_TID + n. */
const FIRST_TID = 1000;

/** Thread id of a vCPU. */
export const vcpuTid = (vcpu: number): number => FIRST_TID + vcpu;
/** Thread name of a vCPU, as QEMU gives it. */
export const vcpuComm = (vcpu: number): string => `CPU ${vcpu}/KVM`;
