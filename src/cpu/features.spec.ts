import { describe, expect, it } from 'vitest';
import { FEATURES, featureBits, featureNames } from './features.ts';
import { OPCODES } from './opcodes.ts';

/** Features that rows of the opcode table name. */
const named = new Set(
  OPCODES.flatMap(({ attributes }) => attributes.filter((a) => a.startsWith('f:')).map((a) => a.slice(2))),
);

describe('the feature table', () => {
  it('has each name and each CPUID bit once', () => {
    const places = FEATURES.map(({ leaf, index, register, bit }) => `${leaf}.${index}:${register} ${bit}`);
    expect(new Set(places).size).toBe(FEATURES.length);
    expect(new Set(FEATURES.map(({ name }) => name)).size).toBe(FEATURES.length);
  });

  it('knows every feature of the opcode table', () => {
    const known = new Set(FEATURES.map(({ name }) => name));
    expect([...named].filter((name) => !known.has(name))).toEqual([]);
  });

  it('shows nothing that is neither instructions of the opcode table nor said to be something else', () => {
    const empty = FEATURES.filter(({ name, vendors, system }) => vendors.length > 0 && !named.has(name) && !system);
    expect(empty.map(({ name }) => name)).toEqual([]);
  });

  it('shows every feature of the opcode table but MONITOR, which KVM hides while MWAIT exits', () => {
    const hidden = [...named].filter(
      (name) => !(['intel', 'amd'] as const).some((v) => featureNames(v).includes(name)),
    );
    expect(hidden.sort()).toEqual(['monitor']);
  });

  it('gives the bits of a leaf', () => {
    expect(featureBits('intel', 0x80000001, 0, 'edx')).toBe(
      ((1 << 11) | (1 << 20) | (1 << 26) | (1 << 27) | (1 << 29)) >>> 0,
    );
    expect(featureBits('amd', 0x1234, 0, 'eax')).toBe(0);
  });
});
