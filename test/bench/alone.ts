/** What only kvmscope does: snapshots of whole machines, broadcasts to many processors. */
import {
  type Campaign,
  createVm,
  type IpiScenario,
  ipiRounds,
  NEWEST_ERA,
  openCampaign,
  topologiesFor,
  type Vm,
  type VmOptions,
} from '../../src/index.ts';
import { cpuSeconds, wentAstray } from './engines/engine.ts';
import type { Runner } from './measure.ts';
import { assembleGuest } from './workloads.ts';

export interface Alone extends Runner {
  readonly name: string;
  readonly title: string;
  /** What one time of it is. */
  readonly unit: string;
  /** How many of those one `run(1)` does. */
  readonly count: number;
  close(): void;
}

/** A measurement and what it needs; `open` makes the VMs. */
export interface AloneRow extends Pick<Alone, 'name' | 'title' | 'unit' | 'count'> {
  open(): Promise<Pick<Alone, 'close'> & { once(): void | Promise<void> }>;
}

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

const CASES = 1000;

/** A VM that has run to its first write of the exit port; a case goes back there and runs to the end. */
async function campaign(source: string, aps: 'halted' | 'run'): ReturnType<AloneRow['open']> {
  const vm = await createVm({ vcpus: 4, record: false, aps });
  vm.load(source, { fileName: 'guest/bench.S' });
  vm.advance();
  const snapshot = vm.snapshot();
  return {
    once: () => {
      for (let i = 0; i < CASES; i++) {
        vm.restore(snapshot);
        vm.advance({ budget: 100_000 });
      }
    },
    close: () => vm.dispose(),
  };
}

/** One byte written in each of `pages` pages, and a restore. */
async function dirty(pages: number): ReturnType<AloneRow['open']> {
  const vm = await createVm({ record: false });
  const { cpu } = vm.kvm;
  const snapshot = vm.snapshot();
  return {
    once: () => {
      for (let page = 0; page < pages; page++) {
        const address = 0x200000 + page * 4096;
        cpu.memoryWritten(address, 1);
        cpu.memory[address]++;
      }
      vm.restore(snapshot);
    },
    close: () => vm.dispose(),
  };
}

async function copyAll(): ReturnType<AloneRow['open']> {
  const vm = await createVm({ record: false });
  const copy = new Uint8Array(vm.memory);
  return { once: () => vm.memory.set(copy), close: () => vm.dispose() };
}

/** As in broadcast.S. */
const MODES = { pv: 0, each: 1, shorthand: 2 } as const;
const MODE_TITLES = { pv: 'PV IPI', each: 'one ICR write each', shorthand: 'ICR shorthand' } as const;
const ROUNDS = 50;

async function broadcast(mode: keyof typeof MODES, vcpus: number, targets: number): ReturnType<AloneRow['open']> {
  const all = (1n << BigInt(targets)) - 1n;
  const image = assembleGuest('broadcast', 64, {
    VCPUS: BigInt(vcpus),
    TARGETS: BigInt(targets),
    MODE: BigInt(MODES[mode]),
    BITMAP_LOW: BigInt.asUintN(64, all),
    BITMAP_HIGH: all >> 64n,
  });
  const options: VmOptions = { vcpus, record: false, aps: 'run', budget: Number.MAX_SAFE_INTEGER };
  const vm: Vm = await createVm(options);
  vm.load(image.program);
  const request = new Uint8Array([1, 0, 0, 0]);
  return {
    once: () => {
      vm.write(image.laps, request);
      const end = vm.advance();
      if (end.kind !== 'exit') throw wentAstray('the broadcast', JSON.stringify(end));
    },
    close: () => vm.dispose(),
  };
}

export const broadcastRow = (mode: keyof typeof MODES, vcpus: number, targets: number): AloneRow => ({
  name: `broadcast-${mode}-${targets}-of-${vcpus}`,
  title: `${MODE_TITLES[mode]} to ${targets}, taken by all, ${vcpus} vCPUs`,
  unit: 'round',
  count: ROUNDS,
  open: () => broadcast(mode, vcpus, targets),
});

