/**
 * What an instruction of 64-bit code may touch besides the registers of its own vCPU, as far as a search for races has to know: memory
 * operands and the stack of the plain instructions, and which others are known to touch no memory. Everything that is not listed is
 * `opaque`.
 */

/** Registers and memory operands, nothing else. */
export const PLAIN = 0;
/** No memory operand; what it does depends on the instruction: `SPECIAL_*`. */
export const SPECIAL = 1;
/** Unknown: may touch anything. */
export const OPAQUE = 2;

export const SPECIAL_NONE = 0;
/** STI, CLI, HLT, MOV to CR8: changes what of its own APIC's interrupts the vCPU takes. */
export const SPECIAL_INTERRUPTS = 1;
export const SPECIAL_RDMSR = 2;
export const SPECIAL_WRMSR = 3;
/** CPUID, PAUSE: an exit that shows nothing but the vCPU's own state. */
export const SPECIAL_OWN = 4;
/** RDTSC, RDTSCP. */
export const SPECIAL_CLOCK = 5;
/** Hypercalls, ports: anything of the VM. */
export const SPECIAL_VM = 6;
/** IRETQ: reads its frame and may let interrupts in. */
export const SPECIAL_IRET = 7;

/** One decoded instruction. */
export interface Instruction {
  readonly kind: number;
  readonly special: number;
  readonly length: number;
  /** Bytes of the memory operand, 0: there is none. */
  readonly size: number;
  readonly writes: boolean;
  /** Numbers of the address's registers, -1: none; -2 for the base: RIP. */
  readonly base: number;
  readonly index: number;
  readonly scale: number;
  readonly displacement: number;
  /** Where the stack is touched, from RSP on, and how many bytes; 0 bytes: it is not. */
  readonly stackOffset: number;
  readonly stackSize: number;
  readonly stackWrites: boolean;
}

const RIP = -2;
const NONE = -1;

const BLANK: Instruction = {
  ...{ kind: PLAIN, special: SPECIAL_NONE, length: 0, size: 0, writes: false },
  ...{ base: NONE, index: NONE, scale: 1, displacement: 0 },
  ...{ stackOffset: 0, stackSize: 0, stackWrites: false },
};
const UNKNOWN: Instruction = { ...BLANK, kind: OPAQUE };

const special = (what: number): Instruction => ({ ...BLANK, kind: SPECIAL, special: what });
const push = { stackOffset: -8, stackSize: 8, stackWrites: true };
const pop = { stackOffset: 0, stackSize: 8 };

