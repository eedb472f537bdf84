/** The table of directives: one row per name, one function per kind. */
import type { Assembly } from './assembly.ts';
import { constant, type Expression, type ExpressionParser } from './expression.ts';
import { type Bits, misfit, OUTPUT_LIMIT, writeLittleEndian } from './layout.ts';
import { SourceFault } from './lexer.ts';
import { listArguments } from './macro.ts';

/** One use of a directive. */
export interface Use {
  /** Lower case, with its dot. */
  readonly name: string;
  readonly text: string;
  /** Offset of the directive in `text`, and of what follows it. */
  readonly at: number;
  readonly rest: number;
}

type Handler = (assembly: Assembly, use: Use) => void;

/** Directives that say something about the object file or the listing; a program image has neither. */
const WITHOUT_EFFECT: readonly string[] = [
  '.arch',
  '.cpu',
  '.eject',
  '.extern',
  '.file',
  '.global',
  '.globl',
  '.hidden',
  '.ident',
  '.internal',
  '.list',
  '.loc',
  '.local',
  '.nolist',
  '.protected',
  '.psize',
  '.sbttl',
  '.size',
  '.title',
  '.type',
];

/** Call-frame information for debuggers, as compilers write it; also without effect. */
const CALL_FRAME: readonly string[] = [
  'adjust_cfa_offset',
  'def_cfa',
  'def_cfa_offset',
  'def_cfa_register',
  'endproc',
  'escape',
  'lsda',
  'offset',
  'personality',
  'register',
  'rel_offset',
  'remember_state',
  'restore',
  'restore_state',
  'return_column',
  'same_value',
  'sections',
  'signal_frame',
  'startproc',
  'undefined',
  'val_encoded_addr',
  'val_offset',
  'window_save',
].map((name) => `.cfi_${name}`);

/** Directives of GNU as that change what a source means and are not implemented: better an error than wrong bytes. */
const UNSUPPORTED: readonly string[] = [
  '.altmacro',
  '.att_syntax',
  '.code16gcc',
  '.incbin',
  '.intel_mnemonic',
  '.octa',
  '.sleb128',
  '.struct',
  '.uleb128',
];

const data =
  (size: number): Handler =>
  (assembly, use) => {
    const parser = assembly.parser(use.text, use.rest);
    if (parser.atEnd()) return;
    do emitValue(assembly, parser, size);
    while (parser.accept(','));
    parser.expectEnd();
  };

function emitValue(assembly: Assembly, parser: ExpressionParser, size: number): void {
  const { at, kind } = parser.token;
  if (kind === 'string') throw new SourceFault('a string needs .ascii or .asciz', at);
  const expression = parser.expression();
  const value = constant(expression);
  const offset = assembly.section.reserve(size);
  const { current } = assembly.section;
  if (value === undefined) {
    current.fixups.push({ offset, size, kind: 'data', expression, end: 0, statement: assembly.context, at });
    return;
  }
  const reason = misfit(value, size, false);
  if (reason !== undefined) assembly.report(reason, at);
  writeLittleEndian(current.bytes, offset, size, value);
}

const float =
  (size: 4 | 8): Handler =>
  (assembly, { text, rest }) => {
    for (const part of text.slice(rest).split(',')) {
      const word = part.trim().replace(/^0[fFdDrR]/, '');
      const value = Number(word);
      if (word === '' || Number.isNaN(value)) throw new SourceFault(`"${part.trim()}" is not a number`, rest);
      const view = new DataView(new ArrayBuffer(size));
      if (size === 4) view.setFloat32(0, value, true);
      else view.setFloat64(0, value, true);
      assembly.section.append(new Uint8Array(view.buffer));
    }
  };

const strings =
  (terminated: boolean): Handler =>
  (assembly, use) => {
    const parser = assembly.parser(use.text, use.rest);
    if (parser.atEnd()) return;
    do {
      const token = parser.next();
      if (token.bytes === undefined) throw new SourceFault('expected a string in double quotes', token.at);
      assembly.section.append(token.bytes);
      while (parser.token.bytes !== undefined) assembly.section.append(parser.next().bytes!);
      if (terminated) assembly.section.append([0]);
    } while (parser.accept(','));
    parser.expectEnd();
  };

