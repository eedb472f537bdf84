/** Compares what the processor and the core did with a case, and says what differs. */
import { Decoder, Formatter, FormatterSyntax, OpKind } from 'iced-x86';
import { REGISTERS } from '../../../src/cpu/registers.ts';
import { FX_FCW, FX_FDP, FX_FIP, FX_FOP, FX_FSW, FX_FTW, FX_MXCSR, FX_ST, FX_XMM } from './fp-values.ts';
import { BITS, CODE, CODE16, COMPAT32, DONE, LONG, type NativeCase, type Outcome } from './layout.ts';
import { linearWidth, vendor } from './processor.ts';

const NAMES = REGISTERS.filter(({ group }) => group === 'gpr').map(({ name }) => name);
/** TF is how cases are single-stepped; RF in a fault's image is the kernel's business. */
const M64 = 0xffffffffffffffffn;
const IGNORED_FLAGS = 0x10100;
const hex = (value: bigint | number): string => `0x${value.toString(16)}`;

/** What differs, one line each, processor first; empty if nothing does. Of two faulting operands either may be reported. */
export function differences(c: NativeCase, native: Outcome, model: Outcome): string[] {
  const lines = differencesFrom(c, native, model);
  if (lines.length === 0 || !model.second) return lines;
  return differencesFrom(c, native, { ...model, ...model.second }).length === 0 ? [] : lines;
}

function differencesFrom(c: NativeCase, native: Outcome, model: Outcome): string[] {
  const lines: string[] = [];
  const differ = (what: string, a: bigint | number, b: bigint | number): void => {
    if (a !== b) lines.push(`${what}: processor ${hex(a)}, core ${hex(b)}`);
  };
  // An access across the end of a 4 GiB segment may or may not raise #GP or #SS (SDM vol. 3, 5.3).
  const wraps = model.trap === 14 && model.cr2 >= 0xfffffff0n && model.cr2 <= 0x100000000n;
  const general = native.trap === 12 || native.trap === 13;
  if (c.mode === COMPAT32 && wraps && general) return lines;
  // With a base, some processors want the offset canonical, others (and the core) the linear address.
  const based = c.mode === LONG && c.bytes.some((byte) => byte === 0x64 || byte === 0x65);
  if (based && general && model.trap === 14 && model.cr2 >= 0x800000000000n) return lines;
  differ('trap', native.trap, model.trap);
  if (native.trap !== model.trap) return lines;
  // INT3 and INTO are traps to the processor; as exits of the core they are intercepted before RIP moves.
  const software = native.trap === 3 || native.trap === 4 ? BigInt(c.bytes.length) : 0n;
  if (native.trap !== DONE) differ('error code', native.error, model.error);
  // A fault in the middle leaves some of them done; processors differ in how much.
  if (c.partial && native.trap !== DONE) return lines;
  if (native.trap === 14) differ('cr2', native.cr2, model.cr2);
  differ('rip', native.rip, model.rip + software);
  const mask = ~(IGNORED_FLAGS | (native.trap === DONE ? c.undefinedFlags : c.flagsAtFault));
  differ('rflags', (native.rflags & mask) >>> 0, (model.rflags & mask) >>> 0);
  for (let n = 0; n < (c.mode === LONG ? 16 : 8); n++) {
    const width = c.mode === LONG ? 64 : 32;
    const mask = c.undefinedBits?.register === n ? ~c.undefinedBits.bits : M64;
    const [a, b] = [native, model].map((o) => BigInt.asUintN(width, (o.registers[n] as bigint) & mask)) as [
      bigint,
      bigint,
    ];
    differ(NAMES[n] as string, a, b);
  }
  if (native.fx && model.fx) lines.push(...stateDifferences(c, native.fx, model.fx));
  if (native.changed !== model.changed || native.hash !== model.hash) {
    const show = (o: Outcome): string => o.words.map((w) => `[${hex(w.address)}]=${hex(w.value)}`).join(' ');
    lines.push(
      `memory: processor ${native.changed} words ${show(native)}`,
      `        core ${model.changed} words ${show(model)}`,
    );
  }
  return lines;
}

const little = (image: Uint8Array, at: number, bytes: number): bigint => {
  let value = 0n;
  for (let i = bytes - 1; i >= 0; i--) value = (value << 8n) | BigInt(image[at + i] as number);
  return value;
};

/** Bits of FSW: rounding up, and underflow. */
const C1 = 0x200n;
const UE = 0x10n;
/** The least normal number. */
const LEAST = (1n << 64n) | (1n << 63n);
/** True if two 80-bit values are at most `ulps` neighbours apart. */
function near(a: bigint, b: bigint, ulps: number): boolean {
  // Without the integer bit, neighbours are neighbouring integers.
  const rank = (v: bigint): bigint => (((v >> 64n) & 0x7fffn) << 63n) | (v & 0x7fffffffffffffffn);
  const distance = rank(a) - rank(b);
  return a >> 79n === b >> 79n && distance <= ulps && -distance <= ulps;
}

/**
 * True if the instruction of a case at this instruction pointer has a memory operand. Without one FDP is reserved (SDM vol. 1, 8.1.8): AMD
 * processors and the core keep the last pointer, Intel ones that have CPUID.7:EBX bit 6 none of an instruction without an exception.
 */
