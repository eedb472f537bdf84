/**
 * Rows of the instruction table: x87, and FWAIT. The grammar is described in ../opcodes.ts.
 *
 * Registers are implicit: ST(0), and ST(i) by ModRM.rm. Arithmetic has the operation as `sub`, in the order of ModRM.reg of D8; loads
 * and stores have the format, see FORMAT. Aliases that no manual names any more are what processors make of them.
 */

const ARITHMETIC = ['add', 'mul', 'com', 'comp', 'sub', 'subr', 'div', 'divr'];
/** DC and DE have the reversed operations in each other's places. */
const REVERSED = [0, 1, 2, 3, 5, 4, 7, 6];
/** Formats in memory by number: their operand letters. Number 5 is packed BCD. */
const FORMAT = ['Md', 'Mq', 'Mw', 'Md', 'Mq', 'Mt', 'Mt'];

const row = (opcode: string, mnemonic: string, operands: string, handler: string, attributes = 'f:fpu'): string =>
  `${opcode} | ${mnemonic} | ${operands} | ${handler} | x87 ${attributes}`;
const loads = (opcode: string, mnemonic: string, format: number): string =>
  row(`${opcode} m`, mnemonic, FORMAT[format] as string, `FLD_M:${format}`);
/** `how`: 0 store, 8 store and pop, 24 truncate, store and pop. */
const stores = (opcode: string, mnemonic: string, format: number, how: number): string =>
  row(`${opcode} m`, mnemonic, FORMAT[format] as string, `FST_M:${format + how}`, how === 24 ? 'f:pni' : undefined);
/** Largest error against a processor, in units of the last place (SDM vol. 1, 8.3.10). */
const TRANSCENDENTAL = 'f:fpu ulp:1';

