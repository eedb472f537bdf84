/**
 * Recordings of a real KVM: JSON lines, one stimulus and everything it changed per line, behind a `meta` line that describes the
 * VM. Reads them into typed cases; every mistake is one KvmscopeError('recording') that names file and line.
 *
 * Unknown keys, blank lines and CRLF line ends are tolerated. Numbers may be JSON numbers or strings in decimal or 0x hexadecimal.
 */
import type { Vendor } from '../cpu/cpu.ts';
import { KvmscopeError } from '../errors.ts';
import type { MpState } from '../kvm/types.ts';
import { readInputText } from '../program/files.ts';

/** How one APIC stands before each case. */
export interface RecordedApic {
  /** IA32_APIC_BASE. */
  readonly base: bigint;
  /** Register 0x020 as KVM_GET_LAPIC shows it; absent: as it follows from vCPU id and mode. */
  readonly id?: number;
  readonly ldr: number;
  readonly dfr: number;
  readonly svr: number;
  readonly tpr: number;
  /** Vectors set at the start. */
  readonly irr: readonly number[];
  readonly isr: readonly number[];
  readonly tmr: readonly number[];
}

/** The VM of a recording. */
export interface RecordedVm {
  readonly config: string;
  /** `X.Y` of the recorded kernel, if the meta line names it. */
  readonly kernel?: string;
  readonly vendor: Vendor;
  readonly ids: readonly number[];
  readonly apics: readonly RecordedApic[];
  /** KVM_CAP_X2APIC_API flags. */
  readonly x2apicApi: number;
  readonly vectorHashing: boolean;
  readonly enforcePvFeatures: boolean;
  /** CPUID 0x40000001 EAX bit 11. */
  readonly sendIpiFeature: boolean;
}

/** How a case was performed. */
export type Via = 'set-msrs' | 'guest-wrmsr' | 'guest-mmio';

/** A key of `ch` or `st` and its value: vectors, a number, or whatever else was recorded. */
export type Effects = Readonly<Record<string, unknown>>;

interface CaseBase {
  /** Line in the file, from 1. */
  readonly line: number;
  readonly text: string;
  /** MP state of the vCPUs that do not execute the stimulus. */
  readonly base: MpState;
  readonly bits: 32 | 64;
  readonly cpl: 0 | 3;
}

/** One ICR write. */
export interface IcrCase extends CaseBase {
  readonly kind: 'icr';
  readonly via: Via;
  /** Index of the sender. */
  readonly from: number;
  /** MSR 0x830; for MMIO ICR2 << 32 | ICR. */
  readonly icr: bigint;
  readonly gp: number | undefined;
  readonly exit: string | undefined;
  readonly readBack: bigint | undefined;
  readonly changes: Readonly<Record<string, Effects>>;
}

/** One hypercall. */
export interface HypercallCase extends CaseBase {
  readonly kind: 'hypercall';
  readonly from: number;
  /** RAX, RBX, RCX, RDX, RSI. */
  readonly registers: readonly [bigint, bigint, bigint, bigint, bigint];
  readonly exit: string | undefined;
  /** Signed result. */
  readonly ret: bigint | undefined;
  readonly rax: bigint | undefined;
  readonly changes: Readonly<Record<string, Effects>>;
}

/** ICR writes in a row, and the state they lead to. */
export interface SequenceCase extends CaseBase {
  readonly kind: 'sequence';
  readonly via: Via;
  readonly writes: readonly { readonly from: number; readonly icr: bigint }[];
  readonly state: Readonly<Record<string, Effects>>;
}

/** What may be done with one MSR. */
export interface MsrCase extends CaseBase {
  readonly kind: 'msr';
  readonly from: number;
  readonly msr: number;
  readonly readable: boolean | undefined;
  readonly value: bigint | undefined;
  /** By recorded key: the value written and whether it was accepted. */
  readonly writes: readonly { readonly key: string; readonly value: bigint; readonly accepted: boolean }[];
}

export type RecordedCase = IcrCase | HypercallCase | SequenceCase | MsrCase;

export interface Recording {
  readonly path: string;
  readonly vm: RecordedVm;
  /** The meta line; line 0: there is none. */
  readonly meta: { readonly line: number; readonly text: string };
  readonly cases: readonly RecordedCase[];
}

