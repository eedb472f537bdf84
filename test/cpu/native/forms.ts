/**
 * Forms: the rows of the opcode table taken apart for comparisons, with what the table does not say about how they can be run. Nothing here
 * is random.
 */
import { Decoder, Mnemonic } from 'iced-x86';
import { OPCODES, type OpcodeRow } from '../../../src/cpu/opcodes.ts';
import type { Kind } from './fp-values.ts';
import { BITS, LONG, type Mode } from './layout.ts';

/** RFLAGS bits by name. */
export const FLAG: Readonly<Record<string, number>> = { CF: 1, PF: 4, AF: 0x10, ZF: 0x40, SF: 0x80, OF: 0x800 };

type RegisterFile = 'gpr' | 'mmx' | 'xmm' | 'st' | 'other';

/** What ModRM.rm, ModRM.reg or VEX.vvvv names. */
export interface Operand {
  readonly file: RegisterFile;
  /** The letters behind the kind: b, w, d, q, v, y, dq, … of the operand in memory. */
  readonly size: string;
}

/** A row of the table, taken apart. */
export interface Form {
  readonly row: OpcodeRow;
  /** The opcode without prefixes: its escape bytes (none behind VEX), then the last one. */
  readonly opcode: readonly number[];
  readonly handler: string;
  readonly operands: readonly string[];
  /** ModRM.rm; of a row without operand letters but with a ModRM byte, one of the x87 stack or memory of unknown size. */
  readonly rm: Operand | undefined;
  readonly reg: Operand | undefined;
  readonly hasModrm: boolean;
  readonly memoryOnly: boolean;
  readonly registerOnly: boolean;
  readonly byte: boolean;
  readonly lock: boolean;
  readonly nearBranch: boolean;
  readonly d64: boolean;
  /** Prefixes that would make it another row. */
  readonly taken: readonly number[];
  /** x87, MMX and SSE state belongs to the case. */
  readonly hasState: boolean;
  /** How its floating-point and packed operands are meant. */
  readonly kinds: readonly Kind[];
  /** Alignment that its memory operand must have. */
  readonly alignment: number;
  /** The processor feature it needs, as in /proc/cpuinfo. */
  readonly feature: string | undefined;
  /** Allowed error of its x87 results in units of the last place. */
  readonly ulps: number | undefined;
  readonly undefinedFlags: readonly { readonly flag: number; readonly rule: '' | '>1' | '>=n' }[];
}

const ESCAPES: Readonly<Record<OpcodeRow['map'], readonly number[]>> = {
  '': [],
  '0F': [0x0f],
  '0F38': [0x0f, 0x38],
  '0F3A': [0x0f, 0x3a],
};
/** Mandatory prefixes, by the value of VEX.pp. */
export const MANDATORY = ['NP', '66', 'F3', 'F2'] as const;
const PREFIX_BYTES = [0, 0x66, 0xf3, 0xf2];

const FILES: Readonly<Record<string, RegisterFile>> = {
  ...{ E: 'gpr', M: 'gpr', R: 'gpr', G: 'gpr', B: 'gpr', S: 'other', C: 'other', D: 'other' },
  ...{ P: 'mmx', Q: 'mmx', N: 'mmx', V: 'xmm', W: 'xmm', U: 'xmm' },
};
const operandOf = (letters: string | undefined): Operand | undefined =>
  letters === undefined
    ? undefined
    : { file: FILES[letters[0] as string] as RegisterFile, size: letters.slice(letters.indexOf('/M') + 2 || 1) };

/** How operands are meant: by their letters, then by the mnemonic. */
function kindsOf(row: OpcodeRow): Kind[] {
  const { operands, attributes } = row;
  const name = row.mnemonic.split(' ')[0] as string;
  const memory = operands.find((operand) => operand.startsWith('M')) ?? '';
  if (attributes.includes('x87')) {
    if (/^fb/.test(name)) return ['bcd'];
    if (/^fi/.test(name)) return ['integers'];
    return [memory === 'Md' ? 'f32' : memory === 'Mq' ? 'f64' : 'f80'];
  }
  const words = /^(cvt|p[if]|p2|movnt)/.test(name) ? name : (/[sp][sd]$/.exec(name)?.[0] ?? '');
  const kinds = new Set<Kind>();
  const text = /^p/.test(name) ? operands.join() : `${words},${operands.join()}`;
  if (/[sp]s/.test(text)) kinds.add('f32');
  if (/[sp]d/.test(text)) kinds.add('f64');
  if (/^cvt(.*(si|dq|pi))|dp[ps]|blend|^mov|^and|^or|^xor|shuf|unpck/.test(name)) kinds.add('integers');
  return kinds.size > 0 ? [...kinds] : ['integers'];
}

