// One decoded instruction: 32 bytes in the record arena, followed by the next one of its block.

/** u16: what run() dispatches on, see OP_*. */
export const REC_OP: usize = 0;
/** u8: length in bytes. */
export const REC_LEN: usize = 2;
/** u8: log2 of the operand size in bytes. */
export const REC_SIZE: usize = 3;
/** u8: byte offset in the state block of the ModRM.reg register. */
export const REC_G: usize = 4;
/** u8: byte offset of the ModRM.rm (or opcode, or accumulator) register; meaningless with a memory operand. */
export const REC_E: usize = 5;
/** u8 slots: base (R_RIP for RIP-relative, R_ZERO for none) and index (R_ZERO for none). */
export const REC_BASE: usize = 6;
export const REC_INDEX: usize = 7;
export const REC_SCALE: usize = 8;
/** u8: SEG_* of the memory operand. */
export const REC_SEG: usize = 9;
/** u8: see REC_MEM … */
export const REC_FLAGS: usize = 10;
/** u8: the table row's sub-operation. */
export const REC_SUB: usize = 11;
/** i32 displacement. */
export const REC_DISP: usize = 12;
/** i64 immediate, branch displacement, or memory offset; a far pointer is offset | selector << 32; of x87 the opcode as FOP has it. */
export const REC_IMM: usize = 16;
/** u32: record of the branch target if it lies in the same page, 0 if not known yet. */
export const REC_LINK: usize = 24;
/** u8: byte offset in the state block of the VEX.vvvv register; the place is REC_LINK's, as nothing with a VEX prefix branches. */
export const REC_V: usize = 24;
/** u16: handler, see tables.generated.ts. */
export const REC_HANDLER: usize = 28;
/** u8: ModRM.reg with REX.R. */
export const REC_REG: usize = 30;
/** u8: see MORE_*. */
export const REC_MORE: usize = 31;
export const REC_BYTES: usize = 32;

// REC_FLAGS
export const REC_MEM: u8 = 1;
/** Bits 2:1: address size, 0 = 16, 1 = 32, 2 = 64 bits. */
export const REC_ASIZE_SHIFT: i32 = 1;
export const REC_LOCK: u8 = 8;
export const REC_REP: u8 = 16;
export const REC_REPNE: u8 = 32;
/** 64-bit mode, 64-bit address, no segment base, not RIP-relative: address = base + (index << scale) + disp. */
export const REC_SIMPLE: u8 = 64;
/** The block ends here: look the next instruction up. */
export const REC_END: u8 = 128;

// REC_MORE
/** The branch target lies in the same page as the instruction. */
export const MORE_SAME_PAGE: u8 = 1;
/** The row's attributes of these names. */
export const MORE_X87: u8 = 2;
export const MORE_MMX: u8 = 4;
export const MORE_SSE: u8 = 8;
export const MORE_UNALIGNED: u8 = 16;

// ---- dispatch numbers: 0 = by handler, the rest are fast forms of frequent instructions ----
export const OP_GENERIC: i32 = 0;
/** Pseudo: the decoded run ends without a control transfer. */
export const OP_NEXT: i32 = 1;
/** Pseudo: the instruction crosses into the next page and must be decoded each time. */
export const OP_CROSS: i32 = 2;
export const OP_MOV_RR32: i32 = 3;
export const OP_MOV_RR64: i32 = 4;
export const OP_MOV_RI: i32 = 5;
export const OP_LD32: i32 = 6;
export const OP_LD64: i32 = 7;
export const OP_ST32: i32 = 8;
export const OP_ST64: i32 = 9;
export const OP_ST8: i32 = 10;
export const OP_LDZX8: i32 = 11;
export const OP_LDZX16: i32 = 12;
export const OP_MOVZX8: i32 = 13;
export const OP_MOVSXD: i32 = 14;
export const OP_LEA64: i32 = 15;
export const OP_LEA32: i32 = 16;
export const OP_TEST_RR32: i32 = 17;
export const OP_TEST_RR64: i32 = 18;
export const OP_INC32: i32 = 19;
export const OP_INC64: i32 = 20;
export const OP_DEC32: i32 = 21;
export const OP_DEC64: i32 = 22;
export const OP_SHL_RI32: i32 = 23;
export const OP_SHL_RI64: i32 = 24;
export const OP_SHR_RI32: i32 = 25;
export const OP_SHR_RI64: i32 = 26;
export const OP_JMP: i32 = 27;
export const OP_CALL64: i32 = 28;
export const OP_RET64: i32 = 29;
export const OP_PUSH64: i32 = 30;
export const OP_POP64: i32 = 31;
export const OP_NOP: i32 = 32;
export const OP_LD8: i32 = 33;
export const OP_TEST_RI32: i32 = 34;
/** Pseudo: the host may want to know of the instruction whose record follows; see hooks.ts. */
export const OP_HOOK: i32 = 35;
/** Jcc: + condition code. */
export const OP_JCC: i32 = 36;
/** ALU forms: + ALU index (0 add, 1 or, 4 and, 5 sub, 6 xor, 7 cmp; ADC and SBB stay generic). */
export const OP_ALU_RR32: i32 = 52;
export const OP_ALU_RR64: i32 = 60;
export const OP_ALU_RI32: i32 = 68;
export const OP_ALU_RI64: i32 = 76;
export const OP_ALU_RM32: i32 = 84;
export const OP_ALU_RM64: i32 = 92;
