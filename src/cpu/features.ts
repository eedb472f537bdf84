/**
 * The one table of processor features: the name that Linux's /proc/cpuinfo and the opcode table (`f:NAME`) have for each, its CPUID bit
 * (SDM vol. 2, CPUID; APM vol. 3, appendix E), and the vendors whose processors show it.
 *
 * A row is: `leaf[.index]:register bit`, name, vendors, and what the feature consists of if no row of the opcode table carries its name.
 * Vendors: intel, amd, both, or none for a bit that stays clear though the instructions are there.
 */
import type { Vendor } from './cpu.ts';

export type CpuidRegister = 'eax' | 'ebx' | 'ecx' | 'edx';

export interface Feature {
  readonly name: string;
  readonly leaf: number;
  /** ECX on input. */
  readonly index: number;
  readonly register: CpuidRegister;
  readonly bit: number;
  readonly vendors: readonly Vendor[];
  /** What the feature is besides instructions; '' for one that is nothing but instructions. */
  readonly system: string;
}

const TABLE = `
1:ecx 0 | pni | both |
1:ecx 1 | pclmulqdq | both |
1:ecx 3 | monitor | none |
1:ecx 9 | ssse3 | both |
1:ecx 13 | cx16 | both |
1:ecx 17 | pcid | both | process-context identifiers
1:ecx 19 | sse4_1 | both |
1:ecx 20 | sse4_2 | both |
1:ecx 21 | x2apic | both | local APIC by MSRs
1:ecx 22 | movbe | both |
1:ecx 23 | popcnt | both |
1:ecx 24 | tsc_deadline_timer | both | IA32_TSC_DEADLINE
1:ecx 25 | aes | both |
1:ecx 26 | xsave | both |
1:ecx 30 | rdrand | both |
1:ecx 31 | hypervisor | both | runs under KVM
1:edx 0 | fpu | both |
1:edx 1 | vme | both | virtual-8086 mode extensions, virtual interrupts
1:edx 2 | de | both | I/O breakpoints
1:edx 3 | pse | both | 4-MiB pages
1:edx 4 | tsc | both |
1:edx 5 | msr | both |
1:edx 6 | pae | both | 36-bit and wider page tables
1:edx 7 | mce | both | CR4.MCE; there are no machine checks
1:edx 8 | cx8 | both |
1:edx 9 | apic | both | local APIC
1:edx 11 | sep | both |
1:edx 12 | mtrr | both | MTRRs as storage: memory has no types
1:edx 13 | pge | both | global pages
1:edx 14 | mca | both | IA32_MCG_CAP, with no banks
1:edx 15 | cmov | both |
1:edx 16 | pat | both | IA32_PAT as storage
1:edx 17 | pse36 | both | 40-bit addresses of 4-MiB pages
1:edx 19 | clflush | both |
1:edx 23 | mmx | both |
1:edx 24 | fxsr | both |
1:edx 25 | sse | both |
1:edx 26 | sse2 | both |
7:ebx 0 | fsgsbase | both |
7:ebx 1 | tsc_adjust | both | IA32_TSC_ADJUST
7:ebx 3 | bmi1 | both |
7:ebx 7 | smep | both | supervisor-mode execution prevention
7:ebx 8 | bmi2 | both |
7:ebx 10 | invpcid | both |
7:ebx 18 | rdseed | both |
7:ebx 19 | adx | both |
7:ebx 20 | smap | both |
7:ebx 23 | clflushopt | both |
7:ebx 24 | clwb | both |
7:ebx 29 | sha_ni | both |
7:ecx 2 | umip | both | SGDT, SIDT, SLDT, STR and SMSW at CPL 0 only
7:ecx 3 | pku | both |
7:ecx 16 | la57 | both | 5-level paging
7:ecx 22 | rdpid | both |
7:ecx 25 | cldemote | intel |
7:edx 14 | serialize | intel |
d.1:eax 0 | xsaveopt | both |
d.1:eax 1 | xsavec | both |
d.1:eax 2 | xgetbv1 | both | XGETBV with ECX = 1
d.1:eax 3 | xsaves | both |
80000001:ecx 0 | lahf_lm | both | LAHF and SAHF in 64-bit mode
80000001:ecx 5 | abm | both |
80000001:ecx 7 | misalignsse | amd | MXCSR.MM: operands of SSE need not be aligned
80000001:ecx 8 | 3dnowprefetch | both |
80000001:edx 11 | syscall | both |
80000001:edx 20 | nx | both | no-execute pages
80000001:edx 26 | pdpe1gb | both | 1-GiB pages
80000001:edx 27 | rdtscp | both |
80000001:edx 29 | lm | both | 64-bit mode
80000008:ebx 0 | clzero | amd |
80000008:ebx 2 | xsaveerptr | amd | FXRSTOR and XRSTOR always restore the x87 pointers
80000008:ebx 9 | wbnoinvd | both |
`;

