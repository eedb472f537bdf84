import { describe, expect, it } from 'vitest';
import { MAXPHYADDR } from '../cpu/cpu.ts';
import { FEATURES } from '../cpu/features.ts';
import {
  CPUID_APIC_ENABLED,
  CPUID_OSPKE,
  CPUID_OSXSAVE,
  CpuidCache,
  type CpuidState,
  cpuid,
  defaultPvFeatures,
} from './cpuid.ts';
import { resolveEra } from './eras.ts';
import { bench, CPUID, R_RAX, R_RBX, R_RCX, R_RDX } from './spec-helper.ts';

const state: CpuidState = {
  vendor: 'intel',
  vcpuId: 5,
  vcpuCount: 6,
  apicEnabled: true,
  ospke: false,
  hidden: [],
  osxsave: false,
  xcr0: 1,
  pvFeatures: 0x800,
};
const amd: CpuidState = { ...state, vendor: 'amd' };
const text = (...words: number[]): string => Buffer.from(Uint32Array.from(words).buffer).toString('latin1');

describe('identification', () => {
  it('names the vendor', () => {
    const intel = cpuid(state, 0, 0);
    expect([intel.eax, text(intel.ebx, intel.edx, intel.ecx)]).toEqual([0xd, 'GenuineIntel']);
    const other = cpuid(amd, 0, 0);
    expect(text(other.ebx, other.edx, other.ecx)).toBe('AuthenticAMD');
    const extended = cpuid(amd, 0x80000000, 0);
    expect([extended.eax, text(extended.ebx, extended.edx, extended.ecx)]).toEqual([0x80000008, 'AuthenticAMD']);
    expect(cpuid(state, 0x80000000, 0)).toMatchObject({ eax: 0x80000008, ebx: 0, ecx: 0, edx: 0 });
  });

  it('spells the brand', () => {
    const words = [2, 3, 4].flatMap((leaf) => {
      const { eax, ebx, ecx, edx } = cpuid(state, 0x80000000 + leaf, 0);
      return [eax, ebx, ecx, edx];
    });
    expect(text(...words).replace(/\0+$/, '')).toBe('kvmscope virtual x86-64 CPU');
  });

  it('carries KVM’s signature and the PV features', () => {
    const { eax, ebx, ecx, edx } = cpuid(state, 0x40000000, 0);
    expect([eax, ebx, ecx, edx]).toEqual([0x40000001, 0x4b4d564b, 0x564b4d56, 0x0000004d]);
    expect(cpuid(state, 0x40000001, 0)).toMatchObject({ eax: 0x800, ebx: 0, ecx: 0, edx: 0 });
  });
});

describe('features', () => {
  it.each(['intel', 'amd'] as const)('%s: exactly the bits of the feature table', (vendor) => {
    const shown = FEATURES.filter(({ vendors }) => vendors.includes(vendor));
    const bits = new Map<string, number>();
    for (const { leaf, index, register, bit } of shown) {
      const place = `${leaf}.${index}.${register}`;
      bits.set(place, ((bits.get(place) ?? 0) | (1 << bit)) >>> 0);
    }
    const leaf1 = bits.get('1.0.edx') as number;
    const leaves = [
      [1, 0, 'ecx'],
      [1, 0, 'edx'],
      [7, 0, 'ebx'],
      [7, 0, 'ecx'],
      [7, 0, 'edx'],
      [7, 1, 'eax'],
      [0xd, 1, 'eax'],
      [0x80000001, 0, 'ecx'],
      [0x80000001, 0, 'edx'],
      [0x80000008, 0, 'ebx'],
    ] as const;
    for (const [func, index, register] of leaves) {
      const repeated = vendor === 'amd' && func === 0x80000001 && register === 'edx';
      const expected = bits.get(`${func}.${index}.${register}`) ?? 0;
      const found = cpuid({ ...state, vendor }, func, index)[register];
      expect([func, register, found]).toEqual([
        func,
        register,
        repeated ? (expected | (leaf1 & 0x0183f3ff)) >>> 0 : expected,
      ]);
      bits.delete(`${func}.${index}.${register}`);
    }
    expect([...bits.keys()]).toEqual([]);
  });

  it('claims x2APIC, the TSC-deadline timer and a hypervisor, as KVM does', () => {
    const bits = ((1 << 21) | (1 << 24) | (1 << 31)) >>> 0;
    expect((cpuid(state, 1, 0).ecx & bits) >>> 0).toBe(bits);
  });

  it('leaf 1 EBX: APIC id, number of processors, 64-byte cache lines', () => {
    expect(cpuid(state, 1, 0).ebx).toBe((5 << 24) | (6 << 16) | (8 << 8));
  });

  it('ties CPUID.OSXSAVE to CR4.OSXSAVE', () => {
    expect(cpuid(state, 1, 0).ecx & (1 << 27)).toBe(0);
    expect(cpuid({ ...state, osxsave: true }, 1, 0).ecx & (1 << 27)).toBe(1 << 27);
  });

  it('leaf 0xD: x87 and SSE state in 576 bytes, PKRU behind it, XSAVEOPT, XSAVEC, XGETBV with ECX = 1 and XSAVES', () => {
    expect(cpuid(state, 0xd, 0)).toMatchObject({ eax: 0x203, ebx: 576, ecx: 584, edx: 0, found: true });
    expect(cpuid({ ...state, xcr0: 0x203 }, 0xd, 0)).toMatchObject({ eax: 0x203, ebx: 584, ecx: 584, edx: 0 });
    expect(cpuid(state, 0xd, 1)).toMatchObject({ eax: 15, ebx: 576, ecx: 0, edx: 0, found: true });
    expect(cpuid({ ...state, xcr0: 0x203 }, 0xd, 1)).toMatchObject({ eax: 15, ebx: 584, ecx: 0, edx: 0 });
    expect(cpuid(state, 0xd, 9)).toMatchObject({ eax: 8, ebx: 576, ecx: 0, edx: 0, found: true });
    expect(cpuid(state, 0xd, 2)).toEqual({ eax: 0, ebx: 0, ecx: 0, edx: 0, found: false });
  });

  it('ties CPUID.APIC to IA32_APIC_BASE.EN', () => {
    expect(cpuid({ ...state, apicEnabled: false }, 1, 0).edx & (1 << 9)).toBe(0);
    expect(cpuid({ ...amd, apicEnabled: false }, 0x80000001, 0).edx & (1 << 9)).toBe(0);
    expect(cpuid(amd, 0x80000001, 0).edx & (1 << 9)).toBe(1 << 9);
  });

  it('ties OSPKE to CR4.PKE', () => {
    expect(cpuid(state, 7, 0).ecx & (1 << 4)).toBe(0);
    expect(cpuid({ ...state, ospke: true }, 7, 0).ecx & (1 << 4)).toBe(1 << 4);
    expect(cpuid({ ...state, ospke: true }, 7, 1).ecx).toBe(0);
  });

  it('gives the address widths of the CPU', () => {
    expect(cpuid(state, 0x80000008, 0).eax).toBe(40 | (57 << 8));
    expect(cpuid(state, 0x80000008, 0).eax & 0xff).toBe(MAXPHYADDR);
  });

  it('reports what KVM of each version reports', () => {
    const bits = (era: string): number[] =>
      Array.from({ length: 32 }, (_, bit) => bit).filter((bit) => (defaultPvFeatures(resolveEra(era)) >>> bit) & 1);
    expect(bits('4.19')).toEqual([0, 1, 3, 4, 5, 6, 7, 9, 10, 11, 24]);
    expect(bits('5.4')).toEqual([0, 1, 3, 4, 5, 6, 7, 9, 10, 11, 12, 13, 24]);
    expect(bits('7.1')).toEqual([0, 1, 3, 4, 5, 6, 7, 9, 10, 11, 12, 13, 14, 24]);
  });
});

