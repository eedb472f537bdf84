/**
 * Names of VM-exit reasons as they stand in KVM's kvm_exit trace line: VMX_EXIT_REASONS of arch/x86/include/uapi/asm/vmx.h and
 * SVM_EXIT_REASONS of arch/x86/include/uapi/asm/svm.h, for the reasons a single-level guest can cause.
 */
import type { Vendor } from '../kvm/types.ts';

const VMX: ReadonlyMap<number, string> = new Map([
  [0, 'EXCEPTION_NMI'],
  [1, 'EXTERNAL_INTERRUPT'],
  [2, 'TRIPLE_FAULT'],
  [3, 'INIT_SIGNAL'],
  [4, 'SIPI_SIGNAL'],
  [7, 'INTERRUPT_WINDOW'],
  [8, 'NMI_WINDOW'],
  [9, 'TASK_SWITCH'],
  [10, 'CPUID'],
  [12, 'HLT'],
  [13, 'INVD'],
  [14, 'INVLPG'],
  [15, 'RDPMC'],
  [16, 'RDTSC'],
  [18, 'VMCALL'],
  [28, 'CR_ACCESS'],
  [29, 'DR_ACCESS'],
  [30, 'IO_INSTRUCTION'],
  [31, 'MSR_READ'],
  [32, 'MSR_WRITE'],
  [33, 'INVALID_STATE'],
  [34, 'MSR_LOAD_FAIL'],
  [36, 'MWAIT_INSTRUCTION'],
  [37, 'MONITOR_TRAP_FLAG'],
  [39, 'MONITOR_INSTRUCTION'],
  [40, 'PAUSE_INSTRUCTION'],
  [41, 'MCE_DURING_VMENTRY'],
  [43, 'TPR_BELOW_THRESHOLD'],
  [44, 'APIC_ACCESS'],
  [45, 'EOI_INDUCED'],
  [46, 'GDTR_IDTR'],
  [47, 'LDTR_TR'],
  [48, 'EPT_VIOLATION'],
  [49, 'EPT_MISCONFIG'],
  [51, 'RDTSCP'],
  [52, 'PREEMPTION_TIMER'],
  [54, 'WBINVD'],
  [55, 'XSETBV'],
  [56, 'APIC_WRITE'],
  [84, 'MSR_READ_IMM'],
  [85, 'MSR_WRITE_IMM'],
]);

/** Exception vectors as SVM names their intercepts: exit code 0x40 + vector. */
const SVM_EXCEPTIONS = new Map([
  [0, 'DE'],
  [1, 'DB'],
  [3, 'BP'],
  [4, 'OF'],
  [5, 'BR'],
  [6, 'UD'],
  [7, 'NM'],
  [8, 'DF'],
  [10, 'TS'],
  [11, 'NP'],
  [12, 'SS'],
  [13, 'GP'],
  [14, 'PF'],
  [16, 'MF'],
  [17, 'AC'],
  [18, 'MC'],
]);

const SVM: ReadonlyMap<number, string> = new Map([
  [0x000, 'read_cr0'],
  [0x003, 'read_cr3'],
  [0x004, 'read_cr4'],
  [0x008, 'read_cr8'],
  [0x010, 'write_cr0'],
  [0x013, 'write_cr3'],
  [0x014, 'write_cr4'],
  [0x018, 'write_cr8'],
  ...[...SVM_EXCEPTIONS].map(([vector, name]) => [0x40 + vector, `${name} excp`] as [number, string]),
  [0x060, 'interrupt'],
  [0x061, 'nmi'],
  [0x062, 'smi'],
  [0x063, 'init'],
  [0x064, 'vintr'],
  [0x065, 'cr0_sel_write'],
  [0x06e, 'rdtsc'],
  [0x06f, 'rdpmc'],
  [0x072, 'cpuid'],
  [0x073, 'rsm'],
  [0x074, 'iret'],
  [0x076, 'invd'],
  [0x077, 'pause'],
  [0x078, 'hlt'],
  [0x079, 'invlpg'],
  [0x07b, 'io'],
  [0x07c, 'msr'],
  [0x07d, 'task_switch'],
  [0x07f, 'shutdown'],
  [0x080, 'vmrun'],
  [0x081, 'hypercall'],
  [0x087, 'rdtscp'],
  [0x089, 'wbinvd'],
  [0x08a, 'monitor'],
  [0x08b, 'mwait'],
  [0x08d, 'xsetbv'],
  [0x400, 'npf'],
  [0x401, 'avic_incomplete_ipi'],
  [0x402, 'avic_unaccelerated_access'],
]);

/** VMX basic reason 7 was called PENDING_INTERRUPT until v5.5 (renamed by 9dadc2f918df). */
const RENAMED_IN_5_6 = 7;

/** All numbers and names of one vendor, as the kernel's table has them. */
export function exitReasonTable(vendor: Vendor, kernel: number): [number, string][] {
  const reasons = [...(vendor === 'intel' ? VMX : SVM).keys()];
  return reasons.map((reason) => [reason, exitReasonName(vendor, reason, kernel)]);
}

/**
 * The name KVM prints for `reason` (a VMX basic exit reason or an SVM exit code); like __print_symbolic, `0x<hex>` if it has none.
 * @param kernel version as {@link kernelVersion} numbers it
 */
export function exitReasonName(vendor: Vendor, reason: number, kernel: number): string {
  if (vendor === 'intel' && reason === RENAMED_IN_5_6 && kernel < 5_006) return 'PENDING_INTERRUPT';
  return (vendor === 'intel' ? VMX : SVM).get(reason) ?? `0x${reason.toString(16)}`;
}

/** An era's kernel version as one number to compare: '6.18' → 6018, '4.19-rc1' → 4019. */
export function kernelVersion(era: string): number {
  const match = /^(\d+)\.(\d+)/.exec(era);
  return match ? Number(match[1]) * 1000 + Number(match[2]) : Number.MAX_SAFE_INTEGER;
}
