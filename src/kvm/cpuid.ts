/**
 * What CPUID shows the guest: a plausible Intel or AMD processor that claims nothing our cores cannot do. The feature bits are those of
 * `../cpu/features.ts` (SDM vol. 2, CPUID; KVM's leaves: cpuid.rst).
 */
import { MAXLINADDR, MAXPHYADDR, type Vendor } from '../cpu/cpu.ts';
import { ECX_OSXSAVE, type Feature, featureBits, xsaveLeaf } from '../cpu/features.ts';
import type { Era } from './eras.ts';

// KVM_FEATURE_* bits of leaf 0x40000001 EAX.
export const PV_CLOCKSOURCE = 0;
export const PV_NOP_IO_DELAY = 1;
export const PV_CLOCKSOURCE2 = 3;
export const PV_ASYNC_PF = 4;
export const PV_STEAL_TIME = 5;
export const PV_EOI = 6;
export const PV_UNHALT = 7;
export const PV_TLB_FLUSH = 9;
export const PV_ASYNC_PF_VMEXIT = 10;
export const PV_SEND_IPI = 11;
export const PV_POLL_CONTROL = 12;
export const PV_SCHED_YIELD = 13;
export const PV_ASYNC_PF_INT = 14;
export const PV_MAP_GPA_RANGE = 16;
export const PV_MIGRATION_CONTROL = 17;
export const PV_CLOCKSOURCE_STABLE = 24;

const KVM_BASE = 0x40000000;
const EXTENDED_BASE = 0x80000000;
const MAX_BASIC = 0xd;
const MAX_EXTENDED = 0x80000008;

/** Feature bits KVM of this version reports when user space passes KVM_GET_SUPPORTED_CPUID on. */
export function defaultPvFeatures(era: Era): number {
  const bits = [
    PV_CLOCKSOURCE,
    PV_NOP_IO_DELAY,
    PV_CLOCKSOURCE2,
    PV_ASYNC_PF,
    PV_STEAL_TIME,
    PV_EOI,
    PV_UNHALT,
    PV_TLB_FLUSH,
    PV_ASYNC_PF_VMEXIT,
    PV_SEND_IPI,
    PV_CLOCKSOURCE_STABLE,
  ];
  if (era.pvPollControl) bits.push(PV_POLL_CONTROL);
  if (era.schedYield) bits.push(PV_SCHED_YIELD);
  if (era.pvAsyncPfInt) bits.push(PV_ASYNC_PF_INT);
  return bits.reduce((mask, bit) => mask | (1 << bit), 0) >>> 0;
}

/** CPUID.1 EAX: also what RDX holds after RESET and INIT. Skylake-S, Zen 2. */
export const signature = (vendor: Vendor): number => (vendor === 'intel' ? 0x000506e3 : 0x00830f10);

// CPUID.1.
const EBX_CLFLUSH_LINE = 8 << 8;
const EDX_APIC = 1 << 9;
// CPUID.7.
const ECX_OSPKE = 1 << 4;
/** Bits of CPUID.1 EDX that AMD repeats in CPUID.80000001 EDX. */
const EDX_REPEATED = 0x0183f3ff;

export interface CpuidState {
  readonly vendor: Vendor;
  readonly vcpuId: number;
  readonly vcpuCount: number;
  /** APIC_BASE.EN: CPUID.1 EDX.APIC follows it. */
  readonly apicEnabled: boolean;
  /** CR4.OSXSAVE: CPUID.1 ECX.OSXSAVE follows it. */
  readonly osxsave: boolean;
  /** Bits 31:0 of XCR0: CPUID.0DH tells the size of what they enable. */
  readonly xcr0: number;
  /** CR4.PKE: CPUID.7 ECX.OSPKE follows it. */
  readonly ospke: boolean;
  /** Leaf 0x40000001 EAX. */
  readonly pvFeatures: number;
  /** What the VMM does not show. */
  readonly hidden: readonly Feature[];
}

/** EAX, EBX, ECX, EDX of one leaf, unsigned. */
export interface CpuidLeaf {
  readonly eax: number;
  readonly ebx: number;
  readonly ecx: number;
  readonly edx: number;
  /** False: no such leaf; the values are what the vendor's processors show then. */
  readonly found: boolean;
  /** The leaf is out of range, and these are the values of the last basic leaf. */
  readonly usedMaxBasic?: boolean;
}

const leaf = (eax: number, ebx: number, ecx: number, edx: number): CpuidLeaf => ({
  eax: eax >>> 0,
  ebx: ebx >>> 0,
  ecx: ecx >>> 0,
  edx: edx >>> 0,
  found: true,
});
const EMPTY = leaf(0, 0, 0, 0);