/** Rows that take a prefix's column of the same opcode byte. */
function takenFrom(row: OpcodeRow): number[] {
  const rivals = OPCODES.filter((o) => o !== row && o.vex === row.vex && o.map === row.map && o.byte === row.byte);
  if (row.prefix === '') {
    return PREFIX_BYTES.filter((byte, n) => byte && rivals.some((rival) => rival.prefix === MANDATORY[n]));
  }
  return row.prefix === 'NP' ? [0x66, 0xf2, 0xf3] : [0xf2, 0xf3];
}

function formOfRow(row: OpcodeRow): Form {
  const { operands, handler, attributes } = row;
  const first = operands.find((operand) => !'I1'.includes(operand[0] as string)) ?? '';
  const undefinedFlags = attributes
    .filter((a) => a.startsWith('u:'))
    .flatMap((a) => a.slice(2).split(','))
    .map((item) => {
      const [, name = '', rule = ''] = /^([A-Z]F)(>1|>=n)?$/.exec(item) ?? [];
      if (!(name in FLAG)) throw new Error(`opcode ${row.opcode}: unknown undefined flag ${item}`);
      return { flag: FLAG[name] as number, rule: rule as '' | '>1' | '>=n' };
    });
  const ulps = attributes.find((attribute) => attribute.startsWith('ulp:'));
  const inRm = operands.find((operand) => /^[EMRNUQW]/.test(operand));
  const rm = operandOf(inRm);
  const hasState =
    attributes.some((attribute) => /^(x87|mmx|sse)$/.test(attribute)) || /^F?(FX|LDMX|STMX)/.test(handler);
  return {
    row,
    opcode: [...(row.vex ? [] : ESCAPES[row.map]), row.byte],
    handler,
    operands,
    rm,
    reg: operandOf(operands.find((operand) => /^[GSCDV]|^P./.test(operand))),
    hasModrm:
      row.group !== undefined || row.modrm !== undefined || operands.some((o) => /^[EMRGSCDBNVWUQ]|^P./.test(o)),
    memoryOnly: row.only === 'm' || /^M/.test(inRm ?? ''),
    registerOnly: row.only === 'r' || /^([NU]|R\w*$)/.test(inRm ?? ''),
    byte: /^[EGMXZAO]b/.test(first),
    lock: attributes.includes('lock'),
    nearBranch: attributes.includes('f64') && operands.every((operand) => !/^[CDR]/.test(operand)),
    d64: attributes.includes('d64'),
    taken: takenFrom(row),
    hasState,
    kinds: kindsOf(row),
    alignment: /^F?XSAVE|^FXRSTOR|^XRSTOR/.test(handler)
      ? 16
      : /^(dq|ps|pd)$/.test(rm?.size ?? '') && !attributes.includes('unaligned')
        ? 16
        : 1,
    feature: attributes.find((attribute) => attribute.startsWith('f:'))?.slice(2),
    ulps: ulps === undefined ? undefined : Number(ulps.slice(4)),
    undefinedFlags,
  };
}
export const FORMS: readonly Form[] = OPCODES.map(formOfRow);

