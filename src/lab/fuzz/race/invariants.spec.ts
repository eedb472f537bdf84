import { beforeAll, describe, expect, it } from 'vitest';
import type { KvmTraceEvent } from '../../../kvm/trace.ts';
import { createVm } from '../../../machine/machine.ts';
import type { RunResult, VcpuView } from '../../../machine/types.ts';
import { brokenInvariants } from './invariants.ts';

/** vCPU 0 sends vector 0x40 and an NMI to vCPU 1, which takes both. */
const PROGRAM = `
.include "race.inc"
_start:
    race_begin target
    send_ipi 0b10, 0, 0, 0x40
    write_icr ICR_NMI, 1
    hlt
target:
    sti
1:  hlt
    jmp 1b
handler:
    push rax
    push rcx
    push rdx
    end_of_interrupt
    pop rdx
    pop rcx
    pop rax
    iretq
nmi: iretq
    race_table nmi, handler, handler
`;

let run: RunResult;
beforeAll(async () => {
  const vm = await createVm({ vcpus: 2, aps: 'run', memory: 0x20_0000 });
  vm.load(PROGRAM);
  run = vm.run({ schedule: '1*8,0*60,1*60' });
  vm.dispose();
});

const without = (drop: (event: KvmTraceEvent) => boolean): RunResult => ({
  ...run,
  trace: run.trace.filter((event) => !drop(event)),
});
const withVcpu = (index: number, change: (vcpu: VcpuView) => Partial<VcpuView>): RunResult => ({
  ...run,
  vcpus: run.vcpus.map((vcpu) => (vcpu.index === index ? { ...vcpu, ...change(vcpu) } : vcpu)),
});

describe('invariants', () => {
  it('hold in a run', () => {
    expect(run.end).toEqual({ kind: 'halted' });
    expect(run.vcpus[1].counters).toMatchObject({ irq_injections: 1, nmi_injections: 1 });
    expect(brokenInvariants(run)).toEqual([]);
  });

  it('an accepted interrupt is taken or waits', () => {
    const lost = without(({ event }) => event === 'kvm_inj_virq');
    expect(brokenInvariants(lost)).toEqual(['vCPU 1 lost vector 0x40']);
    const waits = {
      ...lost,
      vcpus: withVcpu(1, ({ lapic }) => ({ lapic: { ...lapic, irr: [0x40], tpr: 0x40 } })).vcpus,
    };
    expect(brokenInvariants(waits)).toEqual([]);
    const { counters } = run.vcpus[1];
    expect(brokenInvariants(withVcpu(1, () => ({ counters: { ...counters, nmi_injections: 0 } })))).toEqual([
      'vCPU 1 lost an NMI',
    ]);
  });

  it('nothing is taken that nobody sent', () => {
    const unsent = without((event) => event.event === 'kvm_apic_accept_irq' && event.vector === 0x40);
    expect(brokenInvariants(unsent)).toEqual(['vCPU 1 took vector 0x40 1 times, and it was sent 0 times']);
    const { counters } = run.vcpus[1];
    expect(brokenInvariants(withVcpu(1, () => ({ counters: { ...counters, nmi_injections: 2 } })))).toEqual([
      'vCPU 1 took 2 NMIs, and 1 were sent',
    ]);
  });

  it('nobody sleeps on an interrupt that it would take', () => {
    const asleep = (irr: number[], isr: number[], tpr: number): string[] =>
      brokenInvariants(withVcpu(1, ({ lapic }) => ({ lapic: { ...lapic, irr, isr, tpr } })));
    expect(asleep([0x61], [], 0)).toEqual(['vCPU 1 sleeps with interrupts enabled while vector 0x61 waits for it']);
    expect(asleep([0x61], [0x60], 0)).toEqual([]);
    expect(asleep([0x61], [], 0x60)).toEqual([]);
    expect(asleep([0x71], [0x60], 0x60)).toHaveLength(1);
    const { registers } = run.vcpus[1];
    const masked = withVcpu(1, ({ lapic }) => ({
      lapic: { ...lapic, irr: [0x61] },
      registers: { ...registers, rflags: registers.rflags & ~0x200n },
    }));
    expect(brokenInvariants(masked)).toEqual([]);
    const stopped = withVcpu(1, ({ lapic }) => ({ lapic: { ...lapic, irr: [0x61] } }));
    expect(brokenInvariants({ ...stopped, end: { kind: 'exit', status: 0 } })).toEqual([]);
  });

  it('a hypercall counts no more targets than there were', () => {
    const exits = run.exits.map((exit) =>
      exit.name === 'vmcall' ? { ...exit, after: exit.after.with(0, exit.after[0] + 1n) } : exit,
    );
    expect(brokenInvariants({ ...run, exits })).toEqual(['KVM_HC_SEND_IPI of vCPU 0 counted 2 targets of 1']);
  });
});