/** A number that must be known while reading. */
function known(parser: ExpressionParser, what: string): bigint {
  const { at } = parser.token;
  const value = constant(parser.expression());
  if (value === undefined)
    throw new SourceFault(`${what} must be known here: it depends on what follows or can still move`, at);
  return value;
}

/** `.skip n, fill`, `.zero n`, `.space n, fill`. */
const skip: Handler = (assembly, use) => {
  const parser = assembly.parser(use.text, use.rest);
  const { at } = parser.token;
  const count = parser.expression();
  const fill = parser.accept(',') ? known(parser, 'the fill value') : 0n;
  parser.expectEnd();
  repeatBytes(assembly, count, Uint8Array.of(Number(BigInt.asUintN(8, fill))), at);
};

/** `.fill repeat, size, value`. */
const fill: Handler = (assembly, use) => {
  const parser = assembly.parser(use.text, use.rest);
  const { at } = parser.token;
  const count = parser.expression();
  const size = parser.accept(',') ? known(parser, 'the size') : 1n;
  const value = parser.accept(',') ? known(parser, 'the fill value') : 0n;
  parser.expectEnd();
  if (size < 0n || size > 8n) throw new SourceFault('.fill takes sizes from 0 to 8 bytes', at);
  // GNU as takes the value from 4 bytes only; what an 8-byte pattern has above them is zero.
  const pattern = new Uint8Array(Number(size));
  writeLittleEndian(pattern, 0, Math.min(4, pattern.length), value);
  repeatBytes(assembly, count, pattern, at);
};

function repeatBytes(assembly: Assembly, count: Expression, pattern: Uint8Array, at: number): void {
  if (pattern.length === 0) return;
  const times = constant(count);
  if (times === undefined) {
    const { context, bits } = assembly;
    assembly.section.add((base) => ({ ...base, kind: 'space', count, pattern, context, at, bits }));
    return;
  }
  if (times < 0n) throw new SourceFault(`a negative size: ${times}`, at);
  if (times * BigInt(pattern.length) > BigInt(OUTPUT_LIMIT)) {
    throw new SourceFault(`more than ${OUTPUT_LIMIT >> 20} MiB at once`, at);
  }
  const length = Number(times) * pattern.length;
  const offset = assembly.section.reserve(length);
  const { bytes } = assembly.section.current;
  if (pattern.some((byte) => byte !== 0)) {
    for (let place = offset; place < offset + length; place += pattern.length) bytes.set(pattern, place);
  }
}

/** `.align n, fill, limit`; with `power`, n is the exponent of two. `size` is that of the fill value. */
const align =
  (power: boolean, size: number): Handler =>
  (assembly, use) => {
    const parser = assembly.parser(use.text, use.rest);
    const { at } = parser.token;
    const amount = parser.atEnd() ? 0n : known(parser, 'the alignment');
    let value: bigint | undefined;
    let limit = Number.POSITIVE_INFINITY;
    if (parser.accept(',')) {
      if (!parser.is(',') && !parser.atEnd()) value = known(parser, 'the fill value');
      if (parser.accept(',')) limit = Number(known(parser, 'the limit'));
    }
    parser.expectEnd();
    if (power && (amount < 0n || amount > 31n)) throw new SourceFault('.p2align takes exponents from 0 to 31', at);
    const alignment = power ? 1n << amount : amount === 0n ? 1n : amount;
    if (alignment < 1n || alignment > 1n << 31n || (alignment & (alignment - 1n)) !== 0n) {
      throw new SourceFault(`alignment ${amount} is not a power of two`, at);
    }
    const pattern = value === undefined ? undefined : { value, size };
    alignTo(assembly, alignment, pattern, limit <= 0 ? Number.POSITIVE_INFINITY : limit);
  };

function alignTo(
  assembly: Assembly,
  alignment: bigint,
  fill: { readonly value: bigint; readonly size: number } | undefined,
  limit: number,
): void {
  if (alignment === 1n) return;
  const { section, context, bits } = assembly;
  section.alignment = Math.max(section.alignment, Number(alignment));
  section.add((base) => ({ ...base, kind: 'align', alignment: Number(alignment), fill, limit, context, bits }));
}

/**
 * `.comm name, size, alignment` and `.lcomm`: zeros in .bss. Without an alignment, the largest power of two up to 16 that the size
 * fills.
 */
