/**
 * The one instruction table. `scripts/build-core.ts` turns it into the decoder's tables and the handler numbers
 * (`core/tables.generated.ts`); comparisons with processors draw their cases from it.
 *
 * A row is: opcode, mnemonic, operands, handler (`NAME` or `NAME:sub`, a function or a case of one under `core/`), attributes.
 *
 * Opcode: `[VEX] [NP|66|F3|F2] [0F|0F 38|0F 3A] byte [selector]`, in hex. A mandatory prefix names one column of the opcode's byte; NP is the
 * column without 66, F2 and F3; a row without any fills the columns that no other row claims. Of 66 and F2/F3 the latter select.
 * Selector: `+r` low three bits name a register; `/n` ModRM.reg; `m`, `r` (alone or behind `/n`) memory or register operand only; two hex
 * digits: that ModRM byte.
 *
 * Operands (SDM vol. 2, appendix A.2 letters): E = ModRM.rm register or memory, M = memory only, R = register only, G = ModRM.reg,
 * B = VEX.vvvv, S = segment register, C/D = control/debug register, Z = register in the opcode, A = rAX, I = immediate, J = relative target,
 * O = memory offset, P = far pointer, 1 = the constant one; Pq and Qq = MMX register and MMX register or memory, N = MMX register in
 * ModRM.rm; V, W and U the same for XMM registers; `Rd/Mb` = 32-bit register or byte in memory. Sizes: b = 8, w = 16, v = 16/32/64 by
 * operand size, z = 16/32 (immediates, sign-extended), d = 32, q = 64, y = 32/64, t = 80, dq = 128, ss, sd, ps, pd = single and double
 * scalars and vectors, `bs` = 8-bit immediate sign-extended, `iv` = full-size immediate.
 *
 * Attributes: lock = LOCK allowed with a memory destination; d64 = operand size 64 by default in 64-bit mode; f64 = always 64 there;
 * i64 = #UD in 64-bit mode; o64 = #UD outside it; end = ends a decoded block (control transfer, or changes what follows);
 * x87, mmx, sse = needs that state (CR0.EM, CR0.TS, CR4.OSFXSR; SDM vol. 3, table 13-1 and 13.1); unaligned = a 16-byte memory operand
 * need not be aligned;
 * f:NAME = the feature that the row belongs to, by its name in Linux's /proc/cpuinfo; rows without one are in every x86-64 processor;
 * u:AF,OF>1,CF>=n = flags that the instruction leaves undefined (SDM vol. 2): always, or if the masked count is above 1, or if it
 * reaches the operand's width. A masked count of 0 changes no flag;
 * ulp:n = results may differ from a processor's by n units of the last place (and C1 with them). The decoder looks at none of these three;
 * comparisons with processors do.
 *
 * What is missing: MISSING, below the grammar.
 */
import { BITS } from './opcodes/bits.ts';
import { GENERAL } from './opcodes/general.ts';
import { SIMD } from './opcodes/simd.ts';
import { SSE_FLOAT } from './opcodes/sse-float.ts';
import { STATE } from './opcodes/state.ts';
import { X87 } from './opcodes/x87.ts';

/** Instructions that are not in the table, by group: their opcodes raise #UD. */
export const MISSING: readonly string[] = [
  'AVX, AVX2, F16C, FMA, XOP, AVX-512, AMX',
  'GFNI, VAES, VPCLMULQDQ, Key Locker',
  '3DNow!, SSE4A',
  'RTM: XBEGIN, XEND, XABORT, XTEST',
  'CET: shadow-stack instructions; ENDBR is a no-op',
  'WAITPKG, MONITORX, MWAITX, MOVDIRI, MOVDIR64B, ENQCMD, PTWRITE, RDPRU, HRESET',
  'INVLPGB, TLBSYNC, PCONFIG, WRMSRNS, UINTR, FRED',
  'SMX: GETSEC',
  'SMM: RSM',
  'VMX and SVM other than VMCALL and VMMCALL',
];

export interface OpcodeRow {
  /** The opcode as written in the table. */
  readonly opcode: string;
  readonly vex: boolean;
  /** The mandatory prefix; '' if the row fills every column that is left. */
  readonly prefix: '' | 'NP' | '66' | 'F3' | 'F2';
  readonly map: '' | '0F' | '0F38' | '0F3A';
  /** The opcode's last byte. */
  readonly byte: number;
  /** `+r`. */
  readonly inOpcode: boolean;
  /** `/n`. */
  readonly group: number | undefined;
  readonly only: 'm' | 'r' | undefined;
  /** The whole ModRM byte. */
  readonly modrm: number | undefined;
  readonly mnemonic: string;
  readonly operands: readonly string[];
  readonly handler: string;
  readonly sub: number;
  readonly attributes: readonly string[];
}

const OPCODE =
  /^(VEX )?(?:(NP|66|F3|F2) )?(?:(0F(?: 38| 3A)?) (?=[0-9A-F]{2}))?([0-9A-F]{2})(?: (?:(\+r)|(?:\/([0-7]))? ?([mr])?|([0-9A-F]{2})))?$/;

function parse(line: string): OpcodeRow {
  const [opcode = '', mnemonic = '', operands = '', handler = '', attributes = ''] = line
    .split('|')
    .map((s) => s.trim());
  const found = OPCODE.exec(opcode);
  if (!found) throw new Error(`opcode table: cannot read the opcode of "${line}"`);
  const [, vex, prefix = '', map = '', byte = '', inOpcode, group, only, modrm] = found;
  const [name = '', sub = '0'] = handler.split(':');
  return {
    opcode,
    vex: vex !== undefined,
    prefix: prefix as OpcodeRow['prefix'],
    map: map.replace(' ', '') as OpcodeRow['map'],
    byte: Number.parseInt(byte, 16),
    inOpcode: inOpcode !== undefined,
    group: group === undefined ? undefined : Number(group),
    only: only as OpcodeRow['only'],
    modrm: modrm === undefined ? undefined : Number.parseInt(modrm, 16),
    mnemonic,
    operands: operands ? operands.split(',') : [],
    handler: name,
    sub: Number(sub),
    attributes: attributes.split(' ').filter(Boolean),
  };
}

export const OPCODES: readonly OpcodeRow[] = [...GENERAL, ...BITS, ...SIMD, ...SSE_FLOAT, ...STATE, ...X87].map(parse);