describe('topology', () => {
  it('puts all vCPUs as cores into one package and shows the x2APIC id at every level', () => {
    const big = { ...state, vcpuId: 300, vcpuCount: 9 };
    expect([0, 1, 2].map((level) => cpuid(big, 0xb, level))).toEqual([
      { eax: 0, ebx: 1, ecx: 0x100, edx: 300, found: true },
      { eax: 4, ebx: 9, ecx: 0x201, edx: 300, found: true },
      { eax: 0, ebx: 0, ecx: 2, edx: 300, found: true },
    ]);
  });
});

describe('leaves that do not exist', () => {
  it('repeat the last basic leaf on Intel and are zero on AMD', () => {
    const repeated = { eax: 0x203, ebx: 576, ecx: 584, edx: 0, found: false, usedMaxBasic: true };
    expect(cpuid(state, 0x1f, 0)).toEqual(repeated);
    expect(cpuid(amd, 0x1f, 0)).toEqual({ eax: 0, ebx: 0, ecx: 0, edx: 0, found: false });
    for (const func of [0x40000002, 0x40000100, 0x50000000, 0xc0000000])
      expect(cpuid(state, func, 0)).toEqual(repeated);
  });
});

it('the CPUID exit clears the upper halves and advances RIP', () => {
  const b = bench();
  const cpu = b.cpu.vcpu(0);
  cpu.put(R_RAX, 0xffff_ffff_4000_0000n);
  cpu.put(R_RBX, 0xffff_ffff_ffff_ffffn);
  b.play(0, CPUID);
  expect([R_RAX, R_RBX, R_RCX, R_RDX].map((id) => cpu.get(id))).toEqual([0x40000001n, 0x4b4d564bn, 0x564b4d56n, 0x4dn]);
  expect(b.exits[0]).toMatchObject({ name: 'cpuid', reason: 10 });
  expect(b.exits[0].events[1]).toMatchObject({ event: 'kvm_cpuid', func: 0x40000000, found: true });
});

it('the cache gives what the leaf is for each vCPU and state, also when leaves share a place', () => {
  const cache = new CpuidCache(state);
  const ask = (func: number, index: number, vcpuId: number, bits: number, xcr0: number): void => {
    const apicEnabled = (bits & CPUID_APIC_ENABLED) !== 0;
    const osxsave = (bits & CPUID_OSXSAVE) !== 0;
    const ospke = (bits & CPUID_OSPKE) !== 0;
    const expected = cpuid({ ...state, vcpuId, apicEnabled, osxsave, ospke, xcr0 }, func, index);
    expect(cache.leaf(func | 0, index, vcpuId, bits, xcr0)).toEqual(expected);
  };
  for (let round = 0; round < 2; round++) {
    for (const func of [0, 1, 7, 0xb, 0xd, 0x40000001, 0x80000000, 0x80000001, 0xffffffff]) {
      for (const index of [0, 1, 2]) {
        for (const vcpuId of [0, 3, 64, 200]) {
          for (let bits = 0; bits < 8; bits++) ask(func, index, vcpuId, bits, bits === 2 ? 3 : 1);
        }
      }
    }
  }
});