/** Four characters as a little-endian word. */
const word = (text: string): number => [...text].reduceRight((value, c) => value * 256 + c.charCodeAt(0), 0);
const VENDOR_WORDS: Readonly<Record<Vendor, readonly [string, string, string]>> = {
  intel: ['Genu', 'ntel', 'ineI'],
  amd: ['Auth', 'cAMD', 'enti'],
};
const BRAND = 'kvmscope virtual x86-64 CPU'.padEnd(48, '\0');

const vendorLeaf = (vendor: Vendor, max: number): CpuidLeaf => {
  const [ebx, ecx, edx] = VENDOR_WORDS[vendor];
  return leaf(max, word(ebx), word(ecx), word(edx));
};
/** Bits needed to number `count` things. */
const bitsFor = (count: number): number => (count <= 1 ? 0 : 32 - Math.clz32(count - 1));

type LeafFunction = (state: CpuidState, index: number) => CpuidLeaf;

/** The leaves that exist. */
const LEAVES: ReadonlyMap<number, LeafFunction> = new Map<number, LeafFunction>([
  [0, ({ vendor }) => vendorLeaf(vendor, MAX_BASIC)],
  [
    1,
    ({ vendor, vcpuId, vcpuCount, apicEnabled, osxsave }) =>
      leaf(
        signature(vendor),
        ((vcpuId & 0xff) << 24) | (Math.min(vcpuCount, 255) << 16) | EBX_CLFLUSH_LINE,
        featureBits(vendor, 1, 0, 'ecx') | (osxsave ? ECX_OSXSAVE : 0),
        features1(vendor, apicEnabled),
      ),
  ],
  [2, () => EMPTY],
  [4, () => EMPTY],
  [5, () => EMPTY],
  [6, () => EMPTY],
  [7, ({ vendor, ospke }, index) => structured(vendor, index, ospke)],
  [0xb, topology],
  [0xd, extendedState],
  [KVM_BASE, () => leaf(KVM_BASE + 1, word('KVMK'), word('VMKV'), word('M\0\0\0'))],
  [KVM_BASE + 1, ({ pvFeatures }) => leaf(pvFeatures, 0, 0, 0)],
  [EXTENDED_BASE, ({ vendor }) => (vendor === 'amd' ? vendorLeaf('amd', MAX_EXTENDED) : leaf(MAX_EXTENDED, 0, 0, 0))],
  [
    EXTENDED_BASE + 1,
    ({ vendor, apicEnabled }) =>
      leaf(
        vendor === 'amd' ? signature('amd') : 0,
        0,
        featureBits(vendor, EXTENDED_BASE + 1, 0, 'ecx'),
        featureBits(vendor, EXTENDED_BASE + 1, 0, 'edx') |
          (vendor === 'amd' ? features1(vendor, apicEnabled) & EDX_REPEATED : 0),
      ),
  ],
  [EXTENDED_BASE + 2, () => brand(0)],
  [EXTENDED_BASE + 3, () => brand(16)],
  [EXTENDED_BASE + 4, () => brand(32)],
  [EXTENDED_BASE + 5, () => EMPTY],
  [EXTENDED_BASE + 6, () => EMPTY],
  [EXTENDED_BASE + 7, () => EMPTY],
  [
    EXTENDED_BASE + 8,
    ({ vendor }) => leaf(MAXPHYADDR | (MAXLINADDR << 8), featureBits(vendor, EXTENDED_BASE + 8, 0, 'ebx'), 0, 0),
  ],
]);

/** A leaf with nothing but feature bits. */
const features = (vendor: Vendor, func: number, index: number): CpuidLeaf =>
  leaf(
    featureBits(vendor, func, index, 'eax'),
    featureBits(vendor, func, index, 'ebx'),
    featureBits(vendor, func, index, 'ecx'),
    featureBits(vendor, func, index, 'edx'),
  );

const structured = (vendor: Vendor, index: number, ospke: boolean): CpuidLeaf => {
  const { eax, ebx, ecx, edx } = features(vendor, 7, index);
  return leaf(eax, ebx, index === 0 && ospke ? ecx | ECX_OSPKE : ecx, edx);
};

/** CPUID.1 EDX. */
const features1 = (vendor: Vendor, apicEnabled: boolean): number =>
  featureBits(vendor, 1, 0, 'edx') & (apicEnabled ? ~0 : ~EDX_APIC);

/** Leaves whose contents depend on ECX, as far as features are concerned. */
const WITH_INDEX: ReadonlySet<number> = new Set([7, 0xd]);