export const X87: readonly string[] = [
  ...ARITHMETIC.flatMap((name, i) => [
    row(`D8 /${i} m`, `f${name}`, 'Md', `FARITH_M:${i}`),
    row(`D8 /${i} r`, `f${name}`, '', `FARITH:${i}`),
    row(`DC /${i} m`, `f${name}`, 'Mq', `FARITH_M:${i + 8}`),
    row(`DE /${i} m`, `fi${name}`, 'Mw', `FARITH_M:${i + 16}`),
    row(`DA /${i} m`, `fi${name}`, 'Md', `FARITH_M:${i + 24}`),
  ]),
  ...REVERSED.flatMap((op, i) =>
    op === 2 || op === 3
      ? [row(`DC /${i} r`, `f${ARITHMETIC[op]}`, '', `FARITH:${op}`)]
      : [
          row(`DC /${i} r`, `f${ARITHMETIC[op]}`, '', `FARITH_TO:${op}`),
          row(`DE /${i} r`, `f${ARITHMETIC[op]}p`, '', `FARITH_TO:${op + 8}`),
        ],
  ),
  row('DE /2 r', 'fcomp', '', 'FARITH:3'),
  row('DE D9', 'fcompp', '', 'FCOMPP:0'),
  row('DA E9', 'fucompp', '', 'FCOMPP:1'),
  row('DD /4 r', 'fucom', '', 'FUCOM:0'),
  row('DD /5 r', 'fucomp', '', 'FUCOM:1'),
  row('DB /6 r', 'fcomi', '', 'FCOMI:0'),
  row('DF /6 r', 'fcomip', '', 'FCOMI:1'),
  row('DB /5 r', 'fucomi', '', 'FCOMI:2'),
  row('DF /5 r', 'fucomip', '', 'FCOMI:3'),

  loads('D9 /0', 'fld', 0),
  loads('DD /0', 'fld', 1),
  loads('DF /0', 'fild', 2),
  loads('DB /0', 'fild', 3),
  loads('DF /5', 'fild', 4),
  loads('DF /4', 'fbld', 5),
  loads('DB /5', 'fld', 6),
  stores('D9 /2', 'fst', 0, 0),
  stores('D9 /3', 'fstp', 0, 8),
  stores('DD /2', 'fst', 1, 0),
  stores('DD /3', 'fstp', 1, 8),
  stores('DF /2', 'fist', 2, 0),
  stores('DF /3', 'fistp', 2, 8),
  stores('DB /2', 'fist', 3, 0),
  stores('DB /3', 'fistp', 3, 8),
  stores('DF /7', 'fistp', 4, 8),
  stores('DF /6', 'fbstp', 5, 8),
  stores('DB /7', 'fstp', 6, 8),
  stores('DF /1', 'fisttp', 2, 24),
  stores('DB /1', 'fisttp', 3, 24),
  stores('DD /1', 'fisttp', 4, 24),
  row('D9 /0 r', 'fld', '', 'FLD'),
  row('DD /2 r', 'fst', '', 'FST:0'),
  row('DD /3 r', 'fstp', '', 'FST:1'),
  row('D9 /3 r', 'fstpnce fstp', '', 'FST:2'),
  row('DF /2 r', 'fstp', '', 'FST:1'),
  row('DF /3 r', 'fstp', '', 'FST:1'),
  ...['D9', 'DD', 'DF'].map((byte) => row(`${byte} /1 r`, 'fxch', '', 'FXCH')),
  row('DD /0 r', 'ffree', '', 'FFREE:0'),
  row('DF /0 r', 'ffreep', '', 'FFREE:1'),
  ...['b', 'e', 'be', 'u'].flatMap((condition, i) => [
    row(`DA /${i} r`, `fcmov${condition}`, '', `FCMOV:${i}`),
    row(`DB /${i} r`, `fcmovn${condition}`, '', `FCMOV:${i + 4}`),
  ]),

  row('D9 D0', 'fnop', '', 'FNOP'),
  row('D9 E0', 'fchs', '', 'FSIGN:0'),
  row('D9 E1', 'fabs', '', 'FSIGN:1'),
  row('D9 E4', 'ftst', '', 'FTST'),
  row('D9 E5', 'fxam', '', 'FXAM'),
  ...['1', 'l2t', 'l2e', 'pi', 'lg2', 'ln2', 'z'].map((name, i) =>
    row(`D9 E${(8 + i).toString(16).toUpperCase()}`, `fld${name}`, '', `FLD_CONST:${i}`),
  ),
  row('D9 F0', 'f2xm1', '', 'F2XM1', TRANSCENDENTAL),
  row('D9 F1', 'fyl2x', '', 'FYL2X', TRANSCENDENTAL),
  row('D9 F2', 'fptan', '', 'FPTAN', TRANSCENDENTAL),
  row('D9 F3', 'fpatan', '', 'FPATAN', TRANSCENDENTAL),
  row('D9 F4', 'fxtract', '', 'FXTRACT'),
  row('D9 F5', 'fprem1', '', 'FPREM:1'),
  row('D9 F6', 'fdecstp', '', 'FSTEP:7'),
  row('D9 F7', 'fincstp', '', 'FSTEP:1'),
  row('D9 F8', 'fprem', '', 'FPREM:0'),
  row('D9 F9', 'fyl2xp1', '', 'FYL2XP1', TRANSCENDENTAL),
  row('D9 FA', 'fsqrt', '', 'FSQRT'),
  row('D9 FB', 'fsincos', '', 'FSINCOS', TRANSCENDENTAL),
  row('D9 FC', 'frndint', '', 'FRNDINT'),
  row('D9 FD', 'fscale', '', 'FSCALE'),
  row('D9 FE', 'fsin', '', 'FSIN:0', TRANSCENDENTAL),
  row('D9 FF', 'fcos', '', 'FSIN:1', TRANSCENDENTAL),

  row('9B', 'fwait', '', 'FWAIT'),
  row('D9 /4 m', 'fldenv', 'M', 'FLDENV'),
  row('D9 /5 m', 'fldcw', 'Mw', 'FLDCW'),
  row('D9 /6 m', 'fnstenv', 'M', 'FNSTENV'),
  row('D9 /7 m', 'fnstcw', 'Mw', 'FNSTCW'),
  row('DD /4 m', 'frstor', 'M', 'FRSTOR'),
  row('DD /6 m', 'fnsave', 'M', 'FNSAVE'),
  row('DD /7 m', 'fnstsw', 'Mw', 'FNSTSW:0'),
  row('DF E0', 'fnstsw', '', 'FNSTSW:1'),
  // 8087 and 80287: enable and disable interrupts, protected mode; without effect since.
  row('DB E0', 'fneni feni', '', 'FNNOP'),
  row('DB E1', 'fndisi fdisi', '', 'FNNOP'),
  row('DB E2', 'fnclex', '', 'FNCLEX'),
  row('DB E3', 'fninit', '', 'FNINIT'),
  row('DB E4', 'fnsetpm fsetpm', '', 'FNNOP'),
];