type Json = Readonly<Record<string, unknown>>;

const isObject = (value: unknown): value is Json =>
  typeof value === 'object' && value !== null && !Array.isArray(value);

const U64 = (1n << 64n) - 1n;
const DECIMAL = /^\d+$/;
const NUMBER = /^(0x[0-9a-f]{1,16}|-?\d{1,20})$/i;
const LONGEST_QUOTE = 40;

function quote(value: unknown): string {
  const text = value === undefined ? 'nothing' : (JSON.stringify(value) ?? String(value));
  return text.length > LONGEST_QUOTE ? `${text.slice(0, LONGEST_QUOTE)}…` : text;
}

/** Typed access to the fields of one line; a mistake names the line and the key. */
class Fields {
  readonly json: Json;
  readonly where: string;

  constructor(json: Json, where: string) {
    this.json = json;
    this.where = where;
  }

  fail(message: string): never {
    throw new KvmscopeError('recording', `${this.where}: ${message}`);
  }

  has(key: string): boolean {
    return this.json[key] !== undefined && this.json[key] !== null;
  }

  /** A whole number of at most 64 bits. */
  integer(key: string, value: unknown = this.json[key]): bigint {
    if (typeof value === 'number' && Number.isSafeInteger(value)) return BigInt(value);
    if (typeof value === 'string' && NUMBER.test(value)) {
      const number = BigInt(value);
      if (number <= U64) return number;
    }
    return this.fail(`"${key}" must be a 64-bit number such as "0x4510", not ${quote(value)}`);
  }

  unsigned(key: string, value: unknown = this.json[key]): bigint {
    const number = this.integer(key, value);
    return number < 0n ? this.fail(`"${key}" must not be negative, but is ${quote(value)}`) : number;
  }

  /** A 64-bit register; negative numbers are two's complement. */
  register(key: string): bigint {
    const number = this.integer(key);
    return number < 0n ? BigInt.asUintN(64, number) : number;
  }

  small(key: string, max: number, value: unknown = this.json[key]): number {
    if (typeof value === 'number' && Number.isInteger(value) && value >= 0 && value <= max) return value;
    const number = this.unsigned(key, value);
    if (number > BigInt(max)) this.fail(`"${key}" must be at most ${max}, not ${quote(value)}`);
    return Number(number);
  }

  list(key: string): readonly unknown[] {
    const value = this.json[key];
    return Array.isArray(value) ? value : this.fail(`"${key}" must be a list, not ${quote(value)}`);
  }

  text(key: string): string {
    const value = this.json[key];
    return value === undefined ? '' : String(value);
  }

  flag(key: string): boolean {
    const value = this.json[key];
    if (typeof value === 'boolean') return value;
    if (value === 0 || value === 1) return value === 1;
    return this.fail(`"${key}" must be true or false, not ${quote(value)}`);
  }

  /** An object of objects: effects by vCPU id. */
  effects(key: string): Readonly<Record<string, Effects>> {
    const value = this.json[key];
    if (!isObject(value)) return this.fail(`"${key}" must be an object of effects by vCPU id, not ${quote(value)}`);
    for (const id in value) {
      const effects = value[id];
      if (!DECIMAL.test(id) || !isObject(effects)) {
        this.fail(`"${key}" must hold an object for each vCPU id, not ${quote({ [id]: effects })}`);
      }
    }
    return value as Record<string, Effects>;
  }

  vectors(key: string): readonly number[] {
    return this.has(key) ? this.list(key).map((vector) => this.small(key, 255, vector)) : [];
  }
}

// ---- the meta line ----

const BASE_BSP = 0x100n;
const BASE_X2APIC = 0xc00n;
const BASE_XAPIC = 0x800n;
const BASE_ADDRESS = 0xfee00000n;
const DFR_FLAT = 0xffffffff;
const DFR_CLUSTER = 0x0fffffff;
const SVR_ENABLED = 0x1ff;
const SVR_DISABLED = 0xff;

/** What the free text of a note and the name of a configuration say about the VM. */
interface Words {
  readonly xapic: boolean;
  readonly cluster: boolean;
  readonly cpl: 0 | 3;
  readonly enforced: boolean;
  readonly hidden: boolean;
}

