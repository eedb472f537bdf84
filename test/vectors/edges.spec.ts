/** Edges of hypercalls and IPIs that need more than one instruction or another start: in every era and on both vendors. */
import { describe, expect, test } from 'vitest';
import {
  BOOT_LAYOUT,
  createVm,
  ERAS,
  eraMatches,
  GENERAL_REGISTERS,
  type MachineOptions,
  type RunResult,
  resolveEra,
  type Vendor,
  type Vm,
} from '../../src/index.ts';
import { BACKGROUND, symbol, u64, VENDORS, withHandlers } from './harness.ts';

const CASES = VENDORS.flatMap((vendor) => ERAS.map((era) => [era.name, vendor] as const));
const since = (era: string, version: string): boolean => eraMatches(`>=${version}-rc1`, resolveEra(era));
const call = (vendor: Vendor): string => (vendor === 'intel' ? 'vmcall' : 'vmmcall');
const signed = (value: bigint): bigint => BigInt.asUintN(64, value);

type Registers = Readonly<Record<string, bigint>>;

interface Setup extends MachineOptions {
  readonly registers?: Registers;
  /** Runs after the program is loaded. */
  readonly prepare?: (vm: Vm) => void;
}

/** One run in a VM of its own; `inspect` sees it before the engine goes back. */
async function run(
  kvm: string,
  vendor: Vendor,
  source: string,
  { registers, prepare, ...options }: Setup,
  inspect: (run: RunResult, vm: Vm) => void,
): Promise<void> {
  const vm = await createVm({ memory: 0x20_0000, budget: 20_000, ...options, kvm, vendor });
  try {
    vm.load(source);
    vm.setRegisters(0, { ...BACKGROUND, ...registers });
    prepare?.(vm);
    inspect(vm.run(), vm);
  } finally {
    vm.dispose();
  }
}

const sendIpi = (low: bigint, icr: bigint): Registers => ({ rax: 10n, rbx: low, rcx: 0n, rdx: 0n, rsi: icr });
const writeMsr = (msr: bigint, value: bigint): Registers => ({
  rcx: msr,
  rax: value & 0xffff_ffffn,
  rdx: value >> 32n,
});
/** Vectors in the IRR of each vCPU. */
const irrs = (result: RunResult): (readonly number[])[] => result.vcpus.map((vcpu) => vcpu.lapic.irr);

