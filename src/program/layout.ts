/**
 * Fragments of sections, the choice between short and near jumps, and addresses.
 *
 * A section is a list of fragments: bytes of fixed size, and between them what can change size. Jumps start short and only grow
 * until nothing changes, with the bookkeeping of GNU as (`relax_segment`), so that both choose the same form.
 */
import { constant, type Expression, evaluate, type GuestSymbol, type Place, reduce } from './expression.ts';
import { SourceFault, type Statement } from './lexer.ts';

export type Bits = 16 | 32 | 64;

/** A number to be put into bytes once addresses are known. */
export interface Fixup {
  readonly offset: number;
  readonly size: number;
  /**
   * `data`: signed or unsigned. `signed`: must fit sign-extended. `relative`: to `end`, signed. `relative-wrapped`: the same modulo
   * its size, for 16-bit code, whose IP wraps.
   */
  readonly kind: 'data' | 'signed' | 'relative' | 'relative-wrapped';
  readonly expression: Expression;
  /** Offset in the fragment that `relative` counts from: the end of the instruction. */
  readonly end: number;
  readonly statement: Context;
  /** Column offset of the expression in its statement. */
  readonly at: number;
}

/** A statement and the macro call it comes from. */
export interface Context {
  /** Number of the statement in the order of reading. */
  readonly order: number;
  readonly statement: Statement;
  readonly call: Call | undefined;
}

/** A call of a macro, with the call that it came from itself. */
export interface Call {
  readonly macro: string;
  readonly statement: Statement;
  readonly outer: Call | undefined;
  /** Calls up to the source, this one included. */
  readonly depth: number;
}

/** Bytes that belong to one statement. */
export interface LineRange {
  readonly offset: number;
  length: number;
  readonly context: Context;
  readonly bits: Bits;
}

interface FragmentBase {
  address: number;
  /** Bytes it takes up as laid out so far. */
  length: number;
  /** Toggled in each pass: tells whether a fragment was visited already. */
  marker: boolean;
  /** Number of alignments and `.org`s before it. */
  region: number;
}

export interface BytesFragment extends FragmentBase {
  readonly kind: 'bytes';
  bytes: Uint8Array;
  readonly fixups: Fixup[];
  readonly lines: LineRange[];
}

export interface JumpFragment extends FragmentBase {
  readonly kind: 'jump';
  /** Opcode bytes of the two forms; the displacement follows them. */
  readonly short: Uint8Array;
  readonly near: Uint8Array;
  readonly nearSize: 2 | 4;
  readonly target: Expression;
  /** False: still short. */
  long: boolean;
  readonly context: Context;
  readonly at: number;
  readonly bits: Bits;
}

export interface AlignFragment extends FragmentBase {
  readonly kind: 'align';
  readonly alignment: number;
  /** Undefined: no-ops in code, zeros in data. */
  readonly fill: { readonly value: bigint; readonly size: number } | undefined;
  readonly limit: number;
  readonly context: Context;
  readonly bits: Bits;
}

export interface OrgFragment extends FragmentBase {
  readonly kind: 'org';
  readonly target: Expression;
  readonly fill: number;
  readonly context: Context;
  readonly at: number;
  readonly bits: Bits;
}

export interface SpaceFragment extends FragmentBase {
  readonly kind: 'space';
  readonly count: Expression;
  /** Bytes per count. */
  readonly pattern: Uint8Array;
  readonly context: Context;
  readonly at: number;
  readonly bits: Bits;
}

export type Fragment = BytesFragment | JumpFragment | AlignFragment | OrgFragment | SpaceFragment;

/** Bytes that one assembly may produce; more is taken for a mistake. */
export const OUTPUT_LIMIT = 64 * 1024 * 1024;