const common: Handler = (assembly, use) => {
  const parser = assembly.parser(use.text, use.rest);
  const { kind, text, at } = parser.next();
  if (kind !== 'name') throw new SourceFault(`${use.name} needs a name and a size`, at);
  parser.expect(',');
  const sizeAt = parser.token.at;
  const size = parser.expression();
  const bytes = constant(size);
  if (bytes === undefined) throw new SourceFault('the size must be known here', sizeAt);
  let alignment = 1n;
  if (parser.accept(',')) alignment = known(parser, 'the alignment');
  else while (alignment < 16n && alignment * 2n <= bytes) alignment *= 2n;
  if (alignment < 1n || alignment > 1n << 31n || (alignment & (alignment - 1n)) !== 0n) {
    throw new SourceFault(`alignment ${alignment} is not a power of two`, at);
  }
  parser.expectEnd();
  assembly.inSection('.bss', () => {
    alignTo(assembly, alignment, undefined, Number.POSITIVE_INFINITY);
    assembly.label(text, at);
    repeatBytes(assembly, size, Uint8Array.of(0), sizeAt);
  });
};

const org: Handler = (assembly, use) => {
  const parser = assembly.parser(use.text, use.rest);
  const { at } = parser.token;
  const target = parser.expression();
  const value = parser.accept(',') ? known(parser, 'the fill value') : 0n;
  parser.expectEnd();
  assembly.setOrigin(target, Number(BigInt.asUintN(8, value)), at);
};

/** `.set name, value`; `once`: an error if the name is taken (`.equiv`). */
const set =
  (once: boolean): Handler =>
  (assembly, use) => {
    const parser = assembly.parser(use.text, use.rest);
    const { kind, text, at } = parser.next();
    if (kind !== 'name') throw new SourceFault(`${use.name} needs a name and a value`, at);
    parser.expect(',');
    const value = parser.expression();
    parser.expectEnd();
    assembly.assign(text, value, at, once);
  };

const code =
  (bits: Bits): Handler =>
  (assembly, use) => {
    assembly.parser(use.text, use.rest).expectEnd();
    assembly.bits = bits;
  };

const section =
  (name?: string): Handler =>
  (assembly, { text, rest }) => {
    assembly.enterSection(name ?? sectionName(text, rest), text.slice(rest));
  };

function sectionName(text: string, rest: number): string {
  const name = /^\s*"?([^\s,"]+)/.exec(text.slice(rest));
  if (name === null) throw new SourceFault('.section needs a name', rest);
  return name[1];
}

const weak: Handler = (assembly, { text, rest }) => {
  for (const name of listArguments(text, rest)) assembly.symbolNamed(name).weak = true;
};

// --- conditions ----------------------------------------------------------------------------------------------------------------

type Test = (assembly: Assembly, use: Use) => boolean;

const compare =
  (holds: (value: bigint) => boolean): Test =>
  (assembly, use) => {
    const parser = assembly.parser(use.text, use.rest);
    const value = known(parser, 'the condition');
    parser.expectEnd();
    return holds(value);
  };

const defined =
  (wanted: boolean): Test =>
  (assembly, use) => {
    const parser = assembly.parser(use.text, use.rest);
    const { kind, text, at } = parser.next();
    if (kind !== 'name') throw new SourceFault(`${use.name} needs a symbol's name`, at);
    parser.expectEnd();
    return assembly.isDefined(text) === wanted;
  };

const blank =
  (wanted: boolean): Test =>
  (_, { text, rest }) =>
    (text.slice(rest).trim() === '') === wanted;

/** `.ifc a, b` compares text; quotes count as part of `.ifeqs` strings only. */
const sameText =
  (wanted: boolean): Test =>
  (_, { name, text, rest }) => {
    const [first, second = '', ...more] = listArguments(text, rest);
    if (more.length > 0) throw new SourceFault(`${name} compares two texts`, rest);
    return ((first ?? '') === second) === wanted;
  };