describe.each(CASES)('KVM %s on %s', (era, vendor) => {
  const hypercall = call(vendor);

  test('a hypercall at CPL 3 returns -1, moves RIP on and changes nothing else, known number or not', async () => {
    const source = `${hypercall}\nmov eax, 12345\n${hypercall}\nxor eax, eax\nout 0xf4, al\n`;
    await run(era, vendor, source, { cpl: 3, registers: sendIpi(1n, 0xd1n) }, (result) => {
      expect(result.end).toEqual({ kind: 'exit', status: 0 });
      const calls = result.exits.filter((exit) => exit.name === hypercall);
      expect(calls).toHaveLength(2);
      for (const { before, after, rip } of calls) {
        const wanted = GENERAL_REGISTERS.map(({ name }, i) =>
          name === 'rax' ? signed(-1n) : name === 'rip' ? rip + 3n : before[i],
        );
        expect(after).toEqual(wanted);
      }
      expect(irrs(result)).toEqual([[]]);
      expect(result.counters.hypercalls).toBe(2);
    });
  });

  test('garbage above bit 31 does not matter in compatibility mode, and the result is zero-extended', async () => {
    const garbage = { rax: 0x1_0000_000an, rbx: 0xdead_0000_0000_0001n, rcx: 0xdead_0000_0000_0001n };
    const registers = { ...garbage, rdx: 0xdead_0000_0000_0001n, rsi: 0xdead_0000_0000_00d1n };
    const options = { vcpus: 34, mode: 'compat32', registers } as const;
    await run(era, vendor, `.code32\n${hypercall}\nhlt\n`, options, (result) => {
      expect(result.vcpus[0].registers.rax).toBe(2n);
      // Two words of 32 bits from min = 1: the APIC IDs 1 and 33.
      const reached = result.vcpus.filter((vcpu) => vcpu.lapic.irr.includes(0xd1)).map((vcpu) => vcpu.index);
      expect(reached).toEqual([1, 33]);
      expect(result.vcpus[0].registers.rbx).toBe(registers.rbx);
    });
  });

  test('an error reaches a 32-bit caller as 32 bits', async () => {
    const options = { mode: 'prot32', registers: { ...sendIpi(1n, 0x8d1n) } } as const;
    await run(era, vendor, `.code32\n${hypercall}\nhlt\n`, options, (result) => {
      expect(result.vcpus[0].registers.rax).toBe(0xffff_ffean);
    });
  });

  test.each([
    ['Fixed', 0xd1n, 0n, 0],
    ['NMI', 0x400n, 1n, 1],
  ])('%s to a software-disabled APIC', async (_name, icr, count, nmi) => {
    const options: Setup = {
      vcpus: 2,
      aps: 'wait-for-sipi',
      registers: sendIpi(2n, icr),
      prepare: (vm) => vm.kvm.setMsr(1, 0x80f, 0xffn),
    };
    await run(era, vendor, `${hypercall}\nhlt\n`, options, (result) => {
      expect(result.vcpus[0].registers.rax).toBe(count);
      expect(result.vcpus[1].nmiPending).toBe(nmi);
      expect(irrs(result)).toEqual([[], []]);
    });
  });

  test('a globally disabled APIC is in no map: not counted, not reached', async () => {
    const options: Setup = {
      vcpus: 2,
      aps: 'wait-for-sipi',
      registers: sendIpi(2n, 0x400n),
      prepare: (vm) => vm.kvm.setMsr(1, 0x1b, 0xfee0_0000n),
    };
    await run(era, vendor, `${hypercall}\nhlt\n`, options, (result) => {
      if (!since(era, '4.19') || era === '4.19-rc1') expect(result.end.kind).toBe('host-bug');
      else expect(result.vcpus[0].registers.rax).toBe(0n);
      expect(result.vcpus[1].nmiPending).toBe(0);
    });
  });

  test('INIT and a start-up IPI by hypercall start a processor at its page', async () => {
    const source = `
      ${hypercall}
      mov r8, rax
      mov eax, 10
      mov esi, 0x608
      ${hypercall}
      hlt
      .org 0x8000
      .code16
      mov bx, 0x1234
      hlt`;
    await run(era, vendor, source, { vcpus: 2, aps: 'wait-for-sipi', registers: sendIpi(2n, 0x500n) }, (result) => {
      const [sender, started] = result.vcpus;
      expect([sender.registers.r8, sender.registers.rax]).toEqual([1n, 1n]);
      expect([started.registers.cs, started.registers.cs_base]).toEqual([0x800n, 0x8000n]);
      expect([started.registers.rip, started.registers.rbx]).toEqual([4n, 0x1234n]);
      expect(started.mpState).toBe('halted');
    });
  });

  test('KICK_CPU 0xff wakes every sleeper, and delivers nothing', async () => {
    const registers = { rax: 5n, rbx: 0n, rcx: 0xffn };
    await run(era, vendor, `${hypercall}\nhlt\n`, { vcpus: 3, registers }, (result) => {
      expect(result.vcpus[0].registers.rax).toBe(0n);
      // Each left its HLT, found the next one in the parking loop, and halted again.
      expect(result.vcpus.map((vcpu) => vcpu.counters.byReason.hlt)).toEqual([1, 1, 1]);
      expect(irrs(result)).toEqual([[], [], []]);
    });
  });

  test('vectors 0 to 15 stay in the IRR of a halted receiver with IF = 1', async () => {
    const registers = { ...sendIpi(1n, 15n) };
    await run(era, vendor, `${hypercall}\nsti\nhlt\nud2\n`, { registers }, (result) => {
      expect(result.vcpus[0].registers.rax).toBe(1n);
      expect(result.end).toEqual({ kind: 'halted' });
      expect(irrs(result)).toEqual([[15]]);
      expect(result.counters.irq_injections).toBe(0);
    });
  });

  test('a hypercall under RFLAGS.TF is followed by #DB with DR6.BS', async () => {
    const body = `push 0x102\npopfq\n${hypercall}\nbehind:\nnop`;
    await run(era, vendor, withHandlers([1], body), { registers: { rax: 1n } }, (result, vm) => {
      const { rax, r15, rsp, dr6 } = result.vcpus[0].registers;
      expect([rax, r15, u64(result, rsp)]).toEqual([0n, 1n, symbol(vm, 'behind')]);
      expect(dr6 & 0x4000n).toBe(0x4000n);
    });
  });

  test('an ICR write under RFLAGS.TF is followed by #DB and has sent', async () => {
    const body = 'push 0x102\npopfq\nwrmsr\nbehind:\nnop';
    const options = { vcpus: 2, registers: writeMsr(0x830n, 0x1_0000_00d1n) };
    await run(era, vendor, withHandlers([1], body), options, (result, vm) => {
      const { r15, rsp } = result.vcpus[0].registers;
      expect([r15, u64(result, rsp)]).toEqual([1n, symbol(vm, 'behind')]);
      expect(irrs(result)).toEqual([[], [0xd1]]);
    });
  });

  test('a hypercall in the shadow of STI ends the shadow: a pending interrupt comes in right behind it', async () => {
    const body = `wrmsr\nmov eax, 1\nsti\n${hypercall}\nbehind:\nnop`;
    const options = { registers: writeMsr(0x83fn, 0x40n) };
    await run(era, vendor, withHandlers([0x40], body), options, (result, vm) => {
      const { r15, rsp } = result.vcpus[0].registers;
      expect([r15, u64(result, rsp)]).toEqual([0x40n, symbol(vm, 'behind')]);
      expect(result.vcpus[0].lapic.isr).toEqual([0x40]);
    });
  });

  test('in xAPIC mode destinations are the IDs as rewritten', async () => {
    const body = `
      mov rdi, 0xfee00020
      mov dword ptr [rdi], 9 << 24
      ${hypercall}
      mov r8, rax
      mov eax, 10
      mov edx, 9
      ${hypercall}
      hlt`;
    await run(era, vendor, body, { vcpus: 2, apic: 'xapic', registers: sendIpi(1n, 0xd1n) }, (result) => {
      if (era === '4.19-rc1') return expect(result.end.kind).toBe('host-bug');
      expect([result.vcpus[0].registers.r8, result.vcpus[0].registers.rax]).toEqual([0n, 1n]);
      return expect(irrs(result)).toEqual([[0xd1], []]);
    });
  });

  test('two vCPUs with one xAPIC ID: no map and -95 since v6.3, the first one before', async () => {
    const body = `mov rdi, 0xfee00020\nmov dword ptr [rdi], 1 << 24\n${hypercall}\nhlt`;
    await run(era, vendor, body, { vcpus: 2, apic: 'xapic', registers: sendIpi(2n, 0xd1n) }, (result) => {
      const strict = since(era, '6.3');
      expect(result.vcpus[0].registers.rax).toBe(strict ? signed(-95n) : 1n);
      expect(irrs(result)).toEqual(strict ? [[], []] : [[0xd1], []]);
    });
  });

  test('an xAPIC IPI to an ID that two vCPUs share reaches both since v6.3, the first one before', async () => {
    const body = `
      mov rdi, 0xfee00020
      mov dword ptr [rdi], 1 << 24
      mov rdi, 0xfee00310
      mov dword ptr [rdi], 1 << 24
      mov rdi, 0xfee00300
      mov dword ptr [rdi], 0xd1
      hlt`;
    await run(era, vendor, body, { vcpus: 2, apic: 'xapic' }, (result) => {
      expect(irrs(result)).toEqual(since(era, '6.3') ? [[0xd1], [0xd1]] : [[0xd1], []]);
    });
  });

  test('a hidden PV_SEND_IPI bit with enforcement: -1000 since v5.10', async () => {
    const options = { vcpus: 2, pvFeatures: 0x80, enforcePvFeatures: true, registers: sendIpi(2n, 0xd1n) };
    await run(era, vendor, `${hypercall}\nhlt\n`, options, (result) => {
      const enforced = since(era, '5.10');
      expect(result.vcpus[0].registers.rax).toBe(enforced ? signed(-1000n) : 1n);
      expect(irrs(result)).toEqual(enforced ? [[], []] : [[], [0xd1]]);
      expect(result.counters.hypercalls).toBe(1);
    });
  });

  test("the other vendor's instruction is patched: one exception and one hypercall exit", async () => {
    const wrong = vendor === 'intel' ? 'vmmcall' : 'vmcall';
    const options = { vcpus: 2, registers: sendIpi(2n, 0xd1n) };
    await run(era, vendor, `here:\n${wrong}\nhlt\n`, options, (result, vm) => {
      expect(result.vcpus[0].registers.rax).toBe(1n);
      expect(irrs(result)).toEqual([[], [0xd1]]);
      expect(result.exits.map((exit) => exit.name).slice(1)).toEqual([hypercall, 'hlt']);
      const at = Number(symbol(vm, 'here'));
      expect([...result.memory.slice(at, at + 3)]).toEqual([0x0f, 0x01, vendor === 'intel' ? 0xc1 : 0xd9]);
    });
  });

  test("patching a read-only page is a page fault of the guest's own", async () => {
    const wrong = vendor === 'intel' ? 'vmmcall' : 'vmcall';
    const options: Setup = {
      memory: 0x40_0000,
      registers: { rax: 1n },
      // The first 2 MiB, program and all, without the writable bit; the stack is in the next 2 MiB.
      prepare: (vm) => {
        const entry = BOOT_LAYOUT.pageDirectories;
        vm.write(entry, Uint8Array.of(vm.memory[entry] & ~2));
      },
    };
    await run(era, vendor, withHandlers([6, 14], `here:\n${wrong}`), options, (result, vm) => {
      const { r15, rax, rsp, cr2 } = result.vcpus[0].registers;
      const here = symbol(vm, 'here');
      // Error code: a write to a present page.
      expect([r15, rax, u64(result, rsp), u64(result, rsp + 8n), cr2]).toEqual([14n, 1n, 3n, here, here]);
      expect(result.memory[Number(here) + 2]).toBe(vendor === 'intel' ? 0xd9 : 0xc1);
      expect(result.counters.hypercalls).toBe(0);
    });
  });

  test("the other vendor's instruction at CPL 3: VMMCALL is patched on Intel, VMCALL is #GP(0) on AMD", async () => {
    const wrong = vendor === 'intel' ? 'vmmcall' : 'vmcall';
    const source = withHandlers([6, 13], `here:\n${wrong}\nmov rbx, rax\nxor eax, eax\nout 0xf4, al`);
    // LIDT is for CPL 0 only: the table is set from outside.
    const options: Setup = {
      cpl: 3,
      registers: { rax: 1n },
      prepare: (vm) => {
        const registers = { idtr_base: symbol(vm, 'idt'), idtr_limit: 14n * 16n - 1n, rip: symbol(vm, 'here') };
        vm.setRegisters(0, registers);
      },
    };
    await run(era, vendor, source, options, (result, vm) => {
      const { rbx, r15, rsp } = result.vcpus[0].registers;
      if (vendor === 'intel') return expect([rbx, r15]).toEqual([signed(-1n), BACKGROUND.r15]);
      return expect([r15, u64(result, rsp), u64(result, rsp + 8n)]).toEqual([13n, 0n, symbol(vm, 'here')]);
    });
  });

  test("the other vendor's instruction in real mode: VMMCALL is #UD on Intel, VMCALL is patched on AMD", async () => {
    const wrong = vendor === 'intel' ? 'vmmcall' : 'vmcall';
    const source = `
      .code16
      mov word ptr [6*4], offset invalid
      mov word ptr [6*4+2], 0
      mov eax, 1
      ${wrong}
      hlt
    invalid:
      mov bp, 0x1234
      hlt`;
    await run(era, vendor, source, { mode: 'real16', registers: { rbp: 0n } }, (result) => {
      const { rax, rbp } = result.vcpus[0].registers;
      expect([rax, rbp]).toEqual(vendor === 'intel' ? [1n, 0x1234n] : [0n, 0n]);
    });
  });

  test('with the patching quirk off it is #UD since v5.19', async () => {
    const wrong = vendor === 'intel' ? 'vmmcall' : 'vmcall';
    const options = { disabledQuirks: 0x20, registers: { rax: 1n } };
    await run(era, vendor, withHandlers([6], `here:\n${wrong}`), options, (result, vm) => {
      const { r15, rax, rsp } = result.vcpus[0].registers;
      if (!since(era, '5.19')) return expect([r15, rax]).toEqual([BACKGROUND.r15, 0n]);
      return expect([r15, rax, u64(result, rsp)]).toEqual([6n, 1n, symbol(vm, 'here')]);
    });
  });

  test('SELF_IPI shows in the ICR until v5.17', async () => {
    const body = 'wrmsr\nmov ecx, 0x830\nrdmsr\nhlt';
    await run(era, vendor, body, { registers: writeMsr(0x83fn, 0x40n) }, (result) => {
      const { rax, rdx } = result.vcpus[0].registers;
      expect([rax, rdx]).toEqual([since(era, '5.18') ? 0n : 0x40040n, 0n]);
      expect(irrs(result)).toEqual([[0x40]]);
      expect(result.counters.fastpath).toBe(0);
    });
  });

  test.each([
    ['SELF_IPI with bit 8', 0x83fn, 0x140n],
    ['EOI with bit 32', 0x80bn, 0x1_0000_0000n],
    ['TPR with bit 63', 0x808n, 0x8000_0000_0000_0020n],
  ])('%s raises #GP since v6.3', async (_name, msr, value) => {
    const options = { registers: writeMsr(msr, value) };
    await run(era, vendor, withHandlers([13], 'here:\nwrmsr'), options, (result, vm) => {
      const { r15, rsp } = result.vcpus[0].registers;
      if (!since(era, '6.3')) return expect(r15).toBe(BACKGROUND.r15);
      expect([r15, u64(result, rsp), u64(result, rsp + 8n)]).toEqual([13n, 0n, symbol(vm, 'here')]);
      return expect(irrs(result)).toEqual([[]]);
    });
  });

  test.each([
    ['DFR', 0x80e],
    ['ICR2', 0x831],
    ['EOI', 0x80b],
    ['SELF_IPI', 0x83f],
    ['the hole at 0x840', 0x840],
  ])('RDMSR of %s raises #GP', async (_name, msr) => {
    const options = { registers: { rcx: BigInt(msr) } };
    await run(era, vendor, withHandlers([13], 'rdmsr'), options, (result) => {
      const { r15, rax, rdx } = result.vcpus[0].registers;
      expect([r15, rax, rdx]).toEqual([13n, BACKGROUND.rax, BACKGROUND.rdx]);
    });
  });

  test('RDMSR of APR reads 0 until v5.3, then raises #GP', async () => {
    await run(era, vendor, withHandlers([13], 'rdmsr'), { registers: { rcx: 0x809n } }, (result) => {
      const { r15, rax, rdx } = result.vcpus[0].registers;
      if (since(era, '5.4')) return expect(r15).toBe(13n);
      return expect([r15, rax, rdx]).toEqual([BACKGROUND.r15, 0n, 0n]);
    });
  });

  test('three NMIs leave two pending', async () => {
    const options: Setup = { vcpus: 2, aps: 'wait-for-sipi', registers: writeMsr(0x830n, 0x1_0000_0400n) };
    await run(era, vendor, 'wrmsr\nwrmsr\nwrmsr\nhlt\n', options, (result) => {
      expect(result.vcpus[1].nmiPending).toBe(2);
    });
  });

  test('MSR 0x830 in xAPIC mode: #GP, nothing sent', async () => {
    const options = { vcpus: 2, apic: 'xapic', registers: writeMsr(0x830n, 0x1_0000_00d1n) } as const;
    await run(era, vendor, withHandlers([13], 'wrmsr'), options, (result) => {
      expect(result.vcpus[0].registers.r15).toBe(13n);
      expect(irrs(result)).toEqual([[], []]);
    });
  });

  test('a multi-bit flat logical ID: the map missed it before v6.3', async () => {
    // The sender gives itself the logical ID 3 and sends to the logical ID 2.
    const body = `
      mov rdi, 0xfee000d0
      mov dword ptr [rdi], 3 << 24
      mov rdi, 0xfee00310
      mov dword ptr [rdi], 2 << 24
      mov rdi, 0xfee00300
      mov dword ptr [rdi], 0x8d1
      hlt`;
    await run(era, vendor, body, { apic: 'xapic' }, (result) => {
      expect(irrs(result)).toEqual(since(era, '6.3') ? [[0xd1]] : [[]]);
    });
  });
});