/** Handlers that are not run on the processor, and why. */
export const LEFT_OUT: Readonly<Record<string, string>> = {
  POP_SEG: 'changes the segments of the runner',
  MOV_SE: 'changes the segments of the runner',
  LOAD_FAR: 'changes the segments of the runner',
  CALL_FAR_P: 'far transfer',
  CALL_FAR_M: 'far transfer',
  JMP_FAR_P: 'far transfer',
  JMP_FAR_M: 'far transfer',
  RETF: 'far transfer',
  IRET: 'far transfer',
  INT: 'system calls',
  INT1: 'looks like the single-step trap',
  SYSCALL: 'system calls',
  SYSENTER: 'system calls',
  VMCALL: 'calls the hypervisor',
  VMMCALL: 'calls the hypervisor',
  CPUID: 'depends on the processor',
  RDTSC: 'depends on time',
  RDTSCP: 'depends on time',
  SLDT: 'the kernel emulates it under UMIP',
  STR: 'the kernel emulates it under UMIP',
  SGDT: 'the kernel emulates it under UMIP',
  SIDT: 'the kernel emulates it under UMIP',
  SMSW: 'the kernel emulates it under UMIP',
  RCPF: 'an approximation that differs by processor',
  RSQRTF: 'an approximation that differs by processor',
  RDRAND: 'random',
  RDPID: 'depends on which processor runs it',
  XGETBV: 'depends on the processor',
  XSETBV: 'left to the host',
  PKRU: 'whether CR4.PKE is set is up to the host, and WRPKRU takes memory away from the runner',
  XSAVE: 'in state-cases.ts',
  XRSTOR: 'in state-cases.ts',
};
/** Handlers that make several accesses. */
const PARTIAL = new Set(['PUSHA', 'POPA', 'ENTER']);
/**
 * A fault may leave some of it done: of several accesses, and of MOVBE with 66 and REX.W, of which an Intel Xeon (Cascade Lake) stores what lies in
 * the first of two pages although the second faults.
 */
export function isPartial(form: Form | undefined, bytes: readonly number[]): boolean {
  if (form?.handler !== 'MOVBE_MG') return form !== undefined && PARTIAL.has(form.handler);
  const prefixes = bytes.slice(0, bytes.indexOf(0x0f));
  return prefixes.includes(0x66) && ((prefixes.at(-1) as number) & 0xf8) === 0x48;
}
/** CMPS reads both operands before it compares, in an order that differs by processor; SCAS has the second operand alone. */
export const secondOperand = (form: Form, bytes: readonly number[]): number[] | undefined =>
  form.handler === 'CMPS' ? [...bytes.slice(0, -1), (bytes.at(-1) as number) + 8] : undefined;
/** Handlers that end in #GP(0) at CPL 3, whatever their operands. */
export const PRIVILEGED = new Set(
  'HLT RDMSR WRMSR MOV_RC MOV_CR MOV_RD MOV_DR CLTS LGDT LIDT LLDT LTR LMSW INVLPG INVD WBINVD SWAPGS SYSRET SYSEXIT INVPCID IN_I IN_DX OUT_I OUT_DX INS OUTS CLI STI'.split(
    ' ',
  ),
);
/** Handlers that look a selector up; only those of the model's GDT are the kernel's too. */
export const SELECTORS = new Set(['LAR', 'LSL', 'VERR', 'VERW']);
export const STRINGS = new Set(['MOVS', 'CMPS', 'STOS', 'LODS', 'SCAS', 'INS', 'OUTS']);
/** Turns of rows whose behaviour has more to it than one turn in a round would show. */
export const WEIGHTS: Readonly<Record<string, number>> = {
  ...{ MOVS: 8, CMPS: 6, STOS: 6, SCAS: 6, LODS: 3 },
  ...{ DIV_E: 4, IDIV_E: 6, MUL_E: 2, IMUL_E: 2, SHIFT_EI: 2, SHIFT_ECL: 2 },
  ...{ SHLD_I: 3, SHLD_CL: 3, SHRD_I: 3, SHRD_CL: 3 },
  ...{ CMPXCHG: 2, CMPXCHG8B: 6, ENTER: 4, LEAVE: 2, BOUND: 3, BT_EG: 2, PUSHA: 2, POPA: 2, PUSHF: 2, POPF: 3 },
};
/** Handlers whose instructions may follow one another in a sequence. */
export const SEQUENTIAL = new Set(
  'ALU_EG ALU_GE ALU_EI TEST_EG TEST_EI MOV_EG MOV_GE MOV_EI LEA XCHG_EG XCHG_ZA INC_E DEC_E NOT_E NEG_E MUL_E IMUL_E IMUL_GE IMUL_GEI SHIFT_EI SHIFT_ECL SHLD_I SHRD_I PUSH_E PUSH_I SAHF LAHF CBW CWD MOVZX MOVSX SETCC CMOVCC BT_EI BSF BSR BSWAP XADD CMPXCHG CLC STC CMC NOP PUSHF DAA DAS AAA AAS AAD'.split(
    ' ',
  ),
);