function wordsOf(config: string, note: string): Words {
  const bit = /bit 11 (set|clear)/i.exec(note)?.[1].toLowerCase();
  const enforcement = /ENFORCE_PV_FEATURE_CPUID\b(?:\s+(?:is\s+)?(on|off))?/i.exec(note);
  const named = /(^|-)(no)?feat(-|$)/.exec(config);
  const mode = /(?<![\w])(x2APIC|xAPIC)(?![\w])/.exec(note)?.[1];
  return {
    xapic: /^xapic/i.test(config) || (!/^(x2|mixed)/i.test(config) && mode === 'xAPIC'),
    cluster: /DFR cluster/i.test(note) || /cluster/i.test(config),
    cpl: /CPL\s*3/i.test(note) || /cpl3/i.test(config) ? 3 : 0,
    enforced: enforcement === null ? named !== null : enforcement[1]?.toLowerCase() !== 'off',
    hidden: bit === undefined ? named?.[2] === 'no' : bit === 'clear',
  };
}

/** Parts of a note between commas and semicolons outside parentheses. */
const clauses = (note: string): string[] =>
  note
    .replace(/\([^)]*\)/g, '')
    .split(/[;,]/)
    .map((part) => part.trim());

/** Vectors that stand in IRR, ISR and TMR of vCPU `id` at the start, as the note says. */
function presetOf(note: string, id: number): Pick<RecordedApic, 'irr' | 'isr' | 'tmr'> {
  const others = /vCPUs other than (\d+)/i.exec(note);
  const preset: Record<string, readonly number[]> = { irr: [], isr: [], tmr: [] };
  if (others === null || Number(others[1]) !== id) {
    for (const [, set, vectors] of note.matchAll(/\b(IRR|ISR|TMR)\s*\{([\d,\s]*)\}/g)) {
      preset[set.toLowerCase()] = vectors.split(',').filter(Boolean).map(Number);
    }
  }
  return preset as Pick<RecordedApic, 'irr' | 'isr' | 'tmr'>;
}

/** APICs of a meta line that describes them in words only. */
function describedApics(ids: readonly number[], words: Words, note: string): RecordedApic[] {
  const listed = /LDR ((?:0x[0-9a-f]+,\s*)+0x[0-9a-f]+)/i.exec(note)?.[1].split(',').map(Number);
  const parts = clauses(note);
  return ids.map((id, index) => {
    const own = parts
      .filter((part) => new RegExp(`^(?:sender |vCPU )?${id}\\b(?! and)`).test(part))
      .map((part) => part.replace(/^\D*\d+/, ''))
      .join(' ');
    const mode = /(?<![\w])(x2APIC|xAPIC)(?![\w])/.exec(own)?.[1];
    const xapic = mode === undefined ? words.xapic : mode === 'xAPIC';
    const off = /globally[ -]disabled/i.test(own);
    const bits = off ? 0n : xapic ? BASE_XAPIC : BASE_X2APIC;
    const ldr = (listed?.length === ids.length ? listed[index] : index < 8 ? 1 << index : 0) ?? 0;
    return {
      base: BASE_ADDRESS | bits | (id === 0 ? BASE_BSP : 0n),
      ldr: xapic ? (ldr << 24) >>> 0 : 0,
      dfr: words.cluster ? DFR_CLUSTER : DFR_FLAT,
      svr: /software[ -]disabled/i.test(own) ? SVR_DISABLED : SVR_ENABLED,
      tpr: 0,
      ...presetOf(note, id),
    };
  });
}

function listedApics(meta: Fields, ids: readonly number[], note: string): RecordedApic[] {
  const list = meta.list('apics');
  if (list.length !== ids.length) meta.fail(`"apics" describes ${list.length} APICs for ${ids.length} vCPU ids`);
  return list.map((json, index) => {
    if (!isObject(json)) return meta.fail(`"apics" must hold objects, not ${quote(json)}`);
    const apic = new Fields(json, meta.where);
    const u32 = (key: string, otherwise: number): number => (apic.has(key) ? apic.small(key, 0xffffffff) : otherwise);
    const preset = presetOf(note, ids[index] as number);
    return {
      base: apic.unsigned('base'),
      ...(apic.has('id') ? { id: u32('id', 0) } : {}),
      ldr: u32('ldr', 0),
      dfr: u32('dfr', DFR_FLAT),
      svr: u32('svr', SVR_ENABLED),
      tpr: apic.has('tpr') ? apic.small('tpr', 0xff) : 0,
      irr: apic.has('irr') ? apic.vectors('irr') : preset.irr,
      isr: apic.has('isr') ? apic.vectors('isr') : preset.isr,
      tmr: apic.has('tmr') ? apic.vectors('tmr') : preset.tmr,
    };
  });
}

