/**
 * KVM is not one program but a row of versions. This file holds, once each, every behaviour that changed between
 * v4.19-rc1 (where KVM_HC_SEND_IPI appeared) and v7.1, with the version that changed it and the commit.
 * Handlers read a field of `Era`; only the wording of trace lines (`src/trace`) compares version numbers besides this file.
 *
 * Not modelled, because a 64-bit host with SMM and next-RIP support cannot tell: the SEND_IPI case missing from 32-bit
 * host builds before v5.0, the SMM support test of v6.2, the next-RIP tests of v6.2-v6.4 and v6.18, SRCU around the
 * fastpath (v6.5).
 */
import { KvmscopeError } from '../errors.ts';

type Scalar = boolean | number | string;

/** One behaviour and its history. */
interface SwitchRow<T extends Scalar> {
  readonly what: string;
  /** Kernel commit that last changed it; empty where the commit is not known. */
  readonly commit: string;
  /** Value at v4.19-rc1. */
  readonly first: T;
  /** Changes in version order: from this version on, this value; with the commit if it is not that of the last change. */
  readonly then: readonly Change<T>[];
}

type Change<T extends Scalar> = readonly [since: string, value: T, commit?: string];

const row = <T extends Scalar>(
  what: string,
  commit: string,
  first: T,
  ...then: readonly Change<T>[]
): SwitchRow<T> => ({ what, commit, first, then });
/** False before `version`, true from it on. */
const since = (version: string, what: string, commit: string) => row<boolean>(what, commit, false, [version, true]);
/** True before `version`, false from it on. */
const until = (version: string, what: string, commit: string) => row<boolean>(what, commit, true, [version, false]);