/** The rows that comparisons use in a mode. */
export function formsOf(mode: Mode): Form[] {
  return FORMS.filter((form) => {
    if (form.handler in LEFT_OUT) return false;
    return !form.row.attributes.includes(mode === LONG ? 'i64' : 'o64');
  });
}

/** The flags that `form` leaves undefined with this shift count (undefined: not known) and log2 of its operand size. */
export function undefinedFlags(form: Form, count: number | undefined, size: number): number {
  if (count === 0) return 0;
  let flags = 0;
  for (const { flag, rule } of form.undefinedFlags) {
    if (rule === '' || count === undefined || (rule === '>1' ? count > 1 : count >= 8 << size)) flags |= flag;
  }
  return flags;
}

// ---- facts from iced-x86 ----

/** iced-x86's RflagsBits to RFLAGS. */
const ICED_FLAGS: readonly (readonly [number, number])[] = [
  [1, FLAG.OF as number],
  [2, FLAG.SF as number],
  [4, FLAG.ZF as number],
  [8, FLAG.AF as number],
  [16, FLAG.CF as number],
  [32, FLAG.PF as number],
];
const toRflags = (bits: number): number => ICED_FLAGS.reduce((sum, [from, to]) => (bits & from ? sum | to : sum), 0);

/** RFLAGS bits that an instruction reads and certainly writes, or undefined if it is not valid. */
export function flagsOf(mode: Mode, bytes: readonly number[]): { read: number; written: number } | undefined {
  const decoder = new Decoder(BITS[mode], Uint8Array.from(bytes), 0);
  const instruction = decoder.decode();
  const result = instruction.isInvalid
    ? undefined
    : {
        read: toRflags(instruction.rflagsRead),
        written: toRflags(instruction.rflagsWritten | instruction.rflagsCleared | instruction.rflagsSet),
      };
  instruction.free();
  decoder.free();
  return result;
}

/** Mnemonics of iced-x86 by number. */
const NAMES: readonly string[] = Object.entries(Mnemonic)
  .filter((entry): entry is [string, number] => typeof entry[1] === 'number')
  .reduce<string[]>((names, [name, value]) => {
    names[value] = name.toLowerCase();
    return names;
  }, []);
/** Where iced-x86's name of an instruction is not the row's. */
const ALIASES: Readonly<Record<string, string>> = { wait: 'fwait', sal: 'shl' };

export const PREFIXES = [0x66, 0x67, 0xf0, 0xf2, 0xf3, 0x26, 0x2e, 0x36, 0x3e, 0x64, 0x65];
export const isPrefix = (mode: Mode, byte: number): boolean =>
  PREFIXES.includes(byte) || (mode === LONG && (byte & 0xf0) === 0x40);

