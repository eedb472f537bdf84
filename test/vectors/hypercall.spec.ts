/** Every hypercall vector, as guest instructions, in every era and on both vendors. */
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { ERAS, GENERAL_REGISTERS, type Vm } from '../../src/index.ts';
import { column } from './columns.ts';
import { expectEffects, expectRegisters, fourVcpus, runWith, VENDORS } from './harness.ts';
import { HYPERCALL_VECTORS } from './hypercall-vectors.ts';

const RAX = GENERAL_REGISTERS.findIndex((register) => register.name === 'rax');
const RIP = GENERAL_REGISTERS.findIndex((register) => register.name === 'rip');

describe.each(VENDORS)('hypercall vectors on %s', (vendor) => {
  const instruction = vendor === 'intel' ? 'vmcall' : 'vmmcall';
  const source = `${instruction}\nhlt\n`;

  describe.each(ERAS.map((era) => era.name))('KVM %s', (era) => {
    let vm: Vm;
    beforeAll(async () => {
      vm = await fourVcpus(era, vendor);
    });
    afterAll(() => vm.dispose());

    test.each(HYPERCALL_VECTORS)('$name', ({ rax, rbx, rcx, rdx, rsi, outcome }) => {
      const expected = column(outcome, era);
      const run = runWith(vm, source, { rax, rbx, rcx, rdx, rsi });
      if (expected === undefined) throw new Error(`no column for ${era}`);
      if (expected === 'host-bug') {
        expect(run.end.kind).toBe('host-bug');
        return;
      }
      const result = BigInt.asUintN(64, expected.rax);
      const rip = run.start[0].rip;
      expect(run.end).toEqual({ kind: 'halted' });
      expectRegisters(run, { rax: result, rip: rip + 4n });
      expectEffects(run, expected.effects);

      expect(run.exits.map((exit) => [exit.vcpu, exit.name, exit.rip])).toEqual([
        [0, instruction, rip],
        [0, 'hlt', rip + 3n],
      ]);
      const [call] = run.exits;
      expect(call.before).toEqual(GENERAL_REGISTERS.map(({ name }) => run.start[0][name]));
      expect(call.after).toEqual(call.before.with(RAX, result).with(RIP, rip + 3n));
      expect(call.fastpath).toBeUndefined();

      expect(run.counters.hypercalls).toBe(1);
      expect(run.counters.byReason).toEqual({ [instruction]: 1, hlt: 1 });
      expect(run.counters.exits).toBe(2);
      expect(run.counters.halt_exits).toBe(1);
      expect(run.counters.irq_injections + run.counters.nmi_injections).toBe(0);
      const call0 = run.trace.filter((event) => event.event === 'kvm_hypercall');
      expect(call0).toEqual([{ vcpu: 0, event: 'kvm_hypercall', nr: rax, a0: rbx, a1: rcx, a2: rdx, a3: rsi }]);
    });
  });
});