const MP_STATES: Readonly<Record<string, MpState>> = {
  wfs: 'init-received',
  'wait-for-sipi': 'init-received',
  '2': 'init-received',
  halted: 'halted',
  '3': 'halted',
  running: 'runnable',
  runnable: 'runnable',
  '0': 'runnable',
  uninitialized: 'uninitialized',
  '1': 'uninitialized',
};

/** What the lines of a file inherit from its meta line. */
interface Defaults {
  readonly vm: RecordedVm;
  readonly via: Via | undefined;
  readonly base: MpState;
  readonly bits: 32 | 64;
  readonly cpl: 0 | 3;
}

function readBits(fields: Fields, otherwise: 32 | 64): 32 | 64 {
  if (!fields.has('bits')) return otherwise;
  const bits = fields.small('bits', 64);
  return bits === 32 || bits === 64 ? bits : fields.fail(`"bits" must be 32 or 64, not ${bits}`);
}

function readCpl(fields: Fields, otherwise: 0 | 3): 0 | 3 {
  if (!fields.has('cpl')) return otherwise;
  const cpl = fields.small('cpl', 3);
  return cpl === 0 || cpl === 3 ? cpl : fields.fail(`"cpl" must be 0 or 3, not ${cpl}`);
}

const VIA: Readonly<Record<string, Via>> = {
  'kvm-set-msrs': 'set-msrs',
  'set-msrs': 'set-msrs',
  'guest-wrmsr': 'guest-wrmsr',
  'guest-mmio': 'guest-mmio',
};

function readVia(fields: Fields, otherwise: Via | undefined): Via | undefined {
  if (!fields.has('via')) return otherwise;
  const via = VIA[fields.text('via').toLowerCase().replace(/[_ ]+/g, '-')];
  return via ?? fields.fail(`"via" must be KVM_SET_MSRS, guest-wrmsr or guest-mmio, not ${quote(fields.json.via)}`);
}

function readMeta(meta: Fields): Defaults {
  const config = meta.text('config');
  const note = meta.text('note');
  const words = wordsOf(config, note);
  const ids = meta.list('ids').map((id) => meta.small('ids', 0xffffffff, id));
  if (ids.length === 0) meta.fail('"ids" names no vCPU');
  if (new Set(ids).size !== ids.length) meta.fail('"ids" names a vCPU twice');
  const api = meta.has('x2apic_api') ? meta.integer('x2apic_api') : -1n;
  const kernel = /(\d+\.\d+)/.exec(meta.text('kernel'))?.[1];
  const state = /base mp_state (\d)/i.exec(note)?.[1] ?? 'wfs';
  return {
    vm: {
      config,
      ...(kernel === undefined ? {} : { kernel }),
      vendor: /intel|vmx/i.test(meta.text('module')) ? 'intel' : 'amd',
      ids,
      apics: meta.has('apics') ? listedApics(meta, ids, note) : describedApics(ids, words, note),
      // Bits 2 and 3 are about EOI broadcasts to the I/O APIC.
      x2apicApi: api < 0n ? 0 : Number(api & 3n),
      vectorHashing: !/^(n|0|false)$/i.test(meta.text('vector_hashing')),
      enforcePvFeatures: words.enforced,
      sendIpiFeature: !words.hidden,
    },
    via: readVia(meta, undefined),
    base: MP_STATES[state] ?? 'init-received',
    bits: readBits(meta, 64),
    cpl: readCpl(meta, words.cpl),
  };
}

// ---- the lines ----

/** Common fields of a line. */
function readBase(fields: Fields, defaults: Defaults, line: number, text: string): CaseBase {
  let { base } = defaults;
  if (fields.has('base')) {
    base =
      MP_STATES[fields.text('base')] ?? fields.fail(`"base" must be wfs or halted, not ${quote(fields.json.base)}`);
  }
  return { line, text, base, bits: readBits(fields, defaults.bits), cpl: readCpl(fields, defaults.cpl) };
}