/** The row that bytes select, by the table's own rules: prefixes, opcode, ModRM. */
export function formOf(mode: Mode, bytes: readonly number[]): Form | undefined {
  let i = 0;
  let repeat = 0;
  let size = false;
  for (; i < 15; i++) {
    const byte = bytes[i] as number;
    if (!isPrefix(mode, byte)) break;
    if (byte === 0xf2 || byte === 0xf3) repeat = byte;
    size ||= byte === 0x66;
  }
  const at = (n: number): number => bytes[i + n] ?? 0;
  let column: OpcodeRow['prefix'] = repeat === 0xf2 ? 'F2' : repeat === 0xf3 ? 'F3' : size ? '66' : 'NP';
  let map: OpcodeRow['map'] = '';
  let vex = false;
  let opcode = at(0);
  if (opcode === 0x0f) {
    map = at(1) === 0x38 ? '0F38' : at(1) === 0x3a ? '0F3A' : '0F';
    i += map.length / 2;
    opcode = at(0);
  } else if ((opcode & 0xfe) === 0xc4 && (mode === LONG || at(1) >= 0xc0)) {
    vex = true;
    const three = opcode === 0xc4;
    const number = three ? at(1) & 31 : 1;
    map = number === 1 ? '0F' : number === 2 ? '0F38' : number === 3 ? '0F3A' : '';
    column = MANDATORY[at(three ? 2 : 1) & 3] as OpcodeRow['prefix'];
    i += three ? 3 : 2;
    opcode = at(0);
  }
  const candidates = BY_OPCODE.get(key(vex, map, opcode)) ?? [];
  const modrm = at(1);
  const fits = ({ row }: Form): boolean => {
    if (row.modrm !== undefined) return row.modrm === modrm;
    if (row.group !== undefined && row.group !== ((modrm >> 3) & 7)) return false;
    return row.only === undefined || (row.only === 'r') === modrm >= 0xc0;
  };
  const exact = (form: Form): number => (form.row.modrm === undefined ? 1 : 0);
  const fitting = candidates.filter(fits).sort((a, b) => exact(a) - exact(b));
  return fitting.find(({ row }) => row.prefix === column) ?? fitting.find(({ row }) => row.prefix === '');
}
const key = (vex: boolean, map: OpcodeRow['map'], byte: number): string => `${vex} ${map} ${byte}`;
const BY_OPCODE = new Map<string, Form[]>();
for (const form of FORMS) {
  const { vex, map, byte, inOpcode } = form.row;
  for (let n = 0; n < (inOpcode ? 8 : 1); n++)
    BY_OPCODE.set(key(vex, map, byte + n), [...(BY_OPCODE.get(key(vex, map, byte + n)) ?? []), form]);
}

/**
 * What iced-x86 and the table say of bytes: the form and length of a valid instruction that both know by the same name. Length 0 if
 * iced-x86 finds no instruction. Undefined if they disagree about what it is (mandatory prefixes, extensions the core does not have).
 */
export function inBoth(mode: Mode, bytes: readonly number[]): { form: Form | undefined; length: number } | undefined {
  const decoder = new Decoder(BITS[mode], Uint8Array.from(bytes.slice(0, 15)), 0);
  const instruction = decoder.decode();
  const { isInvalid, length } = instruction;
  const iced = NAMES[instruction.mnemonic] as string;
  instruction.free();
  decoder.free();
  if (isInvalid) return { form: undefined, length: 0 };
  const form = formOf(mode, bytes);
  if (!form) return undefined;
  if (form.row.attributes.includes(mode === LONG ? 'i64' : 'o64')) return undefined;
  const name = ALIASES[iced] ?? iced;
  const same = (word: string): boolean => (form.row.prefix ? name === word : name.startsWith(word));
  if (!form.row.mnemonic.split(' ').some(same)) return undefined;
  return { form, length };
}

/** Like inBoth(), for bytes that may also be run on the processor. */
export function identify(mode: Mode, bytes: readonly number[]): { form: Form | undefined; length: number } | undefined {
  const found = inBoth(mode, bytes);
  if (!found) return undefined;
  const form = found.form ?? formOf(mode, bytes);
  if (form && (form.handler in LEFT_OUT || PRIVILEGED.has(form.handler))) return undefined;
  if (form?.handler === 'VERW' && bytes.includes(0xf0)) return undefined;
  if (!form || found.length === 0) return found.length === 0 ? found : undefined;
  const has = (...values: number[]): boolean => bytes.slice(0, found.length).some((byte) => values.includes(byte));
  // What the table leaves to the vendor; see Draft.encode().
  if (mode === LONG && form.nearBranch && has(0x66)) return undefined;
  if (form.lock && (has(0xf0) || form.handler === 'XCHG_EG')) return undefined; // may cross a cache line
  if (form.handler === 'LOOP' && has(0x66, 0xf2, 0xf3)) return undefined;
  // What is left to processors in their images; see BLANKS in cases.ts.
  if (/^f(n?st?env|n?save|rstor|ldenv|x)/.test(form.row.mnemonic)) return undefined;
  if (/^(SH[LR]D|BSWAP|LAR|LSL|VER|CALL|ARPL|UD|PUSH_SEG|PUSHF|POPF)/.test(form.handler)) return undefined;
  return found;
}
