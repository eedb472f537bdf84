/** Snapshots of a VM: nothing that can change is left out, and a run from a restored state is the run that followed it. */
import { createHash } from 'node:crypto';
import { describe, expect, it } from 'vitest';
import { type Cpu, createVm, findPrograms, openProgram, type RunResult, type Vm } from '../../src/index.ts';
import { dumpGraph } from '../support/graph.ts';
import { numbers, randomBytes, randomOptions } from '../support/random-programs.ts';

/** Left out of the graph: the engine, whose state is compared by itself; bookkeeping of snapshots; tables that never change; the cache of CPUID leaves. */
const SKIPPED = /\.(#cpu|cpu|state|#snapshots|#twin|#program|#?era|#?options|exitTable|hypercalls|cpuidCache|#items)$/;
const text = (value: unknown): string =>
  JSON.stringify(value, (_, field) => (typeof field === 'bigint' ? `${field}n` : field));
const hash = (bytes: Uint8Array): string => createHash('sha1').update(bytes).digest('hex');

/** Everything about a VM now: the graph of its objects, registers, RAM. */
function everything(vm: Vm): string[] {
  const registers = Array.from({ length: vm.options.vcpus }, (_, index) => text(vm.vcpu(index)));
  return [...dumpGraph(vm, (path) => SKIPPED.test(path)).sort(), ...registers, hash(vm.memory)];
}
const result = ({ memory, ...rest }: RunResult): string => text({ ...rest, memory: hash(memory) });

/** Takes a snapshot after `steps`, runs to the end, and does so again from the snapshot. */
function checkReturn(vm: Vm, steps: number): void {
  vm.advance({ budget: steps });
  // Thousands of fields for each vCPU.
  const deep = vm.options.vcpus <= 4;
  const snapshot = vm.snapshot();
  const before = deep ? everything(vm) : [];
  const end = result(vm.run({ budget: 20_000 }));
  vm.restore(snapshot);
  if (deep) expect(everything(vm)).toEqual(before);
  expect(result(vm.run({ budget: 20_000 }))).toBe(end);
}

describe('every field is brought back, and the run repeats itself', () => {
  it.each(findPrograms(['guest']))('%s', async (path) => {
    const opened = openProgram(path);
    const vm = await createVm(opened.options);
    vm.load(opened.program);
    const start = vm.snapshot();
    const before = vm.options.vcpus <= 4 ? everything(vm) : [];
    vm.run({ budget: 20_000 });
    vm.restore(start);
    if (before.length > 0) expect(everything(vm)).toEqual(before);
    checkReturn(vm, 1 + ((path.length * 37) % 400));
    vm.dispose();
  });

  it.each([1, 2, 3, 4])('random programs (batch %i)', async (batch) => {
    const next = numbers(batch * 1000);
    for (let i = 0; i < 10; i++) {
      const bytes = randomBytes(next);
      const vm = await createVm(randomOptions(next));
      vm.load(bytes);
      checkReturn(vm, 1 + (next() % 500));
      vm.dispose();
    }
  });
});

/** Instructions that read and write the devices of a PC, at random. */
function deviceAccesses(next: () => number): string {
  const ports = [
    0x20, 0x21, 0xa0, 0xa1, 0x4d0, 0x4d1, 0x40, 0x41, 0x42, 0x43, 0x61, 0x70, 0x71, 0x60, 0x64, 0xcf8, 0xcfc, 0xcfd,
    0xe0,
  ];
  ports.push(0x2003, 0x3f8, 0x3f9, 0x3fb, 0x510, 0x511, 0x600, 0x602, 0xc000, 0xc080, 0x123);
  const memory = [
    0xfec00000, 0xfec00010, 0xfee00080, 0xfee00320, 0xfee00380, 0xfebf1000, 0xfebf1800, 0xff000123, 0xd0000000,
  ];
  const pick = <T>(list: readonly T[]): T => list[next() % list.length];
  const one = (): string => {
    if (next() % 4 === 0) {
      const address = pick(memory);
      return next() % 2 ? `mov dword ptr [${address}], ${next()}` : `mov eax, [${address}]`;
    }
    const register = pick(['al', 'al', 'ax', 'eax']);
    // Bit 31 opens PCI configuration space.
    const value = next() % 3 ? next() % 256 : 0x80001000 + (next() % 8) * 4;
    const access = next() % 3 ? `out dx, ${register}` : `in ${register}, dx`;
    return `mov edx, ${pick(ports)}\n mov eax, ${value}\n ${access}`;
  };
  return `.code32\n ${Array.from({ length: 60 }, one).join('\n ')}\n 1: hlt\n jmp 1b`;
}

it.each([1, 2, 3, 4, 5, 6, 7, 8])('every field of a PC is brought back (%i)', async (seed) => {
  const next = numbers(seed);
  const vm = await createVm({ board: 'pc', mode: 'prot32', memory: 0x200000, vcpus: 2, apic: 'xapic' });
  vm.load(deviceAccesses(next));
  for (let i = 0; i < 4; i++) checkReturn(vm, 1 + (next() % 2000));
  vm.dispose();
});

describe('several snapshots of a run', () => {
  it('lead on to the same ends, restored in any order', async () => {
    const next = numbers(5);
    for (let i = 0; i < 8; i++) {
      const vm = await createVm(randomOptions(next));
      vm.load(randomBytes(next));
      const points = Array.from({ length: 4 }, () => {
        const snapshot = vm.snapshot();
        const budget = 1 + (next() % 500);
        return { snapshot, budget, run: result(vm.run({ budget })) };
      });
      for (let turn = 0; turn < 12; turn++) {
        const { snapshot, budget, run } = points[next() % points.length];
        vm.restore(snapshot);
        expect(result(vm.run({ budget }))).toBe(run);
      }
      vm.dispose();
    }
  });
});

describe('a snapshot', () => {
  const TALKING = `
    mov dx, 0xe9
    mov al, 65
    out dx, al
    out 0xe8, eax
    in al, 0x71
    mov al, 66
    out dx, al
    out 0xe8, eax
    hlt`;
  const said = ({ console, reports, notes, trace }: RunResult) => ({ console, reports, notes, events: trace.length });

  it('brings back what the guest said and what is recorded and not yet handed over', async () => {
    const vm = await createVm();
    vm.load(TALKING);
    const snapshots = Array.from({ length: 8 }, () => {
      const snapshot = vm.snapshot();
      vm.step();
      return snapshot;
    });
    const whole = said(vm.run());
    expect(whole).toMatchObject({ console: 'AB', reports: [{ value: 65 }, { value: 0xff42 & 0xff }] });
    for (const at of [0, 7, 3, 3, 5, 0]) {
      vm.restore(snapshots[at]);
      expect(said(vm.run()), `from step ${at}`).toEqual(whole);
    }
  });

  it('from before another program was loaded brings the first one back', async () => {
    const vm = await createVm({ vcpus: 2 });
    const first = vm.load('mov eax, 3\n hlt');
    const snapshot = vm.snapshot();
    const end = result(vm.run());
    vm.load('mov ebx, 4\n hlt');
    vm.run();
    vm.restore(snapshot);
    expect(vm.program).toBe(first);
    expect(result(vm.run())).toBe(end);
    expect(vm.vcpu(0).registers.rax).toBe(3n);
  });

  it('leaves the next VM on the same engine alone', async () => {
    const first = await createVm({ memory: 0x200000 });
    first.load('mov byte ptr [0x50000], 1\n hlt');
    const snapshot = first.snapshot();
    first.run();
    first.dispose();
    const second = await createVm({ memory: 0x200000 });
    expect(second.memory[0x50000]).toBe(0);
    expect(() => first.restore(snapshot)).toThrow('this VM has been disposed of');
    expect(() => first.snapshot()).toThrow('this VM has been disposed of');
  });

  it('of another VM, or one that was disposed of, cannot be restored', async () => {
    const [a, b] = [await createVm(), await createVm()];
    const snapshot = a.snapshot();
    b.snapshot();
    expect(() => b.restore(snapshot)).toThrow('this snapshot was taken of another VM');
    snapshot.dispose();
    expect(() => a.restore(snapshot)).toThrow('this snapshot has been disposed of');
  });

  it('needs an engine that has snapshots', async () => {
    const { cpu } = (await createVm({ memory: 0x200000 })).kvm;
    const plain: Cpu = {
      vcpuCount: cpu.vcpuCount,
      vendor: cpu.vendor,
      memory: cpu.memory,
      vcpu: (index) => cpu.vcpu(index),
      run: (index, budget) => cpu.run(index, budget),
      memoryWritten: (address, length) => cpu.memoryWritten(address, length),
    };
    const vm = await createVm({ memory: 0x200000, cpu: plain });
    expect(() => vm.snapshot()).toThrow('the engine of this VM has no snapshots; the built-in one has');
  });
});

describe('advance', () => {
  it('ends as run does and leaves the record to it', async () => {
    const vm = await createVm();
    vm.load('out 0xe8, eax\n mov eax, 1\n out 0xf4, eax');
    expect(vm.advance({ budget: 1 })).toEqual({ kind: 'budget', steps: 1 });
    expect(vm.advance()).toEqual({ kind: 'exit', status: 1 });
    expect(
      vm
        .run({ budget: 1 })
        .exits.map((exit) => exit.name)
        .slice(0, 2),
    ).toEqual(['io_instruction', 'io_instruction']);
  });

  it('refuses a budget or a seed that is none', async () => {
    const vm = await createVm();
    expect(() => vm.advance({ budget: Number.NaN })).toThrow('budget must be a whole number');
    expect(() => vm.advance({ seed: -1 })).toThrow('seed must be a whole number');
  });
});