function sender(fields: Fields, defaults: Defaults, id: unknown): number {
  const index = defaults.vm.ids.indexOf(fields.small('from', 0xffffffff, id));
  return index >= 0 ? index : fields.fail(`vCPU ${quote(id)} is not among the ids of the meta line`);
}

/** Who executes a line that does not say: vCPU id 0, or else the first. */
const bootstrap = (defaults: Defaults): number => Math.max(0, defaults.vm.ids.indexOf(0));

const isX2apic = (defaults: Defaults, index: number): boolean =>
  ((defaults.vm.apics[index] as RecordedApic).base & BASE_X2APIC) === BASE_X2APIC;

function readIcr(fields: Fields, defaults: Defaults, common: CaseBase): IcrCase {
  const from = fields.has('from') ? sender(fields, defaults, fields.json.from) : bootstrap(defaults);
  const { line, text, base, bits, cpl } = common;
  return {
    kind: 'icr',
    line,
    text,
    base,
    bits,
    cpl,
    via: readVia(fields, defaults.via) ?? (isX2apic(defaults, from) ? 'set-msrs' : 'guest-mmio'),
    from,
    icr: fields.unsigned('icr'),
    gp: fields.has('gp') ? fields.small('gp', 1) : undefined,
    exit: fields.has('exit') ? fields.text('exit') : undefined,
    readBack: fields.has('rb') ? fields.unsigned('rb') : undefined,
    changes: fields.effects('ch'),
  };
}

function readHypercall(fields: Fields, defaults: Defaults, common: CaseBase): HypercallCase {
  const { line, text, base, bits, cpl } = common;
  return {
    kind: 'hypercall',
    line,
    text,
    base,
    bits,
    cpl,
    from: fields.has('from') ? sender(fields, defaults, fields.json.from) : bootstrap(defaults),
    registers: [
      fields.register('nr'),
      fields.register('lo'),
      fields.register('hi'),
      fields.register('min'),
      fields.register('icr'),
    ],
    exit: fields.has('exit') ? fields.text('exit') : undefined,
    ret: fields.has('ret') ? fields.integer('ret') : undefined,
    rax: fields.has('rax') ? fields.unsigned('rax') : undefined,
    changes: fields.effects('ch'),
  };
}

function readSequence(fields: Fields, defaults: Defaults, common: CaseBase): SequenceCase {
  return {
    ...common,
    kind: 'sequence',
    via: readVia(fields, defaults.via) ?? 'set-msrs',
    writes: fields.list('seq').map((entry) => {
      if (!Array.isArray(entry) || entry.length < 2) {
        return fields.fail(`"seq" must hold pairs of sender and ICR value, not ${quote(entry)}`);
      }
      return { from: sender(fields, defaults, entry[0]), icr: fields.unsigned('seq', entry[1]) };
    }),
    state: fields.effects('st'),
  };
}

/** `write0`, `write1<<32`, `writeffffffff`: the value is hexadecimal. */
const WRITE_KEY = /^write([0-9a-f]{1,16})(?:<<(\d+))?$/i;

function readMsr(fields: Fields, defaults: Defaults, common: CaseBase): MsrCase {
  const writes = Object.keys(fields.json).flatMap((key) => {
    const match = WRITE_KEY.exec(key);
    if (match === null) return [];
    const value = BigInt.asUintN(64, BigInt(`0x${match[1]}`) << BigInt(match[2] ?? 0));
    return [{ key, value, accepted: fields.flag(key) }];
  });
  return {
    ...common,
    kind: 'msr',
    from: fields.has('from') ? sender(fields, defaults, fields.json.from) : defaults.vm.ids.length - 1,
    msr: fields.small('msr', 0xffffffff),
    readable: fields.has('read') ? fields.flag('read') : undefined,
    value: fields.has('value') ? fields.unsigned('value') : undefined,
    writes,
  };
}

function readCase(fields: Fields, defaults: Defaults, common: CaseBase): RecordedCase {
  if (fields.has('msr')) return readMsr(fields, defaults, common);
  if (fields.has('seq')) return readSequence(fields, defaults, common);
  if (fields.has('nr')) return readHypercall(fields, defaults, common);
  if (fields.has('icr')) return readIcr(fields, defaults, common);
  return fields.fail('no case: it has none of "icr", "nr", "seq" and "msr"');
}

