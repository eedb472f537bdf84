/**
 * The assembler: GNU Intel syntax to bytes, symbols and a map of lines, without an external toolchain.
 *
 *     const program = assemble('vmcall\nhlt', { fileName: 'program.S' });
 *     program.bytes;                      // 0f 01 c1 f4
 *     locate(program, 0x1003)?.source;    // 'hlt'
 *
 * The language is that of GNU as with `.intel_syntax noprefix` (which may be written and is always on); bytes are those of GNU as
 * 2.40. Differences, all of them errors here rather than other bytes: values that do not fit, and expressions that C and GNU as
 * read differently without parentheses. `.org N` in .text is an absolute address. EVEX and XOP instructions are not known.
 */
import { KvmscopeError } from '../errors.ts';
import { Assembly, type IncludedFile, type Problem } from './assembly.ts';
import { evaluate, type GuestSymbol, isLocalName } from './expression.ts';
import { type Bits, type Call, type Context, emit, layOut, type Section } from './layout.ts';
import { SourceFault } from './lexer.ts';

export type { IncludedFile } from './assembly.ts';
export { listing } from './listing.ts';

export interface AssembleOptions {
  /** Name of the source in messages and the line map. */
  readonly fileName: string;
  /**
   * Text of an included file; undefined if there is none. A file found elsewhere than its path says is returned with the name that
   * messages and further includes should use.
   */
  readInclude?(path: string, fromFile: string): string | IncludedFile | undefined;
  /** Address of the first byte; default 0x1000. A `.org` before the first byte wins. */
  readonly origin?: number | undefined;
  /** Code size until the source says otherwise; default 64. */
  readonly bits?: Bits | undefined;
  /** Symbols defined beforehand. */
  readonly defines?: Readonly<Record<string, bigint>> | undefined;
  /** Folders in which `readInclude` is asked for includes, after the path as written. */
  readonly includeDirs?: readonly string[] | undefined;
}

export interface SourceLocation {
  readonly file: string;
  /** 1-based. */
  readonly line: number;
}

export interface Diagnostic extends SourceLocation {
  /** 1-based. */
  readonly column: number;
  readonly message: string;
  /** The line as written; in a macro as expanded. */
  readonly sourceLine: string;
  /** Macro calls that led here, innermost first. */
  readonly calls: readonly (SourceLocation & { readonly macro: string })[];
}

/** The bytes of one statement. */
export interface LineEntry extends SourceLocation {
  readonly address: number;
  readonly length: number;
  /** Code size in which it was assembled. */
  readonly bits: Bits;
  /** The line, trimmed; of a statement in a macro, or one of several on a line, that statement. */
  readonly source: string;
  /** The outermost macro call it comes from, if it comes from one. */
  readonly calledFrom?: SourceLocation;
}

export interface Program {
  /** Address of the lowest byte. */
  readonly origin: number;
  /** The lowest segment; the whole program unless it has gaps of 64 KiB and more. */
  readonly bytes: Uint8Array;
  /** Runs of bytes by address; smaller gaps are zeros. */
  readonly segments: readonly { readonly address: number; readonly bytes: Uint8Array }[];
  /** `_start`, else the first byte. */
  readonly entry: number;
  /** Labels and constants by name, as unsigned 64-bit numbers. */
  readonly symbols: ReadonlyMap<string, bigint>;
  /** Names in `symbols` that are addresses of the program, not constants. */
  readonly labels: ReadonlySet<string>;
  /** By address, without overlaps. */
  readonly lines: readonly LineEntry[];
  /** Code size at the entry. */
  readonly bits: Bits;
  /** What `.warning` said. */
  readonly warnings: readonly Diagnostic[];
}

/** Every error of a source; the message shows each with its line and a caret. */
export class AssemblyError extends KvmscopeError {
  readonly diagnostics: readonly Diagnostic[];

  constructor(diagnostics: readonly Diagnostic[]) {
    super('syntax', diagnostics.map((diagnostic) => diagnosticText(diagnostic, 'error')).join('\n'));
    this.name = 'AssemblyError';
    this.diagnostics = diagnostics;
  }
}

/** `file:line:column: error: message`, the line, a caret, and the macro calls. */
export function diagnosticText(diagnostic: Diagnostic, severity: 'error' | 'warning'): string {
  const { file, line, column, message, sourceLine, calls } = diagnostic;
  // Tabs stay tabs under the line, so that the caret stands where the reader sees the column.
  const margin = sourceLine
    .slice(0, column - 1)
    .replaceAll(/[^\t]/g, ' ')
    .padEnd(column - 1);
  const from = calls.map((call) => `  in macro "${call.macro}", called from ${call.file}:${call.line}`);
  return [`${file}:${line}:${column}: ${severity}: ${message}`, `    ${sourceLine}`, `    ${margin}^`, ...from].join(
    '\n',
  );
}

/** Default address of a program without `.org`. */
export const DEFAULT_ORIGIN = 0x1000;

