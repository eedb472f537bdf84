import { describe, expect, it } from 'vitest';
import { bench, CPUID, R_RAX, wrmsr } from './spec-helper.ts';

// KVM_REQ_* of arch/x86/include/asm/kvm_host.h, v6.14.
const EVENT = 1 << 14;
const NMI = 1 << 17;
const SMI = 1 << 20;

describe('kvm_exit shows vcpu->requests: what arrived while the vCPU was in the guest', () => {
  it.each([
    ['nothing', [], undefined],
    ['a Fixed interrupt', [0x1_0000_00d1n], EVENT],
    ['an NMI', [0x1_0000_0400n], NMI],
    ['an SMI', [0x1_0000_0200n], SMI],
    ['an NMI and a Fixed interrupt', [0x1_0000_0400n, 0x1_0000_00d1n], NMI | EVENT],
    ['INIT', [0x1_0000_4500n], EVENT],
  ])('%s', (_name, icrs, requests) => {
    const b = bench();
    b.play(1);
    for (const icr of icrs) b.play(0, wrmsr(0x830, icr));
    b.events.length = 0;
    b.play(1, CPUID);
    const exits = b.events.filter((event) => event.event === 'kvm_exit');
    // Evaluated once: the next exit has none.
    const seen = exits.map((event) => event.requests);
    expect(seen).toEqual([requests, ...seen.slice(1).fill(undefined)]);
  });
});

it('kvm_cpuid tells whether the last basic leaf answered: Intel only, and only out of range', () => {
  const answer = (vendor: 'intel' | 'amd', leaf: bigint) => {
    const b = bench({ vendor });
    b.cpu.vcpu(0).put(R_RAX, leaf);
    b.play(0, CPUID);
    const event = b.events.find((candidate) => candidate.event === 'kvm_cpuid');
    return event?.event === 'kvm_cpuid' ? [event.found, event.usedMaxBasic === true] : [];
  };
  expect(answer('intel', 0n)).toEqual([true, false]);
  expect(answer('intel', 0x401n)).toEqual([false, true]);
  expect(answer('amd', 0x401n)).toEqual([false, false]);
});
