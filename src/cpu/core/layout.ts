// The layout of one vCPU's state block and the numbers that cross the wasm boundary.
// This file is compiled twice: by AssemblyScript into the core and by TypeScript into the host side,
// so it may hold nothing but integer constants.

// ---- state block: 8-byte slots, slot n at byte offset n * 8 ----

// General-purpose registers in instruction-encoding order (SDM vol. 2, table 3-1).
export const R_RAX = 0;
export const R_RCX = 1;
export const R_RDX = 2;
export const R_RBX = 3;
export const R_RSP = 4;
export const R_RBP = 5;
export const R_RSI = 6;
export const R_RDI = 7;
export const R_R8 = 8;
export const R_R9 = 9;
export const R_R10 = 10;
export const R_R11 = 11;
export const R_R12 = 12;
export const R_R13 = 13;
export const R_R14 = 14;
export const R_R15 = 15;
/** Always zero: the base or index of an address that has none. */
export const R_ZERO = 16;
export const R_RIP = 17;
export const R_RFLAGS = 18;
export const R_CR0 = 19;
export const R_CR2 = 20;
export const R_CR3 = 21;
export const R_CR4 = 22;
export const R_EFER = 23;
export const R_DR0 = 24;
export const R_DR1 = 25;
export const R_DR2 = 26;
export const R_DR3 = 27;
export const R_DR6 = 28;
export const R_DR7 = 29;
export const R_STAR = 30;
export const R_LSTAR = 31;
export const R_CSTAR = 32;
export const R_FMASK = 33;
export const R_KERNEL_GS_BASE = 34;
export const R_SYSENTER_CS = 35;
export const R_SYSENTER_ESP = 36;
export const R_SYSENTER_EIP = 37;
export const R_TSC_AUX = 38;
/** Added to the number of executed steps to give the TSC; raised by the host for modelled exit costs. */
export const R_TSC_OFFSET = 39;
export const R_GDTR_BASE = 40;
export const R_GDTR_LIMIT = 41;
export const R_IDTR_BASE = 42;
export const R_IDTR_LIMIT = 43;

// Segment registers: 8 of each, in the order of SEG_*.
export const SEG_ES = 0;
export const SEG_CS = 1;
export const SEG_SS = 2;
export const SEG_DS = 3;
export const SEG_FS = 4;
export const SEG_GS = 5;
export const SEG_LDTR = 6;
export const SEG_TR = 7;
export const R_SEL = 48;
export const R_BASE = 56;
export const R_LIMIT = 64;
/** Access rights in VMX format (SDM vol. 3, 24.4.1): type 3:0, S 4, DPL 6:5, P 7, AVL 12, L 13, D/B 14, G 15, unusable 16. */
export const R_ATTR = 72;