/** Decodes the instruction at `at`; at least 15 bytes must follow. */
export function decodeInstruction(code: Uint8Array, at: number): Instruction {
  let p = at;
  let operand16 = false;
  let repeat = false;
  for (; ; p++) {
    const byte = code[p];
    if (byte === 0x66) operand16 = true;
    else if (byte === 0xf3) repeat = true;
    else if (byte !== 0xf0 && byte !== 0x2e && byte !== 0x3e) break;
    if (p - at > 4) return UNKNOWN;
  }
  let rex = 0;
  if ((code[p] & 0xf0) === 0x40) rex = code[p++];
  const wide = (rex & 8) !== 0;
  const size = wide ? 8 : operand16 ? 2 : 4;
  const opcode = code[p++];

  /** An instruction with a ModRM byte at `p`: its memory operand of `bytes`, if it has one. */
  const modrm = (bytes: number, writes: boolean, more: Partial<Instruction> = {}): Instruction => {
    const byte = code[p];
    const mod = byte >> 6;
    const rm = byte & 7;
    if (mod === 3) return { ...BLANK, ...more };
    let base = rm | ((rex & 1) << 3);
    let index = NONE;
    let scale = 1;
    let q = p + 1;
    if (rm === 4) {
      const sib = code[q++];
      scale = 1 << (sib >> 6);
      index = ((sib >> 3) & 7) | ((rex & 2) << 2);
      if (index === 4) index = NONE;
      base = (sib & 7) | ((rex & 1) << 3);
      if (mod === 0 && (sib & 7) === 5) base = NONE;
    } else if (mod === 0 && rm === 5) {
      base = RIP;
    }
    const long = mod === 2 || base === RIP || (base === NONE && mod === 0);
    const displacement =
      mod === 1
        ? (code[q] << 24) >> 24
        : long
          ? code[q] | (code[q + 1] << 8) | (code[q + 2] << 16) | (code[q + 3] << 24)
          : 0;
    q += mod === 1 ? 1 : long ? 4 : 0;
    return { ...BLANK, size: bytes, writes, base, index, scale, displacement, length: q - at, ...more };
  };
  const reg = (): number => (code[p] >> 3) & 7;
  /** `length` so far ends behind the ModRM part; an immediate of `bytes` follows. Only RIP-relative addresses need it. */
  const immediate = (instruction: Instruction, bytes: number): Instruction =>
    instruction.size === 0 ? instruction : { ...instruction, length: instruction.length + bytes };
  const immediateSize = operand16 ? 2 : 4;

  if (opcode < 0x40 && opcode !== 0x0f) {
    const form = opcode & 7;
    if (form > 5) return UNKNOWN;
    if (form > 3) return BLANK;
    const compare = opcode >= 0x38;
    return modrm((form & 1) === 0 ? 1 : size, form < 2 && !compare);
  }
  if (opcode >= 0x50 && opcode < 0x58) return { ...BLANK, ...push };
  if (opcode >= 0x58 && opcode < 0x60) return { ...BLANK, ...pop };
  if (opcode >= 0x70 && opcode < 0x80) return BLANK;
  if (opcode >= 0xb0 && opcode < 0xc0) return BLANK;
  switch (opcode) {
    case 0x63:
      return modrm(4, false);
    case 0x68:
    case 0x6a:
      return { ...BLANK, ...push };
    case 0x69:
      return immediate(modrm(size, false), immediateSize);
    case 0x6b:
      return immediate(modrm(size, false), 1);
    case 0x80:
      return immediate(modrm(1, reg() !== 7), 1);
    case 0x81:
      return immediate(modrm(size, reg() !== 7), immediateSize);
    case 0x83:
      return immediate(modrm(size, reg() !== 7), 1);
    case 0x84:
      return modrm(1, false);
    case 0x85:
      return modrm(size, false);
    case 0x86:
      return modrm(1, true);
    case 0x87:
      return modrm(size, true);
    case 0x88:
      return modrm(1, true);
    case 0x89:
      return modrm(size, true);
    case 0x8a:
      return modrm(1, false);
    case 0x8b:
      return modrm(size, false);
    case 0x8d:
      return BLANK;
    case 0x90:
      return repeat ? special(SPECIAL_OWN) : BLANK;
    case 0x98:
    case 0x99:
    case 0xa8:
    case 0xa9:
      return BLANK;
    case 0xc0:
      return immediate(modrm(1, true), 1);
    case 0xc1:
      return immediate(modrm(size, true), 1);
    case 0xd0:
    case 0xd2:
      return modrm(1, true);
    case 0xd1:
    case 0xd3:
      return modrm(size, true);
    case 0xc3:
      return { ...BLANK, ...pop };
    case 0xc6:
      return immediate(modrm(1, true), 1);
    case 0xc7:
      return immediate(modrm(size, true), immediateSize);
    case 0xcf:
      return wide ? { ...special(SPECIAL_IRET), stackOffset: 0, stackSize: 40 } : UNKNOWN;
    case 0xe4:
    case 0xe5:
    case 0xe6:
    case 0xe7:
    case 0xec:
    case 0xed:
    case 0xee:
    case 0xef:
      return special(SPECIAL_VM);
    case 0xe8:
      return { ...BLANK, ...push };
    case 0xe9:
    case 0xeb:
      return BLANK;
    case 0xf4:
    case 0xfa:
    case 0xfb:
      return special(SPECIAL_INTERRUPTS);
    case 0xf6:
      if (reg() > 5) return UNKNOWN;
      return reg() < 2 ? immediate(modrm(1, false), 1) : modrm(1, reg() < 4);
    case 0xf7:
      if (reg() > 5) return UNKNOWN;
      return reg() < 2 ? immediate(modrm(size, false), immediateSize) : modrm(size, reg() < 4);
    case 0xfe:
      return reg() < 2 ? modrm(1, true) : UNKNOWN;
    case 0xff:
      if (reg() < 2) return modrm(size, true);
      return reg() === 6 || reg() === 2 ? modrm(8, false, push) : reg() === 4 ? modrm(8, false) : UNKNOWN;
    case 0x0f:
      return twoBytes(code[p++]);
    default:
      return UNKNOWN;
  }

  function twoBytes(second: number): Instruction {
    if (second >= 0x40 && second < 0x50) return modrm(size, false);
    if (second >= 0x80 && second < 0x90) return BLANK;
    if (second >= 0x90 && second < 0xa0) return modrm(1, true);
    if (second >= 0xc8 && second < 0xd0) return BLANK;
    switch (second) {
      case 0x01:
        if (code[p] === 0xc1 || code[p] === 0xd9) return special(SPECIAL_VM);
        if (code[p] === 0xf9) return special(SPECIAL_CLOCK);
        // LGDT and LIDT read ten bytes.
        return code[p] >> 6 !== 3 && (reg() === 2 || reg() === 3) ? modrm(10, false) : UNKNOWN;
      case 0x1e:
      case 0x1f:
        return BLANK;
      case 0x30:
        return special(SPECIAL_WRMSR);
      case 0x31:
        return special(SPECIAL_CLOCK);
      case 0x32:
        return special(SPECIAL_RDMSR);
      case 0x22:
        return reg() === 0 && (rex & 4) !== 0 ? special(SPECIAL_INTERRUPTS) : UNKNOWN;
      case 0xa2:
        return special(SPECIAL_OWN);
      case 0xa3:
        // A bit offset in a register reaches beyond the operand.
        return code[p] >> 6 === 3 ? BLANK : UNKNOWN;
      case 0xaf:
        return modrm(size, false);
      case 0xb0:
      case 0xc0:
        return modrm(1, true);
      case 0xb1:
      case 0xc1:
        return modrm(size, true);
      case 0xb6:
      case 0xbe:
        return modrm(1, false);
      case 0xb7:
      case 0xbf:
        return modrm(2, false);
      case 0xba:
        return immediate(modrm(size, reg() !== 4), 1);
      default:
        return UNKNOWN;
    }
  }
}