const PLAYED = 20;

/** A round of the IPI micro-benchmark (`kvmscope bench ipi`): 80 vCPUs, function calls with their queues and flags. */
const ipiRow = (title: string, scenario: Partial<IpiScenario>): AloneRow => ({
  name: `ipi-${Object.values(scenario).join('-')}`,
  title: `micro-benchmark, ${title}`,
  unit: 'round',
  count: PLAYED,
  open: async () => {
    const bench = await ipiRounds(scenario);
    return {
      once: () => {
        bench.play(PLAYED);
      },
      close: () => bench.dispose(),
    };
  },
});

/** Fuzzing of ICR values on four vCPUs against the rules that hold in every era; `direct`: without guest instructions. */
export const icrCampaign = (direct: boolean): Campaign => ({
  kind: 'icr',
  kvm: NEWEST_ERA.name,
  topologies: topologiesFor('icr', { vcpus: 4 }),
  seed: 1,
  blockSize: direct ? 32768 : 2048,
  direct,
});

const fuzzRow = (name: string, title: string, direct: boolean): AloneRow => ({
  name,
  title,
  unit: 'case',
  count: icrCampaign(direct).blockSize,
  open: async () => {
    const runner = await openCampaign(icrCampaign(direct));
    let block = 0;
    return {
      once: async () => {
        await runner.runBlock(block++);
      },
      close: () => runner.dispose(),
    };
  },
});

export const ALONE: readonly AloneRow[] = [
  { name: 'copy-16m', title: 'copy of 16 MiB', unit: 'copy', count: 1, open: copyAll },
  ...[1, 16, 256].map((pages) => ({
    name: `restore-${pages}`,
    title: `restore, ${pages} dirty page${pages === 1 ? '' : 's'}`,
    unit: 'restore',
    count: 1,
    open: () => dirty(pages),
  })),
  {
    name: 'restore-ipi',
    title: 'restore of 4 vCPUs, PV IPI to three, HLT',
    unit: 'case',
    count: CASES,
    open: () => campaign(SEND_AGAIN, 'halted'),
  },
  {
    name: 'restore-taken',
    title: 'the same, and all three take it',
    unit: 'case',
    count: CASES,
    open: () => campaign(TAKE, 'run'),
  },
  broadcastRow('pv', 80, 79),
  broadcastRow('each', 80, 79),
  broadcastRow('shorthand', 80, 79),
  broadcastRow('pv', 80, 10),
  broadcastRow('pv', 80, 40),
  broadcastRow('pv', 255, 10),
  ipiRow('broadcast by PV IPI', { mode: 'broadcast', send: 'pv' }),
  ipiRow('broadcast by clusters', { mode: 'broadcast', send: 'vanilla', apic: 'cluster' }),
  ipiRow('broadcast one by one', { mode: 'broadcast', send: 'vanilla', apic: 'physical' }),
  ipiRow('broadcast one by one, xAPIC', { mode: 'broadcast', send: 'vanilla', apic: 'xapic' }),
  ipiRow('broadcast by shorthand', { mode: 'broadcast', send: 'shorthand' }),
  ipiRow('broadcast with a lock by PV IPI', { mode: 'broadcast-lock', send: 'pv' }),
  ipiRow('one call', { mode: 'normal' }),
  ipiRow('a call to itself', { mode: 'self' }),
  ipiRow('no call', { mode: 'dry-run' }),
  fuzzRow('fuzz-direct', 'fuzzing ICR values, KVM alone', true),
  fuzzRow('fuzz-guest', 'fuzzing ICR values, as guest instructions', false),
];

/** Makes the VMs of a measurement. */
export async function openAlone(row: AloneRow): Promise<Alone> {
  const { once, close } = await row.open();
  return {
    ...row,
    close,
    run: async (times) => {
      const start = cpuSeconds();
      for (let n = 0; n < times; n++) {
        const end = once();
        if (end !== undefined) await end;
      }
      return cpuSeconds() - start;
    },
  };
}