/** First slot behind the integer registers; x87 and SSE registers have slots of their own from R_FCW. */
export const S_FIRST = 80;
/** The host wrote registers that the CPU has derived something from: DIRTY_* bits. */
export const S_DIRTY = 80;
/** CR0, CR3, CR4 or EFER: translations are dropped. */
export const DIRTY_TRANSLATION = 1;
/** Any other from RFLAGS on. */
export const DIRTY_MODE = 2;
/** 1: the CPU answers as AMD (VMMCALL native), 0: as Intel (VMCALL native). */
export const S_VENDOR = 81;
/** Physical-address width in bits. */
export const S_MAXPHYADDR = 82;
/** Steps executed so far: one per instruction, one per REP iteration. */
export const S_STEPS = 83;
/** Interruptibility in VMX format: bit 0 STI shadow, bit 1 MOV-SS shadow, bit 3 NMIs blocked. */
export const S_INTERRUPTIBILITY = 84;
/** Exits asked for: bit 0 interrupt window, bit 1 NMI window. */
export const S_WINDOW = 85;
/** Exception bitmap: bit n set makes exception vector n an exit instead of an IDT delivery. */
export const S_EXCEPTION_BITMAP = 86;
/** Intercepts: see INTERCEPT_*. */
export const S_INTERCEPT = 87;
/** Event to deliver at the next run, VMX VM-entry interruption-information format; see EVENT_*. */
export const S_INJECT = 88;
export const S_INJECT_ERROR = 89;
/** Instruction length for an injected soft interrupt or exception. Of an exception: RF, if the image of RFLAGS is to have it. */
export const S_INJECT_LEN = 90;
/** Exit information. */
export const S_EXIT_CODE = 91;
export const S_EXIT_LEN = 92;
export const S_EXIT_Q0 = 93;
export const S_EXIT_Q1 = 94;
export const S_EXIT_DATA = 95;
/** CPL, kept by the core; equals SS.DPL outside real mode. */
export const S_CPL = 96;
/** Lazy flags: operation, result, second source. Only meaningful inside run(). */
export const S_CC_OP = 97;
export const S_CC_DST = 98;
export const S_CC_SRC = 99;
/** MMIO and string-I/O accesses of the current instruction that the host has completed: count, then entries. */
export const S_IOQ_COUNT = 100;
export const S_IOQ = 101;
export const IOQ_CAPACITY = 16;
/** Tag of the live TLB entries, 1 … 2046; raising it empties the TLBs. */
export const S_TLB_VERSION = 118;
/** The four PDPTEs that MOV to CR3 loads in PAE paging (SDM vol. 3, 4.4.1). */
export const S_PDPTE = 119;
/** A single-step trap or code breakpoint that is due before the next instruction: DR6 bits to set, 0 if none. */
export const S_PENDING_DEBUG = 123;
/** Width in bits of the linear addresses that the processor knows: 48, or 57 if it has 5-level paging. */
export const S_MAXLINADDR = 124;
/** What the supervisor TLB holds because a check was off: pages of the user while RFLAGS.AC was set (SMAP), pages that CR0.WP would protect from writes. */
export const S_OPEN = 125;
export const OPEN_SMAP = 1;
export const OPEN_WP = 2;
/**
 * Where the TLBs hold parts of pages larger than 4 KiB: bit n stands for the addresses whose bits 26:21 are n. INVLPG of such an address
 * drops everything.
 */
export const S_TLB_LARGE = 126;
/** State of the generator behind RDRAND and RDSEED. */
export const S_RANDOM = 127;

// x87, MMX and SSE registers (SDM vol. 1, 8.1 and 10.2). Architectural, but behind the bookkeeping so that slots below 128 stay put.
/** x87 control word. FCW_RESET after power-up and RESET, FCW_INIT after FNINIT. */
export const R_FCW = 128;
/** x87 status word; TOP in bits 13:11. */
export const R_FSW = 129;
/** Abridged x87 tag word as in FXSAVE: bit i set = physical register Ri is not empty. */
export const R_FTW = 130;
/** Last x87 opcode (11 bits), instruction and operand pointers with their selectors. */
export const R_FOP = 131;
export const R_FIP = 132;
export const R_FDP = 133;
export const R_FCS = 134;
export const R_FDS = 135;
export const R_MXCSR = 136;
export const R_XCR0 = 137;
/** Rights of the protection keys: AD and WD for each of 16. */
export const R_PKRU = 139;
/** Physical x87 registers R0 … R7, two slots each: significand (also MMi), then sign and exponent in bits 15:0. */
export const R_FPR = 144;
/** XMM0 … XMM15, two slots each: bits 63:0, then 127:64. */
export const R_XMM = 160;
/** First slot behind the x87, MMX and SSE registers. */
export const R_SIMD_END = 192;
/** Accesses of the current instruction, in order, that the host lets pass after EXIT_ACCESS. */
export const S_GRANTS = 200;
/** Linear address of the instruction that the hook import is asked about. */
export const S_HOOK_ADDRESS = 201;
/**
 * IDT-vectoring information (SDM vol. 3, 25.9.3, format as S_INJECT): the event whose delivery the exit interrupted, 0 if none; its error
 * code. The length of the instruction behind a software event is S_EXIT_LEN.
 */