const TABLE = {
  // ---- hypercalls ----
  hypercallCountedFirst: since(
    '6.14',
    'the hypercalls statistic is raised before the call, not after RAX is written',
    '05a518b49dd6',
  ),
  pvEnforcement: since(
    '5.10',
    'KVM_CAP_ENFORCE_PV_FEATURE_CPUID exists: PV hypercalls can be tied to CPUID 0x40000001',
    '66570e966dd9',
  ),
  schedYield: since('5.3', 'hypercall 11 SCHED_YIELD exists', '715062970f37'),
  kickYields: since('5.4', 'KICK_CPU also yields to the kicked vCPU', ''),
  yieldCounted: since('5.13', 'directed_yield_attempted and directed_yield_successful are counted', ''),
  mapGpaRange: since('5.14', 'hypercall 12 MAP_GPA_RANGE exists', '0dbb11230437'),
  mapGpaRangeRawNumber: row<boolean>(
    'MAP_GPA_RANGE leaves for user space only if all 64 bits of RAX are 12, even for a 32-bit caller',
    '',
    false,
    ['6.9', true],
    ['6.14', false],
  ),
  fixHypercallQuirk: since(
    '5.19',
    'KVM_X86_QUIRK_FIX_HYPERCALL_INSN can be disabled: #UD instead of patching',
    'f1a9761fbb00',
  ),
  mwaitQuirk: since('6.0', 'KVM_X86_QUIRK_MWAIT_NEVER_UD_FAULTS can be disabled: #UD instead of a NOP', 'bfbcc81bb82c'),

  hypercallRetCleared: since(
    '6.14',
    'run->hypercall.ret is 0 when a hypercall leaves for user space; before: what the last one left there',
    '9a1dfeff4414',
  ),

  // ---- paravirtual interfaces ----
  pvPollControl: since('5.3', 'MSR KVM_POLL_CONTROL exists and CPUID 0x40000001 shows it by default', ''),
  pvAsyncPfInt: since(
    '5.8',
    'a page that became ready is told by an interrupt (ASYNC_PF_INT, MSRs KVM_ASYNC_PF_INT and _ACK); before: by #PF',
    '',
  ),
  stealAddressChecked: until(
    '5.6',
    'KVM_STEAL_TIME with an address outside memory raises #GP; after: accepted, nothing is written',
    'b043138246a4',
  ),
  pvTlbFlushTraced: since('5.4', 'kvm_pv_tlb_flush is traced whenever the steal-time record is written', ''),
  preemptedKeptWithoutFlush: row<boolean>(
    'the preempted byte stays set for a guest whose CPUID hides PV_TLB_FLUSH, with enforcement on',
    '1eff0ada88b4',
    false,
    ['5.10', true],
    ['5.13', false],
  ),
  preemptedAtBoundaryOnly: since(
    '5.19',
    'the preempted byte is set only if a host interrupt took the vCPU off; before: also when it sleeps or exits to user space',
    '54aa83c90198',
  ),

  // ---- KVM_HC_SEND_IPI ----
  pvIpiMinSigned: until('4.19-rc3', 'min is a signed 32-bit number', 'bdf7ffc89922'),
  pvIpiBoundCheck: since(
    '4.19-rc3',
    'APIC ids beyond the map are ignored; before: host reads beyond the array',
    'bdf7ffc89922',
  ),
  pvIpiSlotCheck: since(
    '4.19-rc3',
    'an APIC id without vCPU is skipped; before: host NULL dereference',
    'bdf7ffc89922',
  ),
  pvIpiMapCheck: since(
    '4.20',
    'no APIC map: the call returns -95; before: host NULL dereference (CVE-2018-19406)',
    '38ab012f109c',
  ),
  pvIpiHighHalfAlways: since(
    '5.6',
    'the high bitmap is handled even if min is beyond the map, and its base wraps at 2^32',
    '',
  ),
  pvIpiClamp: row<'none' | 'base' | 'index'>(
    'speculation clamp of the map index (CVE-2025-39823); invisible to the guest',
    '00d572d4cd7d',
    'none',
    ['6.17', 'base', 'c87bd4dd43a6'],
    ['7.1', 'index'],
  ),

  // ---- APIC map and matching ----
  maxVcpuId: row<number>('largest vcpu_id', '', 1023, ['5.15', 4095]),
  mapSkipsSwDisabled: since('5.4', 'software-disabled APICs are left out of the logical map', ''),
  mapRebuildOnSwDisable: since('5.4', 'clearing SVR bit 8 rebuilds the map; before: only setting it', ''),
  mapStrictIds: since('6.3', 'two vCPUs with one APIC id: no map at all; before: the first wins', '5b84b0291702'),
  mapStrictLogical: since(
    '6.3',
    'multi-bit or shared logical xAPIC ids disable the logical map; before: the last writer wins',
    '2970052481b9',
  ),
  xapicMatchById: since('6.0', 'the slow matcher compares the xAPIC id with destinations up to 0xFF only', ''),
  lowestBroadcastFixedFirst: until(
    '5.6',
    'lowest priority to physical 0xFF becomes Fixed before the fast delivery is tried',
    '',
  ),

  // ---- local APIC registers ----
  aprReadable: until('5.4', 'x2APIC MSR 0x809 (APR) reads 0; after: #GP', ''),
  x2apicHighGp: since('6.3', 'x2APIC MSR writes with bits 63:32 set raise #GP (except ICR)', 'ab52be1b310b'),
  selfIpiReservedGp: since('6.3', 'SELF_IPI values above 0xFF raise #GP', 'ba5838abb053'),
  selfIpiThroughIcr: until('5.18', 'SELF_IPI is an ICR write of 0x40000 | vector, visible when ICR is read', ''),
  icrReservedGp: since('6.12', 'x2APIC ICR bits 31:20, 17:16 and 13 raise #GP', '71bf395a276f'),
  icrStorage: row<'two 32-bit registers' | 'one 64-bit register' | 'by vendor'>(
    'how x2APIC ICR is kept; by vendor = 64-bit on Intel, two halves on AMD; ICR2 shows it after a change of the APIC mode',
    '73b42dc69be8',
    'two 32-bit registers',
    ['5.18', 'one 64-bit register', 'a57a31684d7b'],
    ['6.12', 'by vendor'],
  ),
  icrTracedAfterSend: since(
    '5.18',
    'slow path: kvm_apic shows the 64-bit ICR after sending; before: ICR2 and ICR before it',
    'a57a31684d7b',
  ),
  icrStoredAfterSend: since('5.4', 'xAPIC ICR is stored after sending; invisible to the guest', '0e6d242eccdb'),
  tdcrMasked: since('5.10', 'TDCR keeps bits 3, 1 and 0 only', ''),
  x2apicMsrLast: row<number>('last MSR that belongs to the x2APIC range', '', 0xbff, ['5.8', 0x8ff]),
  xapicIdRestored: since(
    '6.3',
    'user space moving an APIC from x2APIC to xAPIC puts the id back to bits 31:24',
    '052c3b99cbc8',
  ),
  deadlineNeedsApic: since('5.8', 'IA32_TSC_DEADLINE is ignored while the APIC is globally disabled', 'd2286ba7d574'),

  deadlineModeOnly: since(
    '5.10',
    'IA32_TSC_DEADLINE is ignored unless LVTT is in TSC-deadline mode; before: also taken in reserved mode 3',
    '',
  ),

  // ---- hardware assistance ----
  apicvAcceptTraced: since('5.17', 'kvm_apicv_accept_irq is traced when an interrupt is posted', ''),
  apicWriteRaw: since(
    '5.18',
    'a trapped APIC write is taken from the page as it stands; before: by a traced register read',
    '',
  ),
  avicReplaysIcr: until('5.18', 'an incomplete AVIC IPI writes ICR2 and ICR again; after: only sends', ''),
  ipiVirtualization: since('6.0', 'Intel IPI virtualization is used', 'd588bb9be1da'),
  x2avic: since('6.0', 'AVIC works in x2APIC mode; before: x2APIC inhibits it', ''),
  apicvInhibitedByApicBase: since('6.0', 'a changed xAPIC id or APIC base address switches APICv and AVIC off', ''),
  apicvIdInhibitClears: since('6.3', 'APICv comes back when the xAPIC ids are right again', 'd471bd853d38'),
  apicvReadsChecked: since(
    '6.3',
    'Intel APICv: RDMSR of an x2APIC MSR that is no register raises #GP; before: the processor reads its page',
    'b223649576fc',
  ),
  avicInvalidTargetSent: since(
    '6.3',
    'AVIC: an IPI with a target that does not exist is sent by KVM; before: lost',
    '5aede752a839',
  ),

  // ---- WRMSR fastpath ----
  fastpath: since('5.6', 'WRMSR exits are offered to the fastpath', '1e9e2622a149'),
  // Pulled after 5.6-rc7.
  fastpathNoShorthand: row<boolean>(
    'fastpath refuses a shorthand',
    'e1be9ac8e601',
    false,
    ['5.6-rc8', true],
    ['6.18', false, 'aeeb4c7fff52'],
  ),
  fastpathNoBroadcast: since('5.7', 'fastpath refuses destination 0xFFFFFFFF', ''),
  fastpathFixedPhysicalOnly: until(
    '6.18',
    'fastpath wants Fixed and physical; after: whatever the map delivers fast',
    '777414340085',
  ),
  fastpathCompletion: row<'skip instruction' | 'exit handled' | 're-enter guest'>(
    'what follows a handled ICR write',
    '0dd45f2cd8cc',
    'skip instruction',
    ['5.8', 'exit handled', '404d5d7bff0d'],
    ['6.12', 're-enter guest'],
  ),
  fastpathIcrWrite: row<'register' | 'split' | 'x2apic'>(
    'how the fastpath writes ICR: ordinary register write, direct send with two halves, or the x2APIC ICR write',
    '',
    'register',
    ['5.7', 'split'],
    ['5.18', 'x2apic'],
  ),
  fastpathIpiTracedLast: since('6.18', 'fastpath: kvm_apic_ipi follows the accept events', 'aeeb4c7fff52'),
  vmxExitTracedFirst: since('5.8', 'Intel: kvm_exit precedes the fastpath events', 'a9ab13ff6e84'),
  svmExitTracedFirst: since('6.6', 'AMD: kvm_exit precedes the fastpath events', ''),
  reentryCounted: since('6.4', 'exits that end in the fastpath are counted in exits', '8b703a49c9df'),
  deadlineFastpath: row<'no' | 'Intel' | 'yes'>(
    'IA32_TSC_DEADLINE has a fastpath',
    '0a94b2042419',
    'no',
    ['5.8', 'Intel', 'ae95f566b3d2'],
    ['6.18', 'yes'],
  ),
  hltFastpath: since('6.12', 'HLT is handled in the fastpath', '1876dd69dfe8'),
  invdFastpath: since('6.18', 'INVD is handled in the fastpath', '6c3d4b917995'),
} as const;