/** Assembles a source. Throws AssemblyError with every error found. */
export function assemble(source: string, options: AssembleOptions): Program {
  const { fileName, origin = DEFAULT_ORIGIN, bits = 64, defines = {} } = options;
  const assembly = new Assembly(bits, origin, (path, fromFile) => openInclude(options, path, fromFile));
  for (const [name, value] of Object.entries(defines)) assembly.define(name, value);
  assembly.read(source, fileName);
  const { sections, reportAt } = assembly;
  layOut(sections, reportAt);
  const symbols = symbolValues(assembly);
  const segments = emit(sections, reportAt);
  if (assembly.errors.length > 0) throw new AssemblyError(diagnostics(assembly.errors));
  const lines = lineEntries(sections);
  const start = segments[0]?.address ?? sections[0].base;
  const entry = Number(symbols.get('_start') ?? BigInt(start));
  const atEntry = lines.find(({ address, length }) => entry >= address && entry < address + length);
  return {
    origin: start,
    bytes: segments[0]?.bytes ?? new Uint8Array(0),
    segments,
    entry,
    symbols,
    labels: new Set([...symbols.keys()].filter((name) => assembly.isLabel(name))),
    lines,
    bits: atEntry?.bits ?? bits,
    warnings: diagnostics(assembly.warnings),
  };
}

/** The statement whose bytes stand at `address`. */
export function locate(program: Program, address: number | bigint): LineEntry | undefined {
  const wanted = Number(address);
  const { lines } = program;
  let low = 0;
  let high = lines.length;
  while (low < high) {
    const middle = (low + high) >> 1;
    if (lines[middle].address + lines[middle].length <= wanted) low = middle + 1;
    else high = middle;
  }
  const found = lines[low] as LineEntry | undefined;
  return found !== undefined && found.address <= wanted ? found : undefined;
}

function openInclude(options: AssembleOptions, path: string, fromFile: string): IncludedFile | undefined {
  const { readInclude, includeDirs = [] } = options;
  if (readInclude === undefined) return undefined;
  for (const candidate of [path, ...includeDirs.map((folder) => `${folder.replace(/\/$/, '')}/${path}`)]) {
    const found = readInclude(candidate, fromFile);
    if (found !== undefined) return typeof found === 'string' ? { file: candidate, text: found } : found;
  }
  return undefined;
}

function symbolValues(assembly: Assembly): Map<string, bigint> {
  const values = new Map<string, bigint>();
  for (const symbol of assembly.symbols.values()) {
    if (isLocalName(symbol.name) || !(symbol.place ?? symbol.value)) continue;
    const value = symbolValue(symbol, assembly);
    if (value !== undefined) values.set(symbol.name, BigInt.asUintN(64, value));
  }
  return values;
}

function symbolValue(symbol: GuestSymbol, assembly: Assembly): bigint | undefined {
  try {
    return evaluate({ kind: 'symbol', symbol, at: 0 });
  } catch (error) {
    if (!(error instanceof SourceFault)) throw error;
    const definition = assembly.definitionOf(symbol);
    if (definition !== undefined) assembly.reportAt(definition.context, error.message, definition.at);
    return undefined;
  }
}

function diagnostics(problems: readonly Problem[]): Diagnostic[] {
  const found = [...problems]
    .sort((a, b) => a.context.order - b.context.order || a.at - b.at)
    .map(({ context, message, at }) => {
      const { statement, call } = context;
      return {
        file: statement.file,
        line: statement.line,
        column: statement.column + Math.min(at, statement.text.length),
        message,
        sourceLine: statement.sourceLine,
        calls: callChain(call).map(({ macro, statement: at }) => ({ macro, file: at.file, line: at.line })),
      };
    });
  // A symbol that is missing can be found missing twice: in a definition and where that is used.
  const seen = new Set<string>();
  return found.filter((diagnostic) => {
    const { file, line, column, message } = diagnostic;
    const key = `${file}:${line}:${column}:${message}:${diagnostic.calls.map((call) => call.line).join()}`;
    return !seen.has(key) && seen.add(key);
  });
}

/** Macro calls that led to a statement, innermost first. */
function callChain(innermost: Call | undefined): Call[] {
  const chain: Call[] = [];
  for (let call = innermost; call !== undefined; call = call.outer) chain.push(call);
  return chain;
}

function lineEntries(sections: readonly Section[]): LineEntry[] {
  const entries: LineEntry[] = [];
  for (const section of sections) {
    for (const fragment of section.fragments) {
      if (fragment.kind === 'bytes') {
        for (const { offset, length, context, bits } of fragment.lines) {
          entries.push(lineEntry(fragment.address + offset, length, context, bits));
        }
      } else if (fragment.kind !== 'org' && fragment.length > 0) {
        entries.push(lineEntry(fragment.address, fragment.length, fragment.context, fragment.bits));
      }
    }
  }
  return entries.sort((a, b) => a.address - b.address);
}

function lineEntry(address: number, length: number, { statement, call }: Context, bits: Bits): LineEntry {
  const { file, line, text, sourceLine } = statement;
  // Several statements on a line: show the one that the bytes are of.
  const isWhole = call === undefined && !sourceLine.replace(/["'#].*$/, '').includes(';');
  const source = (isWhole ? sourceLine : text).trim();
  const outermost = callChain(call).at(-1)?.statement;
  const entry = { address, length, file, line, bits, source };
  return outermost === undefined ? entry : { ...entry, calledFrom: { file: outermost.file, line: outermost.line } };
}