export const S_VECTORING = 202;
export const S_VECTORING_ERROR = 203;
/** What the host does not let the guest have: bits of CR4 that it may not set, and from bit 32 on HIDDEN_* in the upper half. */
export const S_HIDDEN = 204;
export const S_SLOTS = 256;
/** Not a slot: ST(0) … ST(7) of the host's register table, the physical registers from TOP on. */
export const R_ST = 256;

/** Bytes from one vCPU's state block to the next: slots, then TLBs. */
export const STATE_STRIDE = 0x31000;
/**
 * Bytes of the TLBs: read, write and execute tables of 2,048 entries for the supervisor, then for the user; entries of 16 bytes, tag
 * first. Pages of the host that no entry is in stay untouched, by snapshots too.
 */
export const TLB_BYTES = 0x30000;
/** Byte offset in the state block of a u64 whose bit n says that some entry of the n-th TLB_PART bytes of the TLBs was ever filled. */
export const TLB_FILLED = S_SLOTS * 8 + TLB_BYTES;
export const TLB_PART = 4096;
/**
 * Pages that compiled code remembers (jit/frame.ts): as many u64, each the linear page or all ones, then as many u32, what to add to a
 * linear address in it to get the host's.
 */
export const PAGE_CACHES = 16;
/** Bits of a TLB tag that hold the version (S_TLB_VERSION). */
export const TLB_VERSION_MASK = 0x7ff;

// ---- page attributes: one byte per RAM page ----
/** The page holds bytes that have been decoded: stores must look. */
export const PAGE_CODE = 1;
/** The page is as the last snapshot taken or restored has it: the host keeps a copy before the first store. */
export const PAGE_CLEAN = 2;

export const FCW_RESET = 0x40;
export const FCW_INIT = 0x37f;
/** MXCSR after RESET and in its initial configuration: all exceptions masked. */
export const MXCSR_RESET = 0x1f80;

// ---- events (S_INJECT), VMX format ----
export const EVENT_VALID = 0x80000000;
export const EVENT_HAS_ERROR = 0x800;
export const EVENT_TYPE_EXTERNAL = 0;
export const EVENT_TYPE_NMI = 2;
export const EVENT_TYPE_EXCEPTION = 3;
export const EVENT_TYPE_SOFT_INT = 4;
export const EVENT_TYPE_PRIV_SOFT_EXCEPTION = 5;
export const EVENT_TYPE_SOFT_EXCEPTION = 6;

// ---- S_INTERRUPTIBILITY ----
export const SHADOW_STI = 1;
export const SHADOW_MOV_SS = 2;
export const BLOCKED_BY_NMI = 8;

// ---- S_WINDOW ----
export const WINDOW_INTERRUPT = 1;
export const WINDOW_NMI = 2;

// ---- S_HIDDEN, bits 63:32: instructions that raise #UD ----
export const HIDDEN_INVPCID = 1;

// ---- S_INTERCEPT ----
export const INTERCEPT_PAUSE = 1;
export const INTERCEPT_RDTSC = 2;
export const INTERCEPT_INVLPG = 4;
export const INTERCEPT_MOV_CR3 = 8;
/** INT n leaves with EXIT_SOFT_INT instead of being delivered. */
export const INTERCEPT_SOFT_INT = 16;
/** SYSCALL and SYSENTER. */
export const INTERCEPT_SYSCALL = 32;
/** RDMSR and WRMSR of MSRs that the CPU owns leave as well. */
export const INTERCEPT_MSR = 64;