type Table = typeof TABLE;
export type SwitchName = keyof Table;
type ValueOf<R> = R extends SwitchRow<infer T> ? T : never;
/** Every switch with its value in one version; `SWITCHES` says what each means. */
export type EraSwitches = { readonly [K in SwitchName]: ValueOf<Table[K]> };

/** One version of KVM. */
export interface Era extends EraSwitches {
  /** e.g. `6.18` or `4.19-rc1`. */
  readonly name: string;
  /** Position in time: compare only with other eras. */
  readonly order: number;
  /** What makes this version worth naming; empty for versions between the named ones. */
  readonly title: string;
}

/** Last minor of each major version in range. */
const LAST_MINOR: Readonly<Record<number, number>> = { 4: 20, 5: 19, 6: 19, 7: 1 };
/** An rc counts as 1 … 98, the release as 99. */
const RELEASE = 99;

/** Order number of `X.Y` or `X.Y-rcN`, or -1 if it is not such a name or lies outside v4.19-rc1 … v7.1. */
function orderOf(name: string): number {
  const match = /^(\d+)\.(\d+)(?:-rc(\d+))?$/.exec(name);
  if (match === null) return -1;
  const major = Number(match[1]);
  const minor = Number(match[2]);
  const rc = match[3] === undefined ? RELEASE : Number(match[3]);
  const lastMinor = LAST_MINOR[major];
  if (lastMinor === undefined || minor > lastMinor || rc < 1 || rc > RELEASE) return -1;
  if (major === 4 && minor < 19) return -1;
  return (major * 1000 + minor) * 100 + rc;
}

