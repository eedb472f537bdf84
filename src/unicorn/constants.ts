/**
 * The constants of the API, named and numbered as in Unicorn 2.1.4 without the prefix UC_, and the texts of its errors.
 */
import { INSTRUCTION_LINES, REGISTER_LINES } from './x86-names.ts';

/** The words of a string of words separated by blanks. */
type Words<Text extends string> = Text extends `${infer Head} ${infer Tail}` ? Head | Words<Tail> : Text;
type Numbers<Prefix extends string, Names extends string> = { readonly [Name in Names as `${Prefix}${Name}`]: number };

function numbered<Prefix extends string, Names extends string>(
  prefix: Prefix,
  names: readonly string[],
  first = 0,
): Numbers<Prefix, Names> {
  return Object.fromEntries(names.map((name, i) => [prefix + name, first + i])) as Numbers<Prefix, Names>;
}

type RegisterName = Words<(typeof REGISTER_LINES)[number][1]>;
type InstructionName = Words<(typeof INSTRUCTION_LINES)[number]>;

const X86_REGISTERS = Object.assign(
  {},
  ...REGISTER_LINES.map(([first, names]) => numbered('X86_REG_', names.split(' '), first)),
) as Numbers<'X86_REG_', RegisterName>;
const X86_INSTRUCTIONS = numbered<'X86_INS_', InstructionName>('X86_INS_', INSTRUCTION_LINES.join(' ').split(' '));

const MODELS =
  'QEMU64 PHENOM CORE2DUO KVM64 QEMU32 KVM32 COREDUO 486 PENTIUM PENTIUM2 PENTIUM3 ATHLON N270 CONROE PENRYN NEHALEM WESTMERE SANDYBRIDGE IVYBRIDGE HASWELL BROADWELL SKYLAKE_CLIENT SKYLAKE_SERVER CASCADELAKE_SERVER COOPERLAKE ICELAKE_CLIENT ICELAKE_SERVER DENVERTON SNOWRIDGE KNIGHTSMILL OPTERON_G1 OPTERON_G2 OPTERON_G3 OPTERON_G4 OPTERON_G5 EPYC DHYANA EPYC_ROME ENDING';
const ERRORS =
  'OK NOMEM ARCH HANDLE MODE VERSION READ_UNMAPPED WRITE_UNMAPPED FETCH_UNMAPPED HOOK INSN_INVALID MAP WRITE_PROT READ_PROT FETCH_PROT ARG READ_UNALIGNED WRITE_UNALIGNED FETCH_UNALIGNED HOOK_EXIST RESOURCE EXCEPTION OVERFLOW';

/** The text of each error, without the name that strerror() appends. */
const ERROR_TEXTS: Readonly<Record<number, string>> = {
  0: 'OK',
  1: 'No memory available or memory not present',
  2: 'Invalid/unsupported architecture',
  3: 'Invalid handle',
  4: 'Invalid mode',
  5: 'Different API version between core & binding',
  6: 'Invalid memory read',
  7: 'Invalid memory write',
  8: 'Invalid memory fetch',
  9: 'Invalid hook type',
  10: 'Invalid instruction',
  11: 'Invalid memory mapping',
  12: 'Write to write-protected memory',
  13: 'Read from non-readable memory',
  14: 'Fetch from non-executable memory',
  15: 'Invalid argument',
  16: 'Read from unaligned memory',
  17: 'Write to unaligned memory',
  18: 'Fetch from unaligned memory',
  20: 'Insufficient resource',
  21: 'Unhandled CPU exception',
  22: 'Provided buffer is too small',
};

/** The text Unicorn has for an ERR_* code. */
export function strerror(code: number): string {
  const text = ERROR_TEXTS[code];
  return text === undefined ? 'Unknown error code' : `${text} (UC_ERR_${ERRORS.split(' ')[code]})`;
}

