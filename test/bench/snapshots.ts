/** Snapshots: what a restore costs by what changed, and cases per second of a campaign that restores before each. */
import { createVm, type Vm } from '../../src/index.ts';
import type { Workload } from './measure.ts';

const CASES = 20_000;
const COPIES = 20;

/** The hypercall that sends an IPI to vCPUs 1 to 3. */
const SEND = `
  mov ebx, 0b1110
  xor ecx, ecx
  xor edx, edx
  mov esi, 0xf0
  mov eax, 10
  vmcall
  hlt
`;

/** The same after a first one to itself, which is not part of the cases: KVM builds its APIC map for it. */
const SEND_AGAIN = `
  mov ebx, 1
  xor ecx, ecx
  xor edx, edx
  mov esi, 0xf0
  mov eax, 10
  vmcall
  out 0xf4, al
  ${SEND}
`;

/** The others wait in HLT with IF = 1 and take the interrupt: handler, EOI, IRET, HLT. */
const TAKE = `
  .include "ipi.inc"
  _start:
  set_gate 0xf0, count_interrupt
  load_idt
  mov ecx, 0x802
  rdmsr
  test eax, eax
  jz first
  sti
  lock inc byte ptr [rip+ready]
  1: hlt
  jmp 1b
  first:
  pause
  cmp byte ptr [rip+ready], 3
  jne first
  out 0xf4, al
  ${SEND}
  ready: .byte 0
`;

/** A VM that has run to its first write of the exit port; one operation goes back there and runs to the end. */
async function campaign(source: string, aps: 'halted' | 'run'): Promise<() => number> {
  const vm = await createVm({ vcpus: 4, record: false, aps });
  vm.load(source, { fileName: 'guest/bench.S' });
  vm.advance();
  const snapshot = vm.snapshot();
  return () => {
    for (let i = 0; i < CASES; i++) {
      vm.restore(snapshot);
      vm.advance({ budget: 100_000 });
    }
    return CASES;
  };
}

/** One byte written in each of `pages` pages, and a restore. */
function dirty(vm: Vm, pages: number): () => number {
  const { cpu } = vm.kvm;
  const snapshot = vm.snapshot();
  const rounds = Math.ceil(CASES / pages);
  return () => {
    for (let i = 0; i < rounds; i++) {
      for (let page = 0; page < pages; page++) {
        const address = 0x200000 + page * 4096;
        cpu.memoryWritten(address, 1);
        cpu.memory[address]++;
      }
      vm.restore(snapshot);
    }
    return rounds;
  };
}

export async function snapshotWorkloads(): Promise<Workload[]> {
  const one = await createVm({ record: false });
  const copy = new Uint8Array(one.memory);
  const copyAll = (): number => {
    for (let i = 0; i < COPIES; i++) one.memory.set(copy);
    return COPIES;
  };
  const whole = 'copy of 16 MiB';
  return [
    { name: whole, unit: 'copy', run: copyAll },
    ...[1, 16, 256].map((pages) => ({
      name: `restore, ${pages} dirty page${pages === 1 ? '' : 's'}`,
      unit: 'restore',
      against: whole,
      run: dirty(one, pages),
    })),
    {
      name: 'restore, PV IPI to three, HLT',
      unit: 'case',
      against: 'vmcall, PV IPI to one',
      run: await campaign(SEND_AGAIN, 'halted'),
    },
    {
      name: 'the same, and all three take it',
      unit: 'case',
      against: 'vmcall, PV IPI to one',
      run: await campaign(TAKE, 'run'),
    },
  ];
}
