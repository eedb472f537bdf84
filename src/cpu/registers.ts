/**
 * The one register table: every register of a virtual CPU, its id and its width in bits.
 * An id is the register's slot in the core's state block (`core/layout.ts`), the first of two for one wider than 64 bits; every engine
 * uses the same ids. ST(i) is the physical x87 register that TOP + i names now.
 */
import * as L from './core/layout.ts';

export interface RegisterInfo {
  readonly name: string;
  /** Slot in the state block, or L.R_ST + i. */
  readonly id: number;
  /** Width in bits as a user sees it. */
  readonly bits: 8 | 16 | 32 | 64 | 80 | 128;
  readonly group: 'gpr' | 'ip' | 'flags' | 'control' | 'debug' | 'msr' | 'table' | 'segment' | 'xcr' | 'x87' | 'sse';
}

const GPR_NAMES = [
  'rax',
  'rcx',
  'rdx',
  'rbx',
  'rsp',
  'rbp',
  'rsi',
  'rdi',
  'r8',
  'r9',
  'r10',
  'r11',
  'r12',
  'r13',
  'r14',
  'r15',
] as const;
const SEGMENT_NAMES = ['es', 'cs', 'ss', 'ds', 'fs', 'gs', 'ldtr', 'tr'] as const;

const r = (name: string, id: number, group: RegisterInfo['group'], bits: RegisterInfo['bits'] = 64): RegisterInfo => ({
  name,
  id,
  bits,
  group,
});

export const REGISTERS: readonly RegisterInfo[] = [
  ...GPR_NAMES.map((name, i) => r(name, L.R_RAX + i, 'gpr')),
  r('rip', L.R_RIP, 'ip'),
  r('rflags', L.R_RFLAGS, 'flags'),
  r('cr0', L.R_CR0, 'control'),
  r('cr2', L.R_CR2, 'control'),
  r('cr3', L.R_CR3, 'control'),
  r('cr4', L.R_CR4, 'control'),
  r('efer', L.R_EFER, 'control'),
  r('xcr0', L.R_XCR0, 'xcr'),
  r('pkru', L.R_PKRU, 'control', 32),
  r('dr0', L.R_DR0, 'debug'),
  r('dr1', L.R_DR1, 'debug'),
  r('dr2', L.R_DR2, 'debug'),
  r('dr3', L.R_DR3, 'debug'),
  r('dr6', L.R_DR6, 'debug'),
  r('dr7', L.R_DR7, 'debug'),
  r('star', L.R_STAR, 'msr'),
  r('lstar', L.R_LSTAR, 'msr'),
  r('cstar', L.R_CSTAR, 'msr'),
  r('fmask', L.R_FMASK, 'msr'),
  r('kernel_gs_base', L.R_KERNEL_GS_BASE, 'msr'),
  r('sysenter_cs', L.R_SYSENTER_CS, 'msr'),
  r('sysenter_esp', L.R_SYSENTER_ESP, 'msr'),
  r('sysenter_eip', L.R_SYSENTER_EIP, 'msr'),
  r('tsc_aux', L.R_TSC_AUX, 'msr'),
  r('tsc_offset', L.R_TSC_OFFSET, 'msr'),
  r('gdtr_base', L.R_GDTR_BASE, 'table'),
  r('gdtr_limit', L.R_GDTR_LIMIT, 'table', 16),
  r('idtr_base', L.R_IDTR_BASE, 'table'),
  r('idtr_limit', L.R_IDTR_LIMIT, 'table', 16),
  ...SEGMENT_NAMES.flatMap((name, i) => [
    r(name, L.R_SEL + i, 'segment', 16),
    r(`${name}_base`, L.R_BASE + i, 'segment'),
    r(`${name}_limit`, L.R_LIMIT + i, 'segment', 32),
    r(`${name}_attr`, L.R_ATTR + i, 'segment', 32),
  ]),
  r('fcw', L.R_FCW, 'x87', 16),
  r('fsw', L.R_FSW, 'x87', 16),
  // Abridged as in FXSAVE: bit i set = physical register Ri is not empty.
  r('ftw', L.R_FTW, 'x87', 8),
  r('fop', L.R_FOP, 'x87', 16),
  r('fip', L.R_FIP, 'x87'),
  r('fdp', L.R_FDP, 'x87'),
  r('fcs', L.R_FCS, 'x87', 16),
  r('fds', L.R_FDS, 'x87', 16),
  ...Array.from({ length: 8 }, (_, i) => r(`st${i}`, L.R_ST + i, 'x87', 80)),
  r('mxcsr', L.R_MXCSR, 'sse', 32),
  ...Array.from({ length: 16 }, (_, i) => r(`xmm${i}`, L.R_XMM + i * 2, 'sse', 128)),
];

const BY_NAME = new Map(REGISTERS.map((info) => [info.name, info]));
const BY_ID = new Map(REGISTERS.map((info) => [info.id, info]));

/** The register with this lower-case SDM name, or undefined. */
export const registerByName = (name: string): RegisterInfo | undefined => BY_NAME.get(name);
/** The register with this id, or undefined. */
export const registerById = (id: number): RegisterInfo | undefined => BY_ID.get(id);

/** RAX … R15, RIP, RFLAGS: what a hypercall must leave alone unless it says otherwise. */
export const GENERAL_REGISTERS: readonly RegisterInfo[] = REGISTERS.filter(
  (info) => info.group === 'gpr' || info.group === 'ip' || info.group === 'flags',
);