// ---- exit codes (S_EXIT_CODE); qualification in Q0, Q1, DATA ----
/** The step budget is used up. */
export const EXIT_BUDGET = 0;
/** VMCALL or VMMCALL, whichever is native to the vendor. */
export const EXIT_HYPERCALL = 1;
/** WRMSR of an MSR the CPU does not own: Q0 = MSR (ECX), DATA = EDX:EAX. */
export const EXIT_WRMSR = 2;
/** RDMSR of an MSR the CPU does not own: Q0 = MSR (ECX). */
export const EXIT_RDMSR = 3;
export const EXIT_CPUID = 4;
export const EXIT_HLT = 5;
/** Port access: Q0 = port, Q1 = size | in << 4 | string << 5 | rep << 6 | I/O breakpoints hit (DR6 bits) << 8, DATA = value written. */
export const EXIT_IO = 6;
/** Access outside RAM: Q0 = guest-physical address, Q1 = size | write << 4, DATA = value written. */
export const EXIT_MMIO = 7;
/** An exception in the exception bitmap: Q0 = vector | has-error << 11, Q1 = error code, DATA = faulting address (#PF). */
export const EXIT_EXCEPTION = 8;
export const EXIT_INTERRUPT_WINDOW = 9;
export const EXIT_NMI_WINDOW = 10;
/** Triple fault. */
export const EXIT_SHUTDOWN = 11;
export const EXIT_PAUSE = 12;
/** MOV to or from CR8: Q0 = 0 write / 1 read, Q1 = GPR number, DATA = value written. */
export const EXIT_CR8 = 13;
/** Q0 = 1: RDTSCP. */
export const EXIT_RDTSC = 14;
export const EXIT_INVLPG = 15;
export const EXIT_MOV_CR3 = 16;
export const EXIT_WBINVD = 17;
export const EXIT_INVD = 18;
export const EXIT_XSETBV = 19;
export const EXIT_MWAIT = 20;
export const EXIT_MONITOR = 21;
export const EXIT_RDPMC = 22;
/** The core cannot go on: Q0 = one of INTERNAL_*, Q1 = address. Never the guest's fault alone. */
export const EXIT_INTERNAL = 23;
/** Sparse memory: an access that the host must allow first; see sparse.ts. Q0 = guest-physical address, Q1 = ACCESS_*, DATA = value. */
export const EXIT_ACCESS = 24;
/** INT n: Q0 = vector. */
export const EXIT_SOFT_INT = 25;
/** Q0 = 0: SYSCALL, 1: SYSENTER. */
export const EXIT_SYSCALL = 26;
/** The hook import asked to stop before the instruction at RIP. */
export const EXIT_STOP = 27;
/** The access import undid the instruction at RIP. */
export const EXIT_RETRY = 28;

/** EXIT_ACCESS Q1: bits 7:0 size in bytes; bits 9:8 READ, WRITE or EXEC; bit 10: the part of the access in the second page. */
export const ACCESS_KIND_SHIFT = 8;
export const ACCESS_READ = 0;
export const ACCESS_WRITE = 1;
export const ACCESS_EXEC = 2;
export const ACCESS_SECOND = 0x400;
/** Added to the kind in a question to the page import: the access was granted, permissions do not matter. */
export const ACCESS_GRANTED = 4;
/** Answers of the page import: bits 23:0 RAM frame; the access must be asked for; the page is the host's (MMIO). -1: not accessible. */
export const PAGE_FRAME = 0xffffff;
export const PAGE_ASK = 0x1000000;
export const PAGE_MMIO = 0x2000000;
/** The page has moved to this frame: translations are void. */
export const PAGE_MOVED = 0x4000000;

/** Answers of the access import: pass; pass, but the host changed what the CPU has cached; undo the instruction and leave with
 * EXIT_RETRY; leave with EXIT_ACCESS. */
export const ACCESS_PASS = 0;
export const ACCESS_CHANGED = 1;
export const ACCESS_RETRY = 2;
export const ACCESS_LEAVE = 3;

/** What the hook import is called for: the instruction, and the block that starts with it. */
export const HOOK_CODE = 1;
export const HOOK_BLOCK = 2;
/** No reason for a call: RIP is kept up to date for the access import. */
export const HOOK_ACCESS = 4;
/** Answers of the hook import: go on; the host changed what the CPU has cached, the hook is done; RIP was written; stop. */
export const HOOK_CONTINUE = 0;
export const HOOK_CHANGED = 1;
export const HOOK_JUMP = 2;
export const HOOK_STOP = 3;

/** A page table, descriptor table, stack of an event delivery, or code lies outside RAM. */
export const INTERNAL_SYSTEM_ACCESS_OUTSIDE_RAM = 1;
/** One instruction made more MMIO accesses than IOQ_CAPACITY. */
export const INTERNAL_IO_QUEUE_FULL = 2;
