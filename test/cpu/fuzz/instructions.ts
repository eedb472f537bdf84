/** Bytes to execute: noise, and encodings drawn from the instruction table with prefixes, operands and displacements at random. */
import { OPCODES, type OpcodeRow } from '../../../src/cpu/opcodes.ts';
import type { Random } from './random.ts';

/** Rows that pass control or change the mode come more often than their number. */
const CONTROL = OPCODES.filter((row) => row.attributes.includes('end'));
const LEGACY = [0x66, 0x67, 0xf2, 0xf3, 0xf0, 0x26, 0x2e, 0x36, 0x3e, 0x64, 0x65];
const MANDATORY: Readonly<Record<string, number>> = { 66: 0x66, F3: 0xf3, F2: 0xf2 };
const MAPS: Readonly<Record<string, readonly number[]>> = {
  '': [],
  '0F': [0x0f],
  '0F38': [0x0f, 0x38],
  '0F3A': [0x0f, 0x3a],
};
const VEX_MAP: Readonly<Record<string, number>> = { '0F': 1, '0F38': 2, '0F3A': 3 };
const VEX_PREFIX: Readonly<Record<string, number>> = { 66: 1, F3: 2, F2: 3 };

/** Appends one instruction of a row; `long`: REX is a prefix. */
function encode(row: OpcodeRow, long: boolean, random: Random, out: number[]): void {
  if (random.oneIn(3)) for (let n = random.below(3); n >= 0; n--) out.push(random.pick(LEGACY));
  if (row.vex) {
    const w = random.below(2);
    const vvvv = random.oneIn(8) ? random.below(16) : 15;
    const pp = VEX_PREFIX[row.prefix] ?? 0;
    out.push(0xc4, 0xe0 | (VEX_MAP[row.map] ?? 0), (w << 7) | (vvvv << 3) | (random.oneIn(8) ? 4 : 0) | pp, row.byte);
  } else {
    const mandatory = MANDATORY[row.prefix];
    if (mandatory !== undefined) out.push(mandatory);
    if (long && random.oneIn(2)) out.push(0x40 | random.below(16));
    out.push(...(MAPS[row.map] ?? []), row.byte | (row.inOpcode ? random.below(8) : 0));
  }
  if (row.modrm !== undefined) out.push(row.modrm);
  else if (row.group !== undefined || row.only !== undefined || row.operands.some((o) => /^[EGMRSCDPQNVWUB]/.test(o))) {
    const mod = row.only === 'r' ? 3 : row.only === 'm' ? random.below(3) : random.below(4);
    const rm = random.below(8);
    out.push((mod << 6) | ((row.group ?? random.below(8)) << 3) | rm);
    if (mod !== 3) {
      if (rm === 4) out.push(random.below(256));
      const bytes = mod === 1 ? 1 : mod === 2 || rm === 5 ? 4 : 0;
      displacement(bytes, random, out);
    }
  }
  for (const operand of row.operands) {
    if (/^[IJ]/.test(operand))
      displacement(/b/.test(operand) ? 1 : /w/.test(operand) ? 2 : random.pick([2, 4, 4, 8]), random, out);
    else if (operand === 'P') displacement(random.pick([4, 6]), random, out);
    else if (operand === 'O') displacement(random.pick([2, 4, 8]), random, out);
  }
}

/** Small numbers, negative ones, and anything. */
function displacement(bytes: number, random: Random, out: number[]): void {
  const sign = random.oneIn(2) ? 0 : 0xff;
  const wild = random.oneIn(4);
  for (let i = 0; i < bytes; i++) out.push(i === 0 || wild ? random.below(256) : sign);
}

/** 24 to 60 bytes or so. */
export function code(long: boolean, random: Random): number[] {
  const out: number[] = [];
  const length = 24 + random.below(32);
  const noise = random.below(8);
  while (out.length < length) {
    if (random.below(8) < noise) for (let n = random.below(8); n >= 0; n--) out.push(random.below(256));
    else encode(random.pick(random.oneIn(4) ? CONTROL : OPCODES), long, random, out);
  }
  return out;
}