function hasMemory(c: NativeCase, fip: bigint): boolean {
  const at = Number(fip) - (c.mode === CODE16 ? 0 : CODE) - c.at;
  if (at < 0 || at >= c.bytes.length) return true;
  const decoder = new Decoder(BITS[c.mode], Uint8Array.from(c.bytes.slice(at)), 0);
  const instruction = decoder.decode();
  const memory = Array.from({ length: instruction.opCount }, (_, n) => instruction.opKind(n)).includes(OpKind.Memory);
  instruction.free();
  decoder.free();
  return memory;
}

/** What differs in the x87, MMX and SSE registers. */
export function stateDifferences(c: NativeCase, native: Uint8Array, model: Uint8Array): string[] {
  const lines: string[] = [];
  const differ = (name: string, at: number, bytes: number, ignored = 0n): void => {
    const [a, b] = [little(native, at, bytes) & ~ignored, little(model, at, bytes) & ~ignored];
    if (a !== b && !(bytes === 10 && near(a, b, c.ulps ?? 0)))
      lines.push(`${name}: processor ${hex(a)}, core ${hex(b)}`);
  };
  differ('fcw', FX_FCW, 2);
  // Next to the least normal number, it is the last place that says whether a result is tiny.
  const small = (n: number): boolean => near(little(native, FX_ST + n * 16, 10) & ~(1n << 79n), LEAST, c.ulps ?? 0);
  differ('fsw', FX_FSW, 2, c.ulps ? C1 | (small(0) || small(1) ? UE : 0n) : 0n);
  differ('ftw', FX_FTW, 1);
  differ('mxcsr', FX_MXCSR, 4);
  for (let n = 0; n < 8; n++) differ(`st${n}`, FX_ST + n * 16, 10);
  for (let n = 0; n < (c.mode === LONG ? 16 : 8); n++) differ(`xmm${n}`, FX_XMM + n * 16, 16);
  // AMD saves the pointers of the last x87 instruction only while an exception of it is pending.
  if (little(native, FX_FSW, 2) & 0x80n) {
    differ('fop', FX_FOP, 2);
    // FXRSTOR64 makes them canonical for the width that the processor has; the core has 57 bits.
    const pointer = (image: Uint8Array, at: number): bigint =>
      c.mode === LONG ? BigInt.asUintN(64, BigInt.asIntN(linearWidth(), little(image, at, 8))) : little(image, at, 4);
    for (const [name, at] of [
      ['fip', FX_FIP],
      ['fdp', FX_FDP],
    ] as const) {
      const [a, b] = [pointer(native, at), pointer(model, at)];
      if (a !== b && name === 'fdp' && vendor() === 'intel' && !hasMemory(c, pointer(native, FX_FIP))) continue;
      if (a !== b) lines.push(`${name}: processor ${hex(a)}, core ${hex(b)}`);
    }
  }
  return lines;
}

/** The instructions of a case, one line each. */
export function disassemble(c: NativeCase): string[] {
  const decoder = new Decoder(BITS[c.mode], Uint8Array.from(c.bytes), 0);
  decoder.ip = BigInt((c.mode === CODE16 ? 0 : CODE) + c.at);
  const formatter = new Formatter(FormatterSyntax.Nasm);
  const lines: string[] = [];
  while (decoder.canDecode) {
    const from = decoder.position;
    const instruction = decoder.decode();
    const bytes = c.bytes.slice(from, decoder.position).map((byte) => byte.toString(16).padStart(2, '0'));
    lines.push(`${hex(instruction.ip)}  ${bytes.join(' ')}  ${formatter.format(instruction)}`);
    instruction.free();
  }
  formatter.free();
  decoder.free();
  return lines;
}

function showState(c: NativeCase, fx: Uint8Array): string {
  const show = (name: string, at: number, bytes: number): string => `${name}=${hex(little(fx, at, bytes))}`;
  return [
    show('fcw', FX_FCW, 2),
    show('fsw', FX_FSW, 2),
    show('ftw', FX_FTW, 1),
    show('mxcsr', FX_MXCSR, 4),
    ...Array.from({ length: 8 }, (_, n) => show(`st${n}`, FX_ST + n * 16, 10)),
    ...Array.from({ length: c.mode === LONG ? 16 : 8 }, (_, n) => show(`xmm${n}`, FX_XMM + n * 16, 16)),
  ].join(' ');
}

/** Everything needed to understand one disagreement. */
export function report(c: NativeCase, lines: readonly string[]): string {
  const count = c.mode === LONG ? 16 : 8;
  const registers = NAMES.slice(0, count).map((name, n) => `${name}=${hex(c.registers[n] as bigint)}`);
  return [
    `${BITS[c.mode]}-bit code, ${c.step ? 'one step' : 'to the INT3 behind it'}, rflags=${hex(c.rflags)}, undefined flags ${hex(c.undefinedFlags)}`,
    ...disassemble(c).map((line) => `    ${line}`),
    `    ${registers.join(' ')}`,
    ...(c.fx ? [`    ${showState(c, c.fx)}`] : []),
    ...c.pokes.map(
      (poke) => `    [${hex(poke.address)}] = ${hex(BigInt.asUintN(poke.bytes * 8, poke.value))} (${poke.bytes} bytes)`,
    ),
    ...lines.map((line) => `  ${line}`),
  ].join('\n');
}
