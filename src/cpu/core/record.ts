// One decoded instruction: 32 bytes in the record arena, followed by the next one of its block. Compiled twice, as layout.ts is: the
// second tier (src/cpu/jit) reads records from the host's side.

/** u16: what run() dispatches on, see OP_*. */
export const REC_OP = 0;
/** u8: length in bytes. */
export const REC_LEN = 2;
/** u8: log2 of the operand size in bytes. */
export const REC_SIZE = 3;
/** u8: byte offset in the state block of the ModRM.reg register. */
export const REC_G = 4;
/** u8: byte offset of the ModRM.rm (or opcode, or accumulator) register; meaningless with a memory operand. */
export const REC_E = 5;
/** u8 slots: base (R_RIP for RIP-relative, R_ZERO for none) and index (R_ZERO for none). */
export const REC_BASE = 6;
export const REC_INDEX = 7;
export const REC_SCALE = 8;
/** u8: SEG_* of the memory operand. */
export const REC_SEG = 9;
/** u8: see REC_MEM … */
export const REC_FLAGS = 10;
/** u8: the table row's sub-operation. */
export const REC_SUB = 11;
/** i32 displacement. */
export const REC_DISP = 12;
/** i64 immediate, branch displacement, or memory offset; a far pointer is offset | selector << 32; of x87 the opcode as FOP has it. */
export const REC_IMM = 16;
/** u32: record of the branch target if it lies in the same page, 0 if not known yet. */
export const REC_LINK = 24;
/** Three i32, of JMP and CALL through a register or memory: where they led to last, from their own address on. The places are REC_IMM's and REC_LINK's. */
export const REC_SEEN = 16;
/** u8: byte offset in the state block of the VEX.vvvv register; the place is REC_LINK's, as nothing with a VEX prefix branches. */
export const REC_V = 24;
/** u16: handler, see tables.generated.ts. */
export const REC_HANDLER = 28;
/** u8: ModRM.reg with REX.R. */
export const REC_REG = 30;
/** u8: see MORE_*. */
export const REC_MORE = 31;
export const REC_BYTES = 32;

// REC_FLAGS
export const REC_MEM = 1;
/** Bits 2:1: address size, 0 = 16, 1 = 32, 2 = 64 bits. */
export const REC_ASIZE_SHIFT = 1;
export const REC_LOCK = 8;
export const REC_REP = 16;
export const REC_REPNE = 32;
/** 64-bit mode, 64-bit address, no segment base, not RIP-relative: address = base + (index << scale) + disp. */
export const REC_SIMPLE = 64;
/** The block ends here: look the next instruction up. */
export const REC_END = 128;

// REC_MORE
/** The branch target lies in the same page as the instruction. */
export const MORE_SAME_PAGE = 1;
/** The row's attributes of these names. */
export const MORE_X87 = 2;
export const MORE_MMX = 4;
export const MORE_SSE = 8;
export const MORE_UNALIGNED = 16;

// ---- dispatch numbers: 0 = by handler, the rest are fast forms of frequent instructions ----
export const OP_GENERIC = 0;
/** Pseudo: the decoded run ends without a control transfer. */
export const OP_NEXT = 1;
/** Pseudo: the instruction crosses into the next page and must be decoded each time. */
export const OP_CROSS = 2;
export const OP_MOV_RR32 = 3;
export const OP_MOV_RR64 = 4;
export const OP_MOV_RI = 5;
export const OP_LD32 = 6;
export const OP_LD64 = 7;
export const OP_ST32 = 8;
export const OP_ST64 = 9;
export const OP_ST8 = 10;
export const OP_LDZX8 = 11;
export const OP_LDZX16 = 12;
export const OP_MOVZX8 = 13;
export const OP_MOVSXD = 14;
export const OP_LEA64 = 15;
export const OP_LEA32 = 16;
export const OP_TEST_RR32 = 17;
export const OP_TEST_RR64 = 18;
export const OP_INC32 = 19;
export const OP_INC64 = 20;
export const OP_DEC32 = 21;
export const OP_DEC64 = 22;
export const OP_SHL_RI32 = 23;
export const OP_SHL_RI64 = 24;
export const OP_SHR_RI32 = 25;
export const OP_SHR_RI64 = 26;
export const OP_JMP = 27;
export const OP_CALL64 = 28;
export const OP_RET64 = 29;
export const OP_PUSH64 = 30;
export const OP_POP64 = 31;
export const OP_NOP = 32;
export const OP_LD8 = 33;
export const OP_TEST_RI32 = 34;
/** Pseudo: the host may want to know of the instruction whose record follows; see hooks.ts. */
export const OP_HOOK = 35;
/** Jcc: + condition code. */
export const OP_JCC = 36;
/** ALU forms: + ALU index (0 add, 1 or, 4 and, 5 sub, 6 xor, 7 cmp; ADC and SBB stay generic). */
export const OP_ALU_RR32 = 52;
export const OP_ALU_RR64 = 60;
export const OP_ALU_RI32 = 68;
export const OP_ALU_RI64 = 76;
export const OP_ALU_RM32 = 84;
export const OP_ALU_RM64 = 92;
/**
 * Written over the dispatch number of an instruction that compiled code starts with: the rest of the record stays as it is, so that
 * execute() can run the instruction all the same. The table slot is in the record's tier word.
 */
export const OP_ENTER = 100;
/** IMUL with a destination register, 32 bits, of registers and of a register and an immediate. */
export const OP_IMUL_RR32 = 101;
export const OP_IMUL_RI32 = 102;

// ---- decoded pages: {u32 address of the code map cell, u32 next free, bitmap of 4096 bits, 4096 record pointers} ----
export const PAGE_CELL = 0;
export const PAGE_NEXT_FREE = 4;
export const PAGE_BITMAP = 16;
export const PAGE_RECORDS = 528;
export const PAGE_BYTES = 16912;

// ---- what a compiled function returns, if not the address of the record of the instruction that broke the flow ----
/** R_RIP is where to go on. */
export const TIER_TRANSFER = 0;
/** The budget does not cover the next block. */
export const TIER_SHORT = 1;
/** The instruction at R_RIP, which has done nothing yet, needs the interpreter. */
export const TIER_RETRY = 2;

// ---- what the host is told of an instruction besides how often control has come to it ----
/** Its compiled code has come back for the interpreter too often. */
export const HOT_RETRIES = -1;
/** For good, or it is soon at an instruction that exits. */
export const HOT_LEAVES = -2;
/** Its compiled code leads to other places now and again. */
export const HOT_LEADS = -3;