/** A change given as `X.Y` came in the merge window, so X.Y-rc1 already has it; one that came later names its rc. */
function changeOrder(version: string): number {
  const order = orderOf(version);
  return order % 100 === RELEASE ? order - RELEASE + 1 : order;
}

function valueAt(name: SwitchName, order: number): Scalar {
  const history: SwitchRow<Scalar> = TABLE[name];
  let value: Scalar = history.first;
  for (const [version, next] of history.then) if (order >= changeOrder(version)) value = next;
  return value;
}

const SWITCH_NAMES = Object.keys(TABLE) as SwitchName[];

function makeEra(name: string, title: string): Era {
  const order = orderOf(name);
  const switches = Object.fromEntries(SWITCH_NAMES.map((key) => [key, valueAt(key, order)]));
  return Object.freeze({ name, order, title, ...(switches as unknown as EraSwitches) });
}

/** The named eras, oldest first. */
export const ERAS: readonly Era[] = [
  makeEra('4.19-rc1', 'send-IPI hypercall as merged (4180bf1b655a): no bound check'),
  makeEra('4.19', 'send-IPI hypercall with bound check'),
  makeEra('4.20', 'send-IPI hypercall survives a missing APIC map'),
  makeEra('5.0', 'baseline of the 5.x series'),
  makeEra('5.4', 'KICK_CPU yields; software-disabled APICs leave the logical map'),
  makeEra('5.5', 'last version without a WRMSR fastpath'),
  makeEra('5.6-rc1', 'ICR fastpath as merged (1e9e2622a149): shorthands accepted'),
  makeEra('5.6', 'ICR fastpath narrowed to a single target (e1be9ac8e601)'),
  makeEra('5.7', 'ICR fastpath sends directly and refuses broadcast'),
  makeEra('5.8', 'generic fastpath inside the run function'),
  makeEra('5.10', 'PV features can be enforced by CPUID'),
  makeEra('5.12', 're-enter loop in common code (d89d04ab6030)'),
  makeEra('5.15', 'MAP_GPA_RANGE, directed-yield statistics; vcpu_id up to 4095'),
  makeEra('5.18', 'x2APIC ICR is one 64-bit register'),
  makeEra('5.19', 'hypercall patching is a quirk'),
  makeEra('6.0', 'Intel IPI virtualization (d588bb9be1da) and x2AVIC'),
  makeEra('6.3', 'strict APIC map, reserved x2APIC bits raise #GP'),
  makeEra('6.4', 'fastpath exits are counted'),
  makeEra('6.5', 'SRCU around the fastpath (3f2739bd1e0b)'),
  makeEra('6.12', 'reserved ICR bits raise #GP; the ICR fastpath re-enters the guest'),
  makeEra('6.14', 'hypercalls counted first'),
  makeEra('6.17', 'speculation clamp in the send-IPI hypercall'),
  makeEra('6.18', 'fastpath takes every IPI the map can deliver fast'),
  makeEra('7.1', 'newest'),
];

/** The era used when none is asked for. */
export const NEWEST_ERA: Era = ERAS[ERAS.length - 1] as Era;

const unknownEra = (name: string): KvmscopeError =>
  new KvmscopeError('usage', `unknown KVM era '${name}'; known: ${ERAS.map((era) => era.name).join(', ')}`);