export const CONSTANTS = {
  ARCH_ARM: 1,
  ARCH_ARM64: 2,
  ARCH_MIPS: 3,
  ARCH_X86: 4,
  ARCH_PPC: 5,
  ARCH_SPARC: 6,
  ARCH_M68K: 7,
  ARCH_RISCV: 8,
  ARCH_S390X: 9,
  ARCH_TRICORE: 10,
  ARCH_MAX: 11,

  MODE_LITTLE_ENDIAN: 0,
  MODE_BIG_ENDIAN: 1073741824,
  MODE_16: 2,
  MODE_32: 4,
  MODE_64: 8,

  PROT_NONE: 0,
  PROT_READ: 1,
  PROT_WRITE: 2,
  PROT_EXEC: 4,
  PROT_ALL: 7,

  MEM_READ: 16,
  MEM_WRITE: 17,
  MEM_FETCH: 18,
  MEM_READ_UNMAPPED: 19,
  MEM_WRITE_UNMAPPED: 20,
  MEM_FETCH_UNMAPPED: 21,
  MEM_WRITE_PROT: 22,
  MEM_READ_PROT: 23,
  MEM_FETCH_PROT: 24,
  MEM_READ_AFTER: 25,

  HOOK_INTR: 1,
  HOOK_INSN: 2,
  HOOK_CODE: 4,
  HOOK_BLOCK: 8,
  HOOK_MEM_READ_UNMAPPED: 16,
  HOOK_MEM_WRITE_UNMAPPED: 32,
  HOOK_MEM_FETCH_UNMAPPED: 64,
  HOOK_MEM_READ_PROT: 128,
  HOOK_MEM_WRITE_PROT: 256,
  HOOK_MEM_FETCH_PROT: 512,
  HOOK_MEM_READ: 1024,
  HOOK_MEM_WRITE: 2048,
  HOOK_MEM_FETCH: 4096,
  HOOK_MEM_READ_AFTER: 8192,
  HOOK_INSN_INVALID: 16384,
  HOOK_EDGE_GENERATED: 32768,
  HOOK_TCG_OPCODE: 65536,
  HOOK_TLB_FILL: 131072,
  HOOK_MEM_UNMAPPED: 0x70,
  HOOK_MEM_PROT: 0x380,
  HOOK_MEM_READ_INVALID: 0x90,
  HOOK_MEM_WRITE_INVALID: 0x120,
  HOOK_MEM_FETCH_INVALID: 0x240,
  HOOK_MEM_INVALID: 0x3f0,
  HOOK_MEM_VALID: 0x1c00,

  QUERY_MODE: 1,
  QUERY_PAGE_SIZE: 2,
  QUERY_ARCH: 3,
  QUERY_TIMEOUT: 4,

  CTL_UC_MODE: 0,
  CTL_UC_PAGE_SIZE: 1,
  CTL_UC_ARCH: 2,
  CTL_UC_TIMEOUT: 3,
  CTL_UC_USE_EXITS: 4,
  CTL_UC_EXITS_CNT: 5,
  CTL_UC_EXITS: 6,
  CTL_CPU_MODEL: 7,
  CTL_TB_REQUEST_CACHE: 8,
  CTL_TB_REMOVE_CACHE: 9,
  CTL_TB_FLUSH: 10,
  CTL_TLB_FLUSH: 11,
  CTL_TLB_TYPE: 12,
  CTL_TCG_BUFFER_SIZE: 13,
  CTL_CONTEXT_MODE: 14,
  CTL_IO_NONE: 0,
  CTL_IO_WRITE: 1,
  CTL_IO_READ: 2,
  CTL_IO_READ_WRITE: 3,
  CTL_CONTEXT_CPU: 1,
  CTL_CONTEXT_MEMORY: 2,
  TLB_CPU: 0,
  TLB_VIRTUAL: 1,

  API_MAJOR: 2,
  API_MINOR: 1,
  API_PATCH: 4,
  API_EXTRA: 255,
  VERSION_MAJOR: 2,
  VERSION_MINOR: 1,
  VERSION_PATCH: 4,
  VERSION_EXTRA: 255,
  SECOND_SCALE: 1_000_000,
  MILISECOND_SCALE: 1000,

  ...numbered<'ERR_', Words<typeof ERRORS>>('ERR_', ERRORS.split(' ')),
  ...numbered<'CPU_X86_', Words<typeof MODELS>>('CPU_X86_', MODELS.split(' ')),
  ...X86_REGISTERS,
  ...X86_INSTRUCTIONS,
} as const;

export type Constants = typeof CONSTANTS;
