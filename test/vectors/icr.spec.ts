/** Every ICR vector, as guest instructions, in every era and on both vendors. */
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { ERAS, GENERAL_REGISTERS, type RunResult, type Vm } from '../../src/index.ts';
import { column } from './columns.ts';
import { expectEffects, expectRegisters, fourVcpus, runWith, VENDORS } from './harness.ts';
import { ICR_VECTORS, UNICAST_TRACE } from './icr-vectors.ts';

const RIP = GENERAL_REGISTERS.findIndex((register) => register.name === 'rip');
const ICR = 0x830n;
const WRMSR_LENGTH = 2n;

/** WRMSR with an IDT that catches #GP: the table's other gates are not needed. */
const SOURCE = `
_start:
    lidt [table]
instruction:
    wrmsr
    hlt
general_protection:
    hlt
    .balign 16
gate:                       # interrupt gate of vector 13
    .word general_protection, 8, 0x8e00, 0
    .quad 0
table:
    .word 14*16-1
    .quad gate-13*16
`;

const asWritten = (icr: bigint): Record<string, bigint> => ({
  rax: 0xdead_beef_0000_0000n | (icr & 0xffff_ffffn),
  rcx: 0xdead_beef_0000_0000n | ICR,
  rdx: 0xdead_beef_0000_0000n | (icr >> 32n),
});

/** RIP of the WRMSR. */
function instructionOf(vm: Vm): bigint {
  const address = vm.program?.symbols.get('instruction');
  if (address === undefined) throw new Error('the program has lost its label');
  return address;
}

/** Counters and exits that both ways through KVM share. */
function expectTwoExits(run: RunResult, instruction: bigint, second: bigint): void {
  const wrmsr = run.exits[0].name;
  expect(run.exits.map((exit) => [exit.vcpu, exit.name, exit.rip])).toEqual([
    [0, wrmsr, instruction],
    [0, 'hlt', second],
  ]);
  expect(run.counters.byReason).toEqual({ [wrmsr]: 1, hlt: 1 });
  expect(run.counters.exits).toBe(2);
  expect(run.counters.hypercalls).toBe(0);
}

describe.each(VENDORS)('ICR vectors on %s', (vendor) => {
  describe.each(ERAS.map((era) => era.name))('KVM %s', (era) => {
    let vm: Vm;
    beforeAll(async () => {
      vm = await fourVcpus(era, vendor);
    });
    afterAll(() => vm.dispose());

    test.each(ICR_VECTORS)('$name', ({ icr, path, effects }) => {
      const expected = column(path, era);
      if (expected === undefined) throw new Error(`no column for ${era}`);
      const refused = expected === '#GP';
      const run = runWith(vm, SOURCE, asWritten(icr));
      const instruction = instructionOf(vm);
      const [write] = run.exits;

      expect(run.end).toEqual({ kind: 'halted' });
      // The general registers at the WRMSR are those of the start, and no way through KVM changes them.
      const before = GENERAL_REGISTERS.map(({ name }) => (name === 'rip' ? instruction : run.start[0][name]));
      expect(write.before).toEqual(before);
      expect(write.fastpath?.taken ?? false).toBe(expected === 'fast');
      expect(run.counters.fastpath).toBe(expected === 'fast' ? 1 : 0);
      const table = { idtr_base: (vm.program?.symbols.get('gate') ?? 0n) - 13n * 16n, idtr_limit: 14n * 16n - 1n };

      const traced = run.trace.filter((event) => event.event === 'kvm_msr');
      expect(traced).toEqual([{ vcpu: 0, event: 'kvm_msr', write: true, msr: 0x830, data: icr, fault: refused }]);

      if (refused) {
        const handler = vm.program?.symbols.get('general_protection') ?? 0n;
        expectEffects(run, {});
        expectTwoExits(run, instruction, handler);
        expect(write.after).toEqual(write.before);
        expect(run.vcpus[0].lapic.icr).toBe(0n);
        // SS, RSP, RFLAGS, CS, RIP and the error code 0 are on the stack, which is aligned first.
        const rsp = (run.start[0].rsp & ~0xfn) - 48n;
        const frame = new BigUint64Array(run.memory.slice(Number(rsp), Number(rsp) + 48).buffer);
        // A fault pushes RF = 1.
        const rflags = run.start[0].rflags | 0x10000n;
        expect([...frame]).toEqual([0n, instruction, 8n, rflags, run.start[0].rsp, run.start[0].ss]);
        expectRegisters(run, { rip: handler + 1n, rsp, ...table });
        return;
      }
      expectEffects(run, effects);
      expectTwoExits(run, instruction, instruction + WRMSR_LENGTH);
      expect(write.after).toEqual(write.before.with(RIP, instruction + WRMSR_LENGTH));
      expect(run.vcpus[0].lapic.icr).toBe(icr & ~(1n << 12n));
      expectRegisters(run, { rip: instruction + WRMSR_LENGTH + 1n, ...table });
    });
  });
});

const TRACED = VENDORS.flatMap((vendor) =>
  ERAS.flatMap(({ name }) => {
    const order = column(UNICAST_TRACE[vendor], name);
    return order === undefined ? [] : [{ vendor, era: name, order }];
  }),
);

test.each(TRACED)('one unicast IPI is traced in the order of KVM $era on $vendor', async ({ vendor, era, order }) => {
  const vm = await fourVcpus(era, vendor);
  const run = runWith(vm, SOURCE, asWritten(0x1_0000_00f0n));
  const names = run.trace.map((event) => event.event);
  expect(names[0]).toBe('kvm_entry');
  expect(names.slice(1, names.indexOf('kvm_entry', 1) + 1)).toEqual(order);
  vm.dispose();
});