/**
 * The era of that name, or the rules of any other version `X.Y` or `X.Y-rcN` from v4.19-rc1 to v7.1.
 * A leading `v` is accepted. `5.4+pvIpiHighHalfAlways@5.6` is 5.4 with one switch as in 5.6. Throws KvmscopeError('usage') otherwise.
 */
export function resolveEra(name: string = NEWEST_ERA.name): Era {
  const plain = name.replace(/^v/, '');
  if (plain.includes('+')) return blendEra(plain);
  const named = ERAS.find((era) => era.name === plain);
  if (named !== undefined) return named;
  if (orderOf(plain) < (ERAS[0] as Era).order) throw unknownEra(name);
  return makeEra(plain, '');
}

/** `A+switch@B+…`: era A, but for the switches named, which are those of the eras behind them. */
function blendEra(name: string): Era {
  const [base, ...parts] = name.split('+') as [string, ...string[]];
  const changes = parts.map((part) => {
    const [key, from] = part.split('@') as [SwitchName, string | undefined];
    if (!SWITCH_NAMES.includes(key) || from === undefined) {
      throw new KvmscopeError(
        'usage',
        `'${part}' in '${name}' is no switch@version; 'kvmscope eras' lists the switches`,
      );
    }
    return [key, resolveEra(from)[key]];
  });
  return Object.freeze({ ...resolveEra(base), ...Object.fromEntries(changes), name });
}

const COMPARISONS: Readonly<Record<string, (a: number, b: number) => boolean>> = {
  '>=': (a, b) => a >= b,
  '<=': (a, b) => a <= b,
  '>': (a, b) => a > b,
  '<': (a, b) => a < b,
  '=': (a, b) => a === b,
};

/**
 * Whether `era` lies in `range`: terms separated by blanks (all must hold) or commas (any may): `>=4.19`, `<5.6`,
 * `>=5.6 <6.12`, `5.7..6.11`, `6.18`. An rc comes before its release, so `5.6-rc1` is `<5.6`. Throws
 * KvmscopeError('usage') for anything else.
 */
export function eraMatches(range: string, era: Era): boolean {
  const alternatives = range.split(',').map((part) => part.trim());
  if (alternatives.some((part) => part === '')) {
    throw new KvmscopeError('usage', `empty KVM version range in '${range}'; write for example '>=5.6 <6.12'`);
  }
  const results = alternatives.map((part) => {
    const terms = part.replace(/(>=|<=|>|<|=)\s+/g, '$1').split(/\s+/);
    return terms.map((term) => termMatches(term, era)).every(Boolean);
  });
  return results.some(Boolean);
}

function termMatches(term: string, era: Era): boolean {
  if (term === '*' || term === 'all') return true;
  const span = term.split('..');
  if (span.length === 2) {
    const [low, high] = span as [string, string];
    return era.order >= resolveEra(low).order && era.order <= resolveEra(high).order;
  }
  const match = /^(>=|<=|>|<|=)?(.+)$/.exec(term) as RegExpExecArray;
  const compare = COMPARISONS[match[1] ?? '='] as (a: number, b: number) => boolean;
  return compare(era.order, resolveEra(match[2] as string).order);
}

/** A switch as `kvmscope eras` shows it. */
export interface SwitchInfo {
  readonly name: SwitchName;
  readonly description: string;
  /** Kernel commit of the last change; empty if not known. */
  readonly commit: string;
  /** Value at v4.19-rc1. */
  readonly first: Scalar;
  /** Every change in version order, with its commit; empty where that is not known. */
  readonly changes: readonly { readonly since: string; readonly value: Scalar; readonly commit: string }[];
  /** Value in each era of `ERAS`, same order. */
  readonly values: readonly Scalar[];
}

/** A row's changes; its commit belongs to the last one, or to the one that others do not name. */
function changesOf({ commit, then }: SwitchRow<Scalar>): SwitchInfo['changes'] {
  const owner = then.findLastIndex(([, , own]) => own === undefined);
  return then.map(([version, value, own], i) => ({
    since: version,
    value,
    commit: own ?? (i === owner ? commit : ''),
  }));
}

/** Every switch, in the order of the table above. */
export const SWITCHES: readonly SwitchInfo[] = SWITCH_NAMES.map((name) => ({
  name,
  description: TABLE[name].what,
  commit: TABLE[name].commit,
  first: TABLE[name].first,
  changes: changesOf(TABLE[name]),
  values: ERAS.map((era) => era[name]),
}));