const XCR0_PKRU = 1 << 9;
/** The bits of XCR0 that can be set: x87, SSE and PKRU state. */
export const XCR0_SUPPORTED: number = 3 | XCR0_PKRU;
/** Bytes of an XSAVE area: its legacy region and its header, where x87 and SSE are; PKRU is behind them. */
const XSAVE_BYTES = 576;
const PKRU_BYTES = 8;
/** CPUID.1 ECX: CR4.OSXSAVE. */
export const ECX_OSXSAVE: number = 1 << 27;

const VENDORS: Readonly<Record<string, readonly Vendor[]>> = {
  intel: ['intel'],
  amd: ['amd'],
  both: ['intel', 'amd'],
  none: [],
};

function parse(line: string): Feature {
  const [where = '', name = '', vendors = '', system = ''] = line.split('|').map((s) => s.trim());
  const [, leaf = '', index = '0', register = '', bit = ''] =
    /^([0-9a-f]+)(?:\.(\d+))?:(e[abcd]x) (\d+)$/.exec(where) ?? [];
  const shownBy = VENDORS[vendors];
  if (register === '' || shownBy === undefined) throw new Error(`feature table: cannot read "${line}"`);
  return {
    name,
    leaf: Number.parseInt(leaf, 16),
    index: Number(index),
    register: register as CpuidRegister,
    bit: Number(bit),
    vendors: shownBy,
    system,
  };
}

export const FEATURES: readonly Feature[] = TABLE.trim().split('\n').map(parse);
/** A CPUID exit looks at one leaf. */
const BY_LEAF: ReadonlyMap<number, readonly Feature[]> = new Map(
  FEATURES.map(({ leaf }) => [leaf, FEATURES.filter((feature) => feature.leaf === leaf)]),
);

/** The features of these names, or the first name that is none. */
export function findFeatures(names: readonly string[]): readonly Feature[] | string {
  const unknown = names.find((name) => FEATURES.every((feature) => feature.name !== name));
  return unknown ?? FEATURES.filter(({ name }) => names.includes(name));
}

/** EAX, EBX, ECX and EDX of CPUID leaf 0xD with this XCR0 (its low half), or undefined if there is nothing of this index. */
export function xsaveLeaf(
  vendor: Vendor,
  index: number,
  xcr0: number,
): readonly [number, number, number, number] | undefined {
  const whole = XSAVE_BYTES + PKRU_BYTES;
  const enabled = xcr0 & XCR0_PKRU ? whole : XSAVE_BYTES;
  if (index === 0) return [XCR0_SUPPORTED, enabled, whole, 0];
  if (index === 1) return [featureBits(vendor, 0xd, 1, 'eax'), enabled, 0, 0];
  return index === 9 ? [PKRU_BYTES, XSAVE_BYTES, 0, 0] : undefined;
}

/** Names of the features that this vendor's processors show, as in the flags line of /proc/cpuinfo. */
export const featureNames = (vendor: Vendor): string[] =>
  FEATURES.filter((feature) => feature.vendors.includes(vendor)).map(({ name }) => name);

/** The feature bits of one register of a CPUID leaf, unsigned. */
export function featureBits(vendor: Vendor, leaf: number, index: number, register: CpuidRegister): number {
  let bits = 0;
  for (const feature of BY_LEAF.get(leaf) ?? []) {
    const { vendors, bit } = feature;
    if (feature.index === index && feature.register === register && vendors.includes(vendor)) bits |= 1 << bit;
  }
  return bits >>> 0;
}
