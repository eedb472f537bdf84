/**
 * CPUID of the CPU models of ctl_set_cpu_model(): vendor, family, model and stepping are those of QEMU's definitions; the features
 * are what the core has, whatever the model.
 */
import { type CpuidRegister, ECX_OSXSAVE, FEATURES, xsaveLeaf } from '../cpu/features.ts';

type Vendor = 'GenuineIntel' | 'AuthenticAMD' | 'HygonGenuine';
type Model = readonly [name: string, vendor: Vendor, family: number, model: number, stepping: number];

const I: Vendor = 'GenuineIntel';
const A: Vendor = 'AuthenticAMD';

/** In the order of CPU_X86_*. */
const MODELS: readonly Model[] = [
  ['QEMU64', A, 6, 6, 3],
  ['Phenom', A, 16, 2, 3],
  ['Core 2 Duo', I, 6, 15, 11],
  ['KVM64', I, 15, 6, 1],
  ['QEMU32', I, 6, 6, 3],
  ['KVM32', I, 15, 6, 1],
  ['Core Duo', I, 6, 14, 8],
  ['486', I, 4, 8, 0],
  ['Pentium', I, 5, 4, 3],
  ['Pentium II', I, 6, 5, 2],
  ['Pentium III', I, 6, 7, 3],
  ['Athlon', A, 6, 2, 3],
  ['Atom N270', I, 6, 28, 2],
  ['Conroe', I, 6, 15, 3],
  ['Penryn', I, 6, 23, 3],
  ['Nehalem', I, 6, 26, 3],
  ['Westmere', I, 6, 44, 1],
  ['Sandy Bridge', I, 6, 42, 1],
  ['Ivy Bridge', I, 6, 58, 9],
  ['Haswell', I, 6, 60, 4],
  ['Broadwell', I, 6, 61, 2],
  ['Skylake', I, 6, 94, 3],
  ['Skylake Server', I, 6, 85, 4],
  ['Cascade Lake', I, 6, 85, 6],
  ['Cooper Lake', I, 6, 85, 10],
  ['Ice Lake', I, 6, 126, 0],
  ['Ice Lake Server', I, 6, 134, 0],
  ['Denverton', I, 6, 95, 1],
  ['Snow Ridge', I, 6, 134, 1],
  ['Knights Mill', I, 6, 133, 0],
  ['Opteron G1', A, 15, 6, 1],
  ['Opteron G2', A, 15, 6, 1],
  ['Opteron G3', A, 16, 2, 3],
  ['Opteron G4', A, 21, 1, 2],
  ['Opteron G5', A, 21, 2, 0],
  ['EPYC', A, 23, 1, 2],
  ['Dhyana', 'HygonGenuine', 24, 0, 1],
  ['EPYC Rome', A, 23, 49, 0],
];

/** Features of a whole machine, which an engine is not. */
const ABSENT = ['apic', 'x2apic', 'tsc_deadline_timer', 'hypervisor', 'monitor'];

function featureBits(vendor: Vendor, long: boolean, leaf: number, register: CpuidRegister): number {
  const maker = vendor === I ? 'intel' : 'amd';
  let bits = 0;
  for (const feature of FEATURES) {
    const { name, vendors } = feature;
    if (feature.leaf !== leaf || feature.index !== 0 || feature.register !== register || !vendors.includes(maker))
      continue;
    if (!ABSENT.includes(name) && (long || name !== 'lm')) bits |= 1 << feature.bit;
  }
  return bits;
}

const MAX_BASIC = 0xd;
const MAX_EXTENDED = 0x80000008;

const word = (text: string, at: number): number =>
  [3, 2, 1, 0].reduce((value, i) => value * 256 + (text.charCodeAt(at + i) || 0), 0);

/** EAX of leaf 1. */
function signature(model: number): number {
  const [, , family, number, stepping] = MODELS[model];
  const extended = Math.max(0, family - 15);
  return (extended << 20) | ((number >> 4) << 16) | (Math.min(family, 15) << 8) | ((number & 15) << 4) | stepping;
}

/** EAX, EBX, ECX, EDX of a leaf for CPU_X86_* `model`; `long` is a 64-bit engine, `osxsave` is CR4.OSXSAVE. */
export function cpuid(
  model: number,
  leaf: number,
  subleaf: number,
  long: boolean,
  osxsave: boolean,
  xcr0: number,
): readonly [number, number, number, number] {
  const [name, vendor] = MODELS[model];
  const features = (register: CpuidRegister): number => featureBits(vendor, long, leaf, register);
  switch (leaf) {
    case 0:
      return [MAX_BASIC, word(vendor, 0), word(vendor, 8), word(vendor, 4)];
    case 1:
      return [signature(model), 0x00010800, features('ecx') | (osxsave ? ECX_OSXSAVE : 0), features('edx')];
    case 7:
      return subleaf === 0 ? [0, features('ebx'), features('ecx'), features('edx')] : [0, 0, 0, 0];
    case 0xd:
      return xsaveLeaf(vendor === I ? 'intel' : 'amd', subleaf, xcr0) ?? [0, 0, 0, 0];
    case 0x80000000:
      return [MAX_EXTENDED, word(vendor, 0), word(vendor, 8), word(vendor, 4)];
    case 0x80000001:
      return [signature(model), 0, features('ecx'), features('edx')];
    case 0x80000002:
    case 0x80000003:
    case 0x80000004: {
      const text = `kvmscope virtual CPU (${name})`;
      const at = (leaf - 0x80000002) * 16;
      return [word(text, at), word(text, at + 4), word(text, at + 8), word(text, at + 12)];
    }
    case 0x80000008:
      return [52 | (48 << 8), 0, 0, 0];
    default:
      return [0, 0, 0, 0];
  }
}
