import { describe, expect, it } from 'vitest';
import { bench, callFrom0, HYPERCALL, R_RAX, R_RIP, setArguments } from './spec-helper.ts';

/** Two's complement in 64 bits. */
const u64 = (value: bigint): bigint => BigInt.asUintN(64, value);
const ALL = 0xffff_ffff_ffff_ffffn;

describe('KVM_HC_SEND_IPI, 64-bit caller, four x2APIC vCPUs', () => {
  type Row = [call: [bigint, bigint, bigint, bigint, bigint], rax: bigint, irr: number[][], nmi: number[]];
  const nobody: number[][] = [[], [], [], []];
  const all = (vector: number): number[][] => [[vector], [vector], [vector], [vector]];
  const noNmi = [0, 0, 0, 0];
  const rows: Row[] = [
    [[0xan, 0xfn, 0n, 0n, 0xf0n], 4n, all(0xf0), noNmi],
    [[0xan, 6n, 0n, 0n, 0x400n], 2n, nobody, [0, 1, 1, 0]],
    [[0xan, ALL, ALL, 0n, 0xf0n], 4n, all(0xf0), noNmi],
    [[0xan, 1n, 0n, 3n, 0xf0n], 1n, [[], [], [], [0xf0]], noNmi],
    [[0xan, 1n, 0n, 4n, 0xf0n], 0n, nobody, noNmi],
    [[0xan, 1n, 0n, 0x100n, 0xf0n], 0n, nobody, noNmi],
    [[0xan, 1n, 0n, 0x1_0000_0003n, 0xf0n], 1n, [[], [], [], [0xf0]], noNmi],
    [[0xan, 0n, 1n, 0xffff_ffc3n, 0xf0n], 1n, [[], [], [], [0xf0]], noNmi],
    [[0xan, 0xfn, 0n, 0n, 0x8f0n], u64(-22n), nobody, noNmi],
    [[0xan, 0xfn, 0n, 0n, 0x400f0n], u64(-22n), nobody, noNmi],
    [[0xan, 0xfn, 0n, 0n, 0x800f0n], u64(-22n), nobody, noNmi],
    [[0xan, 0xfn, 0n, 0n, 0xc00f0n], u64(-22n), nobody, noNmi],
    [[0xan, 0xfn, 0n, 0n, 0x80f0n], 0n, nobody, noNmi],
    [[0xan, 0xfn, 0n, 0n, 0xc0f0n], 4n, all(0xf0), noNmi],
    [[0xan, 0xfn, 0n, 0n, 0x7f0n], 0n, nobody, noNmi],
    [[0xan, 0xfn, 0n, 0n, 5n], 4n, all(5), noNmi],
    [[0x1_0000_000an, 0xfn, 0n, 0n, 0xf0n], u64(-1000n), nobody, noNmi],
    [[0xdn, 0xfn, 0n, 0n, 0xf0n], u64(-1000n), nobody, noNmi],
    [[1n, 0xfn, 0n, 0n, 0xf0n], 0n, nobody, noNmi],
    [[0xan, ALL, 0n, 0xffff_ffffn, 0n], 0n, nobody, noNmi],
  ];
  it.each(rows)('%o', (call, rax, irr, nmi) => {
    const b = bench();
    // The caller is looked at before its own interrupt is injected.
    b.cpu.vcpu(0).set(18, 2, 0);
    expect(callFrom0(b, ...call)).toBe(rax);
    expect(b.kvm.vcpus.map((vcpu) => vcpu.lapic.irr())).toEqual(irr);
    expect(b.kvm.vcpus.map((vcpu) => vcpu.nmiPending)).toEqual(nmi);
    expect(b.kvm.vcpus[0].counters.hypercalls).toBe(1);
    expect(b.kvm.vcpus[0].counters.byReason).toEqual({ vmcall: 1 });
    expect(b.cpu.vcpu(0).get(R_RIP)).toBe(0xfff3n);
  });
});
void HYPERCALL;
void R_RAX;
void setArguments;
