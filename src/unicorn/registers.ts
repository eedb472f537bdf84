/**
 * What each X86_REG_* number names: a part of a slot of the state block, or something that has to be put together.
 * Layouts of composite registers are Unicorn's (uc_x86_mmr, uc_x86_msr).
 */
import * as L from '../cpu/core/layout.ts';
import { CONSTANTS as C } from './constants.ts';

/** `size` bytes at byte `at` of a slot (values over 8 bytes go on in the following slots). */
export interface SlotRegister {
  readonly kind: 'slot';
  readonly slot: number;
  readonly at: number;
  readonly size: number;
  /** What a write changes besides the value: the instruction pointer, or what the core derives (mode, translations, flags). */
  readonly effect: 'none' | 'ip' | 'flags' | 'mode' | 'paging';
}
export type Register =
  | SlotRegister
  | { readonly kind: 'segment'; readonly segment: number }
  | { readonly kind: 'table'; readonly base: number; readonly limit: number; readonly segment: number | undefined }
  | { readonly kind: 'st'; readonly index: number }
  | { readonly kind: 'tag' | 'msr' | 'cr8' };

const REGISTERS: Register[] = [];

const slot = (id: number, number: number, size: number, at = 0, effect: SlotRegister['effect'] = 'none'): void => {
  REGISTERS[id] = { kind: 'slot', slot: number, at, size, effect };
};
const idOf = (name: string): number => (C as unknown as Record<string, number>)[`X86_REG_${name}`];

// General registers in encoding order: the legacy eight and R8 to R15 with their parts.
'A C D B'.split(' ').forEach((letter, n) => {
  slot(idOf(`R${letter}X`), n, 8);
  slot(idOf(`E${letter}X`), n, 4);
  slot(idOf(`${letter}X`), n, 2);
  slot(idOf(`${letter}L`), n, 1);
  slot(idOf(`${letter}H`), n, 1, 1);
});
'SP BP SI DI'.split(' ').forEach((name, n) => {
  slot(idOf(`R${name}`), n + 4, 8);
  slot(idOf(`E${name}`), n + 4, 4);
  slot(idOf(name), n + 4, 2);
  slot(idOf(`${name}L`), n + 4, 1);
});
for (let n = 8; n < 16; n++) {
  slot(idOf(`R${n}`), n, 8);
  slot(idOf(`R${n}D`), n, 4);
  slot(idOf(`R${n}W`), n, 2);
  slot(idOf(`R${n}B`), n, 1);
}
slot(C.X86_REG_RIP, L.R_RIP, 8, 0, 'ip');
slot(C.X86_REG_EIP, L.R_RIP, 4, 0, 'ip');
slot(C.X86_REG_IP, L.R_RIP, 2, 0, 'ip');
slot(C.X86_REG_RFLAGS, L.R_RFLAGS, 8, 0, 'flags');
slot(C.X86_REG_EFLAGS, L.R_RFLAGS, 4, 0, 'flags');
slot(C.X86_REG_FLAGS, L.R_RFLAGS, 2, 0, 'flags');

'ES CS SS DS FS GS'.split(' ').forEach((name, segment) => {
  REGISTERS[idOf(name)] = { kind: 'segment', segment };
});
slot(C.X86_REG_FS_BASE, L.R_BASE + L.SEG_FS, 8, 0, 'mode');
slot(C.X86_REG_GS_BASE, L.R_BASE + L.SEG_GS, 8, 0, 'mode');
const table = (id: number, base: number, limit: number, segment?: number): void => {
  REGISTERS[id] = { kind: 'table', base, limit, segment };
};
table(C.X86_REG_GDTR, L.R_GDTR_BASE, L.R_GDTR_LIMIT);
table(C.X86_REG_IDTR, L.R_IDTR_BASE, L.R_IDTR_LIMIT);
table(C.X86_REG_LDTR, L.R_BASE + L.SEG_LDTR, L.R_LIMIT + L.SEG_LDTR, L.SEG_LDTR);
table(C.X86_REG_TR, L.R_BASE + L.SEG_TR, L.R_LIMIT + L.SEG_TR, L.SEG_TR);

