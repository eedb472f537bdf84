/**
 * Which instructions an engine that knows no system may execute on its own. Everything that depends on privilege, on segment
 * descriptors, on what a hypervisor intercepts or on state such an engine does not keep belongs to the system side.
 */
import { createRequire } from 'node:module';
import type * as Iced from 'iced-x86';

/** Not looked at yet. */
export const UNKNOWN = 0;
export const PLAIN = 1;
/** A string instruction with a REP prefix, by the width of its counter. */
export const REP16 = 2;
export const REP32 = 3;
export const REP64 = 4;
/** For the system side. */
export const SYSTEM = 5;

/** Instructions of integer registers and memory, by mnemonic. What is not listed is for the system side. */
const PLAIN_MNEMONICS = `
  Aaa Aad Aam Aas Adc Adcx Add Adox And Andn Bextr Blsi Blsmsk Blsr Bsf Bsr Bswap Bt Btc Btr Bts Bzhi Call Cbw Cdq Cdqe Clc Cld Cmc
  Cmova Cmovae Cmovb Cmovbe Cmove Cmovg Cmovge Cmovl Cmovle Cmovne Cmovno Cmovnp Cmovns Cmovo Cmovp Cmovs Cmp Cmpsb Cmpsd Cmpsq Cmpsw
  Cmpxchg Cmpxchg16b Cmpxchg8b Cqo Crc32 Cwd Cwde Daa Das Dec Div Endbr32 Endbr64 Idiv Imul Inc Ja Jae Jb Jbe Jcxz Je Jecxz Jg
  Jge Jl Jle Jmp Jne Jno Jnp Jns Jo Jp Jrcxz Js Lahf Lea Leave Lfence Lodsb Lodsd Lodsq Lodsw Loop Loope Loopne Lzcnt Mfence Mov Movbe
  Movnti Movsb Movsd Movsq Movsw Movsx Movsxd Movzx Mul Mulx Neg Nop Not Or Pdep Pext Pop Popa Popad Popcnt Prefetchnta Prefetcht0
  Prefetcht1 Prefetcht2 Prefetchw Push Pusha Pushad Rcl Rcr Ret Rol Ror Rorx Sahf Sal Sar Sarx Sbb Scasb Scasd Scasq Scasw Seta Setae
  Setb Setbe Sete Setg Setge Setl Setle Setne Setno Setnp Setns Seto Setp Sets Sfence Shl Shld Shlx Shr Shrd Shrx Stc Std Stosb Stosd
  Stosq Stosw Sub Test Tzcnt Xadd Xchg Xlatb Xor`;

let library: typeof Iced | undefined;
let plain: ReadonlySet<number> | undefined;

function load(): { iced: typeof Iced; mnemonics: ReadonlySet<number> } {
  library ??= createRequire(import.meta.url)('iced-x86') as typeof Iced;
  const { Mnemonic } = library;
  plain ??= new Set(
    PLAIN_MNEMONICS.trim()
      .split(/\s+/)
      .map((name) => Mnemonic[name as keyof typeof Mnemonic] as number),
  );
  return { iced: library, mnemonics: plain };
}

/** One decoded instruction, as far as running it elsewhere is concerned. */
export interface Decoded {
  readonly kind: number;
  /** Bytes; 0 if there is no instruction here, or not all of it. */
  readonly length: number;
  /** Nothing is executed after it in a straight line. */
  readonly ends: boolean;
  /** A branch, call or return: a block of code ends with it. */
  readonly branch: boolean;
  /** Offset of the target of a direct branch from the instruction's first byte; undefined if there is none. */
  readonly target: number | undefined;
  /** How much room a translation of it takes, roughly: temporaries of a TCG that frees none. */
  readonly weight: number;
}

const NOTHING: Decoded = { kind: SYSTEM, length: 0, ends: true, branch: true, target: undefined, weight: 0 };

/** Decodes the instruction at the start of `bytes`; `bits` is the size of code: 16, 32 or 64. */
export function decode(bytes: Uint8Array, bits: 16 | 32 | 64): Decoded {
  const { iced, mnemonics } = load();
  const { Decoder, DecoderOptions, FlowControl, OpKind, MemorySize } = iced;
  const decoder = new Decoder(bits, bytes.subarray(0, 15), DecoderOptions.None);
  const instruction = decoder.decode();
  try {
    const { length, flowControl: flow } = instruction;
    if (instruction.isInvalid || length === 0) return NOTHING;
    const indirect = flow === FlowControl.IndirectBranch || flow === FlowControl.IndirectCall;
    let special = indirect || !mnemonics.has(instruction.mnemonic);
    let near = false;
    let memory = instruction.isStackInstruction || instruction.isStringInstruction;
    for (let n = 0; n < instruction.opCount; n++) {
      const kind = instruction.opKind(n);
      if (kind === OpKind.FarBranch16 || kind === OpKind.FarBranch32) special = true;
      if (kind === OpKind.NearBranch16 || kind === OpKind.NearBranch32 || kind === OpKind.NearBranch64) near = true;
      if (kind === OpKind.Memory) memory = true;
      if (kind === OpKind.Register && !isGeneral(iced, instruction.opRegister(n))) special = true;
      // The return address of a far call, or a far pointer in memory.
      const size = instruction.memorySize;
      if (size === MemorySize.SegPtr16 || size === MemorySize.SegPtr32 || size === MemorySize.SegPtr64) special = true;
    }
    const many = instruction.stackPointerIncrement > 8 || instruction.stackPointerIncrement < -8;
    return {
      kind: special ? SYSTEM : repeated(iced, instruction),
      length,
      ends:
        flow === FlowControl.UnconditionalBranch || flow === FlowControl.IndirectBranch || flow === FlowControl.Return,
      branch: flow !== FlowControl.Next,
      target: near ? Number(BigInt.asIntN(bits, instruction.nearBranchTarget)) : undefined,
      weight: special ? 40 : many ? 100 : memory ? 20 : 8,
    };
  } finally {
    instruction.free();
    decoder.free();
  }
}

function isGeneral(iced: typeof Iced, register: number): boolean {
  const { Register } = iced;
  return register >= Register.AL && register <= Register.R15;
}

function repeated(iced: typeof Iced, instruction: Iced.Instruction): number {
  if (!instruction.isStringInstruction || !(instruction.hasRepPrefix || instruction.hasRepnePrefix)) return PLAIN;
  const { OpKind } = iced;
  for (let n = 0; n < instruction.opCount; n++) {
    switch (instruction.opKind(n)) {
      case OpKind.MemorySegSI:
      case OpKind.MemorySegDI:
      case OpKind.MemoryESDI:
        return REP16;
      case OpKind.MemorySegESI:
      case OpKind.MemorySegEDI:
      case OpKind.MemoryESEDI:
        return REP32;
    }
  }
  return REP64;
}