/** Vectors of a 256-bit set whose 32-bit words MSRs `first` … `first` + 7 hold. */
function surveyedVectors(words: ReadonlyMap<number, bigint>, first: number): number[] {
  const vectors: number[] = [];
  for (let vector = 0; vector < 256; vector++) {
    if (((words.get(first + (vector >> 5)) ?? 0n) >> BigInt(vector & 31)) & 1n) vectors.push(vector);
  }
  return vectors;
}

/**
 * The VM of an MSR survey without meta line: two x2APIC vCPUs, the one surveyed with the id, ISR, TMR and IRR that the survey reads.
 */
function surveyDefaults(lines: readonly Fields[]): Defaults {
  const words = new Map<number, bigint>();
  for (const line of lines) {
    if (line.has('msr') && line.has('value')) words.set(line.small('msr', 0xffffffff), line.unsigned('value'));
  }
  const id = Number((words.get(0x802) ?? 1n) & 0xffffffffn);
  const plain = { ldr: 0, dfr: DFR_FLAT, svr: SVR_ENABLED, tpr: 0, irr: [], isr: [], tmr: [] };
  const apics = [
    ...(id === 0 ? [] : [{ ...plain, base: BASE_ADDRESS | BASE_X2APIC | BASE_BSP }]),
    {
      ...plain,
      base: BASE_ADDRESS | BASE_X2APIC | (id === 0 ? BASE_BSP : 0n),
      isr: surveyedVectors(words, 0x810),
      tmr: surveyedVectors(words, 0x818),
      irr: surveyedVectors(words, 0x820),
    },
  ];
  const vm: RecordedVm = {
    config: 'survey',
    vendor: 'amd',
    ids: id === 0 ? [0] : [0, id],
    apics,
    x2apicApi: 0,
    vectorHashing: true,
    enforcePvFeatures: false,
    sendIpiFeature: true,
  };
  return { vm, via: undefined, base: 'init-received', bits: 64, cpl: 0 };
}

/** The text of a recording; `path` is for messages. Throws KvmscopeError('recording') naming the line of the first mistake. */
export function parseRecording(text: string, path: string): Recording {
  const lines: { readonly fields: Fields; readonly number: number; readonly text: string }[] = [];
  for (const [at, raw] of text.split('\n').entries()) {
    // `trim` also takes CR and a byte order mark.
    const line = raw.trim();
    if (line === '') continue;
    const where = `${path}:${at + 1}`;
    let json: unknown;
    try {
      json = JSON.parse(line);
    } catch {
      throw new KvmscopeError('recording', `${where}: not JSON; a recording holds one JSON object per line`);
    }
    if (!isObject(json)) throw new KvmscopeError('recording', `${where}: a line must be a JSON object`);
    lines.push({ fields: new Fields(json, where), number: at + 1, text: line });
  }
  const [first] = lines;
  if (first === undefined) throw new KvmscopeError('recording', `${path}: an empty file is no recording`);
  let defaults: Defaults;
  let meta = { line: 0, text: '' };
  if (isObject(first.fields.json.meta)) {
    defaults = readMeta(new Fields(first.fields.json.meta, first.fields.where));
    meta = { line: first.number, text: first.text };
    lines.shift();
  } else if (first.fields.has('msr')) {
    defaults = surveyDefaults(lines.map(({ fields }) => fields));
  } else {
    return first.fields.fail('no "meta": the first line of a recording describes the VM');
  }
  if (lines.length === 0) throw new KvmscopeError('recording', `${path}: no cases behind the meta line`);
  const cases = lines.map(({ fields, number, text: line }) =>
    readCase(fields, defaults, readBase(fields, defaults, number, line)),
  );
  return { path, vm: defaults.vm, meta, cases };
}

/** Reads a recording from a file. Throws KvmscopeError('not-found' or 'recording'). */
export function readRecording(path: string): Recording {
  let text: string;
  try {
    text = readInputText(path);
  } catch (error) {
    if (error instanceof KvmscopeError) throw error;
    const { code } = error as NodeJS.ErrnoException;
    if (code === 'ENOENT') throw new KvmscopeError('not-found', `no such file: ${path}`);
    throw new KvmscopeError('not-found', `cannot read ${path} (${code ?? 'unknown error'})`);
  }
  return parseRecording(text, path);
}