slot(C.X86_REG_CR0, L.R_CR0, 8, 0, 'paging');
slot(C.X86_REG_CR2, L.R_CR2, 8);
slot(C.X86_REG_CR3, L.R_CR3, 8, 0, 'paging');
slot(C.X86_REG_CR4, L.R_CR4, 8, 0, 'paging');
REGISTERS[C.X86_REG_CR8] = { kind: 'cr8' };
for (let n = 0; n < 4; n++) slot(C.X86_REG_DR0 + n, L.R_DR0 + n, 8, 0, 'mode');
// DR4 and DR5 are the other names of DR6 and DR7.
for (const n of [4, 6]) slot(C.X86_REG_DR0 + n, L.R_DR6, 8, 0, 'mode');
for (const n of [5, 7]) slot(C.X86_REG_DR0 + n, L.R_DR7, 8, 0, 'mode');

for (let n = 0; n < 8; n++) {
  slot(C.X86_REG_FP0 + n, L.R_FPR + 2 * n, 10);
  slot(C.X86_REG_MM0 + n, L.R_FPR + 2 * n, 8);
  REGISTERS[C.X86_REG_ST0 + n] = { kind: 'st', index: n };
}
slot(C.X86_REG_FPCW, L.R_FCW, 2);
slot(C.X86_REG_FPSW, L.R_FSW, 2);
REGISTERS[C.X86_REG_FPTAG] = { kind: 'tag' };
slot(C.X86_REG_FIP, L.R_FIP, 8);
slot(C.X86_REG_FDP, L.R_FDP, 8);
slot(C.X86_REG_FCS, L.R_FCS, 2);
slot(C.X86_REG_FDS, L.R_FDS, 2);
slot(C.X86_REG_FOP, L.R_FOP, 2);
slot(C.X86_REG_MXCSR, L.R_MXCSR, 4);
// YMM and ZMM have no upper parts here: AVX is not executed.
for (let n = 0; n < 16; n++) {
  for (const first of [C.X86_REG_XMM0, C.X86_REG_YMM0, C.X86_REG_ZMM0]) slot(first + n, L.R_XMM + 2 * n, 16);
}
REGISTERS[C.X86_REG_MSR] = { kind: 'msr' };

/** The register with this X86_REG_* number, or undefined. */
export const registerOf = (id: number): Register | undefined => REGISTERS[id];

/** MSRs that are slots of the state block, by number. */
export const MSR_SLOTS: ReadonlyMap<number, number> = new Map([
  [0x174, L.R_SYSENTER_CS],
  [0x175, L.R_SYSENTER_ESP],
  [0x176, L.R_SYSENTER_EIP],
  [0xc0000080, L.R_EFER],
  [0xc0000081, L.R_STAR],
  [0xc0000082, L.R_LSTAR],
  [0xc0000083, L.R_CSTAR],
  [0xc0000084, L.R_FMASK],
  [0xc0000100, L.R_BASE + L.SEG_FS],
  [0xc0000101, L.R_BASE + L.SEG_GS],
  [0xc0000102, L.R_KERNEL_GS_BASE],
  [0xc0000103, L.R_TSC_AUX],
]);

/** Slots that make up the CPU's state in a context: architectural registers and what goes with them. */
export const CONTEXT_SLOTS: readonly (readonly [first: number, end: number])[] = [
  [0, L.S_FIRST],
  [L.S_INTERRUPTIBILITY, L.S_INTERRUPTIBILITY + 1],
  [L.S_CPL, L.S_CPL + 1],
  [L.S_PDPTE, L.S_PENDING_DEBUG + 1],
  [L.R_FCW, L.R_SIMD_END],
];