/** A leaf without the bits of features that the VMM does not show (KVM_SET_CPUID2). */
function hide(shown: CpuidLeaf, { vendor, hidden }: CpuidState, func: number, index: number): CpuidLeaf {
  if (hidden.length === 0) return shown;
  const registers = { eax: shown.eax, ebx: shown.ebx, ecx: shown.ecx, edx: shown.edx };
  for (const feature of hidden) {
    const { leaf, register, bit } = feature;
    const repeated =
      vendor === 'amd' && func === EXTENDED_BASE + 1 && leaf === 1 && register === 'edx' && (EDX_REPEATED >>> bit) & 1;
    if ((leaf === func && (feature.index === index || !WITH_INDEX.has(func))) || repeated)
      registers[register] = (registers[register] & ~(1 << bit)) >>> 0;
  }
  return { ...shown, ...registers };
}

/** Leaf 0xB: one thread per core, all cores in one package, EDX = x2APIC id at every level. */
function topology({ vcpuId, vcpuCount }: CpuidState, index: number): CpuidLeaf {
  if (index === 0) return leaf(0, 1, (1 << 8) | index, vcpuId);
  if (index === 1) return leaf(bitsFor(vcpuCount), vcpuCount, (2 << 8) | index, vcpuId);
  return leaf(0, 0, index & 0xff, vcpuId);
}

/** Leaf 0xD: XSAVE. */
function extendedState({ vendor, xcr0 }: CpuidState, index: number): CpuidLeaf {
  const registers = xsaveLeaf(vendor, index, xcr0);
  return registers === undefined ? { ...EMPTY, found: false } : leaf(...registers);
}

const brand = (from: number): CpuidLeaf =>
  leaf(
    word(BRAND.slice(from, from + 4)),
    word(BRAND.slice(from + 4, from + 8)),
    word(BRAND.slice(from + 8, from + 12)),
    word(BRAND.slice(from + 12, from + 16)),
  );

/**
 * One CPUID leaf. A leaf beyond its class (basic, hypervisor, extended) repeats the last basic one on Intel and is zero on AMD
 * (get_out_of_range_cpuid_entry); a hole within the basic class is zero on both.
 */
export function cpuid(state: CpuidState, func: number, index: number): CpuidLeaf {
  const known = LEAVES.get(func);
  if (known !== undefined) return hide(known(state, index), state, func, index);
  if (state.vendor === 'intel' && func > MAX_BASIC)
    return { ...extendedState(state, index), found: false, usedMaxBasic: true };
  return { ...EMPTY, found: false };
}

/** What of a vCPU's state a leaf depends on while its VM runs, besides the vCPU's id; bits of `CpuidCache`'s `state`. */
export const CPUID_APIC_ENABLED = 1;
export const CPUID_OSXSAVE = 2;
export const CPUID_OSPKE = 4;

interface CachedLeaf {
  readonly func: number;
  readonly index: number;
  readonly vcpuId: number;
  readonly state: number;
  readonly xcr0: number;
  readonly leaf: CpuidLeaf;
}

const CACHED_LEAVES = 64;

/** The leaves of one VM that were asked for last, so that a CPUID in a loop neither composes nor allocates anything. */
export class CpuidCache {
  readonly #vm: Pick<CpuidState, 'vendor' | 'vcpuCount' | 'pvFeatures' | 'hidden'>;
  readonly #leaves: (CachedLeaf | null)[] = new Array<CachedLeaf | null>(CACHED_LEAVES).fill(null);

  constructor(vm: Pick<CpuidState, 'vendor' | 'vcpuCount' | 'pvFeatures' | 'hidden'>) {
    this.#vm = vm;
  }

  /** Leaf `func`, subleaf `index` (32 bits, signed) for the vCPU with this id; `state` is of CPUID_* bits. */
  leaf(func: number, index: number, vcpuId: number, state: number, xcr0: number): CpuidLeaf {
    const slot = (func ^ (func >>> 26) ^ (index << 3) ^ vcpuId) & (CACHED_LEAVES - 1);
    const cached = this.#leaves[slot];
    if (
      cached !== null &&
      cached.func === func &&
      cached.index === index &&
      cached.vcpuId === vcpuId &&
      cached.state === state &&
      cached.xcr0 === xcr0
    ) {
      return cached.leaf;
    }
    const apicEnabled = (state & CPUID_APIC_ENABLED) !== 0;
    const osxsave = (state & CPUID_OSXSAVE) !== 0;
    const ospke = (state & CPUID_OSPKE) !== 0;
    const leaf = cpuid({ ...this.#vm, vcpuId, apicEnabled, osxsave, ospke, xcr0 }, func >>> 0, index >>> 0);
    this.#leaves[slot] = { func, index, vcpuId, state, xcr0, leaf };
    return leaf;
  }
}
