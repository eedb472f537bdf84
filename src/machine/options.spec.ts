import { describe, expect, it } from 'vitest';
import { KvmscopeError } from '../errors.ts';
import { NEWEST_ERA } from '../kvm/eras.ts';
import { resolveOptions } from './options.ts';
import type { MachineOptions } from './types.ts';

describe('resolveOptions', () => {
  it('fills in every default', () => {
    expect(resolveOptions({})).toEqual({
      vcpus: 1,
      board: 'bare',
      pit: true,
      hiddenFeatures: [],
      mode: 'long64',
      memory: 16 * 2 ** 20,
      cpl: 0,
      kvm: NEWEST_ERA.name,
      vendor: 'intel',
      engine: 'core',
      seed: 1,
      schedule: [],
      apic: 'x2apic',
      aps: 'halted',
      x2apicApi: 0,
      apicv: 'off',
      avic: false,
      exitHypercalls: 0,
      hypercallReturns: [0],
      wallClock: 1577836800,
      enforcePvFeatures: false,
      disabledQuirks: 0,
      vectorHashing: true,
      budget: 50_000_000,
      record: true,
    });
  });

  it('starts from reset with the APIC as after reset and waiting APs', () => {
    expect(resolveOptions({ mode: 'reset' })).toMatchObject({ apic: 'reset', aps: 'wait-for-sipi' });
  });

  it('gives thousands of vCPUs more memory by default', () => {
    expect(resolveOptions({ vcpus: 255 }).memory).toBe(16 * 2 ** 20);
    expect(resolveOptions({ vcpus: 4096 }).memory).toBe(33 * 2 ** 20);
  });

  it.each<[MachineOptions, string]>([
    [{ vcpus: 0 }, 'vcpus must be a whole number from 1 to 4096, not 0'],
    [{ vcpus: 100000 }, 'vcpus must be a whole number from 1 to 4096, not 100000'],
    [{ vcpus: 1.5 }, 'vcpus must be a whole number from 1 to 4096, not 1.5'],
    [{ seed: -1 }, 'seed must be a whole number from 0 to 4294967295, not -1'],
    [{ seed: Number.NaN }, 'seed must be a whole number from 0 to 4294967295, not NaN'],
    [{ budget: 0 }, 'budget must be a whole number from 1 to 9007199254740991 steps, not 0'],
    [{ memory: 4096 }, 'memory must be a whole number from 1048576 to 2147483648 bytes, not 4096'],
    [{ memory: 0x100001 }, 'memory must be a multiple of 4096 bytes, not 1048577'],
    [{ mode: 'real16', cpl: 3 }, 'mode real16 has no CPL 3; use prot32, long64 or compat32'],
    [{ mode: 'long' as never }, 'mode must be one of reset, real16, prot32, long64, compat32, not long'],
    [{ vendor: 'via' as never }, 'vendor must be one of intel, amd, not via'],
    [{ vcpus: 2, apicIds: [0] }, '1 APIC ids are given for 2 vCPUs'],
    [{ apicIds: [-1] }, 'an APIC id must be a whole number from 0 to 4294967294, not -1'],
    [{ exitHypercalls: 12 }, 'exitHypercalls must be 0 or 0x1000 (bit 12, MAP_GPA_RANGE), not 12'],
    [{ hypercallReturns: [] }, "hypercallReturns must list numbers or 'untouched'"],
    [
      { hypercallReturns: [0.5] },
      'a value of hypercallReturns must be a whole number from -9007199254740991 to 9007199254740991, not 0.5',
    ],
    [{ wallClock: -1 }, 'wallClock must be a whole number from 0 to 4294967295 seconds, not -1'],
  ])('refuses %j', (options, message) => {
    expect(() => resolveOptions(options)).toThrow(new KvmscopeError('usage', message));
  });

  it('refuses hidden features that are no list', () => {
    expect(() => resolveOptions({ hiddenFeatures: 'aes' as never })).toThrow('hiddenFeatures must list names');
  });
  it('refuses memory without room for the stacks', () => {
    expect(() => resolveOptions({ memory: 0x200000, vcpus: 255 })).toThrow(
      new KvmscopeError('memory', '2097152 bytes of RAM hold no stacks for 255 vCPUs; 3137536 are needed'),
    );
  });

  it('refuses an unknown era by name', () => {
    expect(() => resolveOptions({ kvm: '3.2' })).toThrow(/^unknown KVM era '3\.2'; known: 4\.19-rc1, /);
  });
});