/** Tests of `.if…`; `.elseif` takes that of `.if`. */
export const CONDITIONS: ReadonlyMap<string, Test> = new Map([
  ['.if', compare((value) => value !== 0n)],
  ['.ifne', compare((value) => value !== 0n)],
  ['.ifeq', compare((value) => value === 0n)],
  ['.ifge', compare((value) => value >= 0n)],
  ['.ifgt', compare((value) => value > 0n)],
  ['.ifle', compare((value) => value <= 0n)],
  ['.iflt', compare((value) => value < 0n)],
  ['.ifdef', defined(true)],
  ['.ifndef', defined(false)],
  ['.ifnotdef', defined(false)],
  ['.ifb', blank(true)],
  ['.ifnb', blank(false)],
  ['.ifc', sameText(true)],
  ['.ifnc', sameText(false)],
  ['.ifeqs', sameText(true)],
  ['.ifnes', sameText(false)],
]);

// --- messages and input ----------------------------------------------------------------------------------------------------------

function message({ text, rest }: Use): string | undefined {
  const raw = text.slice(rest).trim();
  return raw === '' ? undefined : (listArguments(raw, 0)[0] ?? raw);
}

const error: Handler = (_, use) => {
  throw new SourceFault(message(use) ?? `${use.name} invoked in the source`, use.at);
};

const warning: Handler = (assembly, use) => {
  assembly.warn(message(use) ?? '.warning invoked in the source', use.at);
};

const include: Handler = (assembly, use) => {
  const path = message(use);
  if (path === undefined) throw new SourceFault('.include needs a file name in double quotes', use.rest);
  assembly.include(path, use.rest);
};

const intelSyntax: Handler = (_, { text, rest }) => {
  const argument = text.slice(rest).trim();
  if (argument === 'prefix') throw new SourceFault('registers are written without %: .intel_syntax noprefix', rest);
};

const purge: Handler = (assembly, { text, rest }) => {
  for (const name of listArguments(text, rest)) assembly.macros.delete(name.toLowerCase());
};

const unsupported: Handler = (_, { name, at }) => {
  throw new SourceFault(`${name} is not supported`, at);
};

const nothing: Handler = () => {};

/** Every directive but those that steer the input (`.macro`, `.rept`, `.if`, …), by name. */
export const DIRECTIVES: ReadonlyMap<string, Handler> = new Map<string, Handler>([
  ['.byte', data(1)],
  ['.dc.b', data(1)],
  ['.word', data(2)],
  ['.short', data(2)],
  ['.hword', data(2)],
  ['.value', data(2)],
  ['.2byte', data(2)],
  ['.long', data(4)],
  ['.int', data(4)],
  ['.4byte', data(4)],
  ['.quad', data(8)],
  ['.8byte', data(8)],
  ['.float', float(4)],
  ['.single', float(4)],
  ['.double', float(8)],
  ['.ascii', strings(false)],
  ['.asciz', strings(true)],
  ['.string', strings(true)],
  ['.zero', skip],
  ['.skip', skip],
  ['.space', skip],
  ['.fill', fill],
  ['.align', align(false, 1)],
  ['.balign', align(false, 1)],
  ['.balignw', align(false, 2)],
  ['.balignl', align(false, 4)],
  ['.p2align', align(true, 1)],
  ['.p2alignw', align(true, 2)],
  ['.p2alignl', align(true, 4)],
  ['.comm', common],
  ['.lcomm', common],
  ['.org', org],
  ['.set', set(false)],
  ['.equ', set(false)],
  ['.equiv', set(true)],
  ['.code16', code(16)],
  ['.code32', code(32)],
  ['.code64', code(64)],
  ['.text', section('.text')],
  ['.data', section('.data')],
  ['.bss', section('.bss')],
  ['.section', section()],
  ['.pushsection', (assembly, use) => assembly.pushSection(sectionName(use.text, use.rest), use.text.slice(use.rest))],
  ['.popsection', (assembly, use) => assembly.popSection(use.at)],
  ['.previous', (assembly, use) => assembly.previousSection(use.at)],
  ['.weak', weak],
  ['.error', error],
  ['.err', error],
  ['.warning', warning],
  ['.print', nothing],
  ['.include', include],
  ['.intel_syntax', intelSyntax],
  ['.purgem', purge],
  ['.end', (assembly) => assembly.stop()],
  ...[...WITHOUT_EFFECT, ...CALL_FRAME].map((name) => [name, nothing] as const),
  ...UNSUPPORTED.map((name) => [name, unsupported] as const),
]);