export class Section {
  readonly name: string;
  readonly isCode: boolean;
  readonly fragments: Fragment[] = [];
  alignment = 1;
  /** Address of its first byte; of .text from the start, of others after .text is laid out. */
  base: number;
  /** Bytes in fixed fragments so far. */
  size = 0;
  #current: BytesFragment;
  #region = 0;

  constructor(name: string, isCode: boolean, base: number) {
    this.name = name;
    this.isCode = isCode;
    this.base = base;
    this.#current = this.#open();
  }

  #open(): BytesFragment {
    const fragment: BytesFragment = {
      kind: 'bytes',
      address: 0,
      length: 0,
      marker: false,
      region: this.#region,
      bytes: new Uint8Array(64),
      fixups: [],
      lines: [],
    };
    this.fragments.push(fragment);
    this.#current = fragment;
    return fragment;
  }

  get current(): BytesFragment {
    return this.#current;
  }

  /** True if nothing, not even a label's fragment boundary, precedes. */
  get isEmpty(): boolean {
    return this.fragments.length === 1 && this.#current.length === 0;
  }

  here(): Place {
    return { fragment: this.#current, offset: this.#current.length };
  }

  /** Room for `count` more bytes; returns the offset at which they go. Throws SourceFault beyond OUTPUT_LIMIT. */
  reserve(count: number): number {
    if (this.size + count > OUTPUT_LIMIT)
      throw new SourceFault(`the program is larger than ${OUTPUT_LIMIT >> 20} MiB`, 0);
    const fragment = this.#current;
    const offset = fragment.length;
    const needed = offset + count;
    if (needed > fragment.bytes.length) {
      const grown = new Uint8Array(Math.max(needed, fragment.bytes.length * 2));
      grown.set(fragment.bytes);
      fragment.bytes = grown;
    }
    fragment.length = needed;
    this.size += count;
    return offset;
  }

  append(bytes: ArrayLike<number>): number {
    const offset = this.reserve(bytes.length);
    this.#current.bytes.set(bytes, offset);
    return offset;
  }

  /** Adds a fragment of changing size and opens a new fixed one behind it. */
  add(make: (base: FragmentBase) => Fragment): void {
    const fragment = make({ address: 0, length: 0, marker: false, region: this.#region });
    this.fragments.push(fragment);
    if (fragment.kind === 'align' || fragment.kind === 'org') this.#region++;
    this.#open();
  }
}

/** Reports a fault of one statement and goes on. */
export type Report = (context: Context, message: string, at: number) => void;

const PASS_LIMIT = 1000;

/** Gives every fragment of the sections its address: the first section at its base, the others behind it. */
export function layOut(sections: readonly Section[], report: Report): void {
  let end = 0;
  for (const [index, section] of sections.entries()) {
    if (index > 0) section.base = Math.ceil(end / section.alignment) * section.alignment;
    layOutSection(section, report);
    const last = section.fragments[section.fragments.length - 1];
    end = Math.max(end, last.address + last.length);
  }
}

const nearLength = (jump: JumpFragment): number => jump.near.length + jump.nearSize;

function layOutSection(section: Section, report: Report): void {
  const members = new Set<unknown>(section.fragments);
  const faults = new Set<Fragment>();
  const fault = (fragment: OrgFragment | SpaceFragment, message: string, at = fragment.at): void => {
    if (faults.has(fragment)) return;
    faults.add(fragment);
    report(fragment.context, message, at);
  };
  let address = section.base;
  for (const fragment of section.fragments) {
    fragment.address = address;
    if (fragment.kind === 'jump') {
      fragment.long = fragment.long || !isNearby(fragment.target, members);
      fragment.length = fragment.long ? nearLength(fragment) : fragment.short.length + 1;
    } else if (fragment.kind === 'align') fragment.length = padding(fragment, address);
    else if (fragment.kind === 'org') fragment.length = Math.max(0, Number(constant(fragment.target) ?? 0n) - address);
    else if (fragment.kind === 'space') {
      fragment.length = Number(constant(fragment.count) ?? 0n) * fragment.pattern.length;
    }
    address += fragment.length;
  }
  let changed = section.fragments.length > 1;
  for (let pass = 0; changed; pass++) {
    changed = false;
    let stretch = 0;
    for (const fragment of section.fragments) {
      fragment.marker = !fragment.marker;
      fragment.address += stretch;
      if (fragment.kind === 'bytes') continue;
      const length = newLength(fragment, stretch, members, fault);
      if (length !== fragment.length) {
        stretch += length - fragment.length;
        fragment.length = length;
        changed = true;
      }
    }
    if (changed && pass > PASS_LIMIT) {
      for (const fragment of section.fragments) {
        if (fragment.kind !== 'org' && fragment.kind !== 'space') continue;
        fault(fragment, 'the layout does not settle: this size depends on itself');
      }
      return;
    }
  }
  if (faults.size > 0) return;
  for (const fragment of section.fragments) {
    if (fragment.kind === 'org') checkOrg(fragment, fault);
    else if (fragment.kind === 'space') checkSpace(fragment, fault);
  }
}

/** Whether a jump's target is a label of the same section that nothing outside can move: then it may be short. */
function isNearby(target: Expression, members: ReadonlySet<unknown>): boolean {
  const reduced = reduce(target);
  if (reduced?.place === undefined || !members.has(reduced.place.fragment)) return false;
  return !mentionsWeak(target);
}

function mentionsWeak(target: Expression): boolean {
  if (target.kind === 'symbol') return isWeak(target.symbol);
  return target.kind === 'binary' && (mentionsWeak(target.left) || mentionsWeak(target.right));
}

const isWeak = (symbol: GuestSymbol): boolean => symbol.weak === true;

type Fault = (fragment: OrgFragment | SpaceFragment, message: string, at?: number) => void;

function newLength(
  fragment: Exclude<Fragment, BytesFragment>,
  stretch: number,
  members: ReadonlySet<unknown>,
  fault: Fault,
): number {
  switch (fragment.kind) {
    case 'jump':
      return fragment.long || staysShort(fragment, stretch, members) ? fragment.length : lengthen(fragment);
    case 'align':
      return padding(fragment, fragment.address);
    case 'org':
      return Math.max(0, sizeOf(fragment, fragment.target, fault) - fragment.address);
    case 'space':
      return Math.max(0, sizeOf(fragment, fragment.count, fault)) * fragment.pattern.length;
  }
}

function sizeOf(fragment: OrgFragment | SpaceFragment, expression: Expression, fault: Fault): number {
  try {
    const value = evaluate(expression);
    if (value > 1n << 48n || value < -(1n << 48n)) {
      fault(fragment, `0x${BigInt.asUintN(64, value).toString(16)} is out of range`);
      return 0;
    }
    return Number(value);
  } catch (error) {
    if (!(error instanceof SourceFault)) throw error;
    fault(fragment, error.message, error.at);
    return 0;
  }
}

function lengthen(jump: JumpFragment): number {
  jump.long = true;
  return nearLength(jump);
}

function staysShort(jump: JumpFragment, stretch: number, members: ReadonlySet<unknown>): boolean {
  const reduced = reduce(jump.target)!;
  const fragment = reduced.place!.fragment as Fragment;
  let target = fragment.address + reduced.place!.offset + Number(reduced.value);
  const ahead = fragment.marker !== jump.marker && members.has(fragment);
  if (ahead) {
    // What this pass has added so far moves a target ahead too, unless an alignment in between may swallow it.
    if (stretch < 0 || fragment.region === jump.region) target += stretch;
    else if (target < jump.address) return true;
  }
  const distance = target - (jump.address + jump.short.length + 1);
  return distance >= -128 && distance <= 127;
}

function padding({ alignment, limit }: AlignFragment, address: number): number {
  const count = (alignment - (address % alignment)) % alignment;
  return count > limit ? 0 : count;
}

const hex = (value: bigint | number): string => (value < 0 ? `-0x${(-value).toString(16)}` : `0x${value.toString(16)}`);

function checkOrg(fragment: OrgFragment, fault: Fault): void {
  const target = sizeOf(fragment, fragment.target, fault);
  if (target >= fragment.address) return;
  fault(fragment, `.org ${hex(target)} goes backwards: the program has reached ${hex(fragment.address)}`);
}

function checkSpace(fragment: SpaceFragment, fault: Fault): void {
  const count = sizeOf(fragment, fragment.count, fault);
  if (count < 0) fault(fragment, `a negative size: ${count} bytes`);
}

/** No-ops by length as GNU as writes them for generic x86-64 and for 16-bit code. */
const NOPS = [
  '90',
  '6690',
  '0f1f00',
  '0f1f4000',
  '0f1f440000',
  '660f1f440000',
  '0f1f8000000000',
  '0f1f840000000000',
  '660f1f840000000000',
  '662e0f1f840000000000',
  '66662e0f1f840000000000',
].map(fromHex);
const NOPS16 = ['90', '6690', '8d7400', '8db40000'].map(fromHex);

function fromHex(text: string): number[] {
  return text.match(/../g)!.map((pair) => Number.parseInt(pair, 16));
}

/** `count` bytes of no-ops; from 88 bytes on (12 in 16-bit code) a jump skips them. */
export function noOps(count: number, bits: Bits): Uint8Array {
  const table = bits === 16 ? NOPS16 : NOPS;
  const out = new Uint8Array(count);
  const longest = table.length;
  let at = 0;
  if (count >= longest * (bits === 16 ? 3 : 8)) {
    const near = bits === 16 ? [0x66, 0xe9, 0, 0, 0, 0] : [0xe9, 0, 0, 0, 0];
    const jump = count - 2 <= 127 ? [0xeb, count - 2] : near;
    at = jump.length;
    out.set(jump);
    if (jump === near) new DataView(out.buffer).setUint32(at - 4, count - at, true);
  }
  while (at < count) {
    const nop = table[Math.min(longest, count - at) - 1];
    out.set(nop, at);
    at += nop.length;
  }
  return out;
}

/** A run of bytes at an address. */
export interface Chunk {
  readonly address: number;
  readonly bytes: Uint8Array;
}

/** Zero gaps of this size and more are left out: what follows becomes a segment of its own. */
const GAP = 64 * 1024;

/** The bytes of laid-out sections, fixups applied. */
export function emit(sections: readonly Section[], report: Report): Chunk[] {
  const chunks: Chunk[] = [];
  let total = 0;
  for (const section of sections) {
    for (const fragment of section.fragments) {
      if (fragment.length === 0 || (fragment.kind === 'org' && fragment.fill === 0 && fragment.length >= GAP)) continue;
      total += fragment.length;
      if (total > OUTPUT_LIMIT) {
        const context = fragment.kind === 'bytes' ? fragment.lines[0]?.context : fragment.context;
        if (context) report(context, `the program is larger than ${OUTPUT_LIMIT >> 20} MiB`, 0);
        return [];
      }
      chunks.push({ address: fragment.address, bytes: fragmentBytes(fragment, section, report) });
    }
  }
  return joined(chunks);
}

function joined(chunks: readonly Chunk[]): Chunk[] {
  const out: Chunk[] = [];
  const sorted = [...chunks].sort((a, b) => a.address - b.address);
  for (let first = 0; first < sorted.length; ) {
    const start = sorted[first].address;
    let end = start;
    let next = first;
    while (next < sorted.length && sorted[next].address - end < GAP) {
      end = Math.max(end, sorted[next].address + sorted[next].bytes.length);
      next++;
    }
    const bytes = new Uint8Array(end - start);
    for (let index = first; index < next; index++) bytes.set(sorted[index].bytes, sorted[index].address - start);
    out.push({ address: start, bytes });
    first = next;
  }
  return out;
}

function fragmentBytes(fragment: Fragment, section: Section, report: Report): Uint8Array {
  switch (fragment.kind) {
    case 'bytes': {
      const bytes = fragment.bytes.subarray(0, fragment.length);
      for (const fixup of fragment.fixups) applyFixup(bytes, fragment.address, fixup, report);
      return bytes;
    }
    case 'jump':
      return jumpBytes(fragment, report);
    case 'align': {
      // A fill of 90, a no-op, means the same as none: GNU as takes longer no-ops for it too.
      const isNoOp = fragment.fill === undefined || (fragment.fill.value === 0x90n && fragment.fill.size === 1);
      if (isNoOp && section.isCode) return noOps(fragment.length, fragment.bits);
      return filled(fragment.length, fragment.fill?.value ?? 0n, fragment.fill?.size ?? 1);
    }
    case 'org':
      return new Uint8Array(fragment.length).fill(fragment.fill);
    case 'space': {
      const bytes = new Uint8Array(fragment.length);
      for (let at = 0; at < bytes.length; at += fragment.pattern.length) bytes.set(fragment.pattern, at);
      return bytes;
    }
  }
}

/** Padding with a value of `size` bytes; what is left over at the start stays zero. */
function filled(length: number, value: bigint, size: number): Uint8Array {
  const bytes = new Uint8Array(length);
  for (let at = length % size; at < length; at += size) writeLittleEndian(bytes, at, size, value);
  return bytes;
}

function jumpBytes(jump: JumpFragment, report: Report): Uint8Array {
  const bytes = new Uint8Array(jump.length);
  const opcode = jump.long ? jump.near : jump.short;
  bytes.set(opcode);
  applyFixup(
    bytes,
    jump.address,
    {
      offset: opcode.length,
      size: jump.length - opcode.length,
      kind: jump.long && jump.nearSize === 2 ? 'relative-wrapped' : 'relative',
      expression: jump.target,
      end: jump.length,
      statement: jump.context,
      at: jump.at,
    },
    report,
  );
  return bytes;
}

export function writeLittleEndian(bytes: Uint8Array, offset: number, size: number, value: bigint): void {
  let rest = BigInt.asUintN(64, value);
  for (let index = 0; index < size; index++) {
    bytes[offset + index] = Number(rest & 0xffn);
    rest >>= 8n;
  }
}

/** Why `value` does not go into `size` bytes, or undefined if it does. */
export function misfit(value: bigint, size: number, signed: boolean): string | undefined {
  if (size >= 8) return undefined;
  const half = 1n << BigInt(size * 8 - 1);
  if (value >= -half && value < (signed ? half : half * 2n)) return undefined;
  const bits = `${size * 8} bits`;
  return signed ? `${hex(value)} does not fit ${bits} sign-extended` : `${hex(value)} does not fit ${bits}`;
}

function applyFixup(bytes: Uint8Array, address: number, fixup: Fixup, report: Report): void {
  const { offset, size, kind, expression, end, statement, at } = fixup;
  let value: bigint;
  try {
    value = evaluate(expression);
  } catch (error) {
    if (!(error instanceof SourceFault)) throw error;
    report(statement, error.message, error.at);
    return;
  }
  if (kind === 'relative' || kind === 'relative-wrapped') {
    value -= BigInt(address + end);
    const reach = 1n << BigInt(size * 8 - (kind === 'relative' ? 1 : 0));
    if (value < -reach || value >= reach) {
      report(statement, `the target is ${value} bytes away, too far for a displacement of ${size * 8} bits`, at);
      return;
    }
  } else {
    const reason = misfit(value, size, kind === 'signed');
    if (reason !== undefined) {
      report(statement, reason, at);
      return;
    }
  }
  writeLittleEndian(bytes, offset, size, value);
}
