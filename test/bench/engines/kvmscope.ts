/** kvmscope itself: a VM with two vCPUs, the second one halted. Everything that a user's VM does is included. */
import { createVm, type Vm } from '../../../src/index.ts';
import type { Image } from '../workloads.ts';
import { cpuSeconds, type Engine, type Machine, wentAstray } from './engine.ts';

async function load(
  image: Image,
  tier2: boolean,
): Promise<{ vm: Vm; ask: (laps: number) => void; advance: () => void }> {
  const vm = await createVm({
    vcpus: 2,
    record: false,
    tier2,
    mode: image.bits === 64 ? 'long64' : 'prot32',
    budget: Number.MAX_SAFE_INTEGER,
  });
  vm.load(image.program);
  const request = new Uint8Array(4);
  return {
    vm,
    ask: (laps) => {
      new DataView(request.buffer).setUint32(0, laps, true);
      vm.write(image.laps, request);
    },
    advance: () => {
      const end = vm.advance();
      if (end.kind !== 'exit') throw wentAstray('kvmscope', JSON.stringify(end));
    },
  };
}

/** Guest instructions of a lap, each iteration of a REP counted. */
export async function lapSteps(image: Image): Promise<number> {
  const { vm, ask, advance } = await load(image, false);
  const steps = (): number => {
    const before = vm.kvm.cpu.vcpu(0).steps;
    ask(1);
    advance();
    return vm.kvm.cpu.vcpu(0).steps - before;
  };
  // The first one has the setup, too.
  steps();
  const count = steps();
  vm.dispose();
  return count;
}

async function open(image: Image, tier2: boolean): Promise<Machine> {
  const { vm, ask, advance } = await load(image, tier2);
  const cells = new DataView(vm.memory.buffer, vm.memory.byteOffset);
  const machine = { result: () => cells.getUint32(image.result, true), close: () => vm.dispose() };
  if (!image.workload.restores) {
    return {
      ...machine,
      run: async (laps) => {
        ask(laps);
        const start = cpuSeconds();
        advance();
        return cpuSeconds() - start;
      },
    };
  }
  ask(1);
  advance();
  ask(1);
  const snapshot = vm.snapshot();
  return {
    ...machine,
    run: async (laps) => {
      const start = cpuSeconds();
      for (let lap = 0; lap < laps; lap++) {
        vm.restore(snapshot);
        advance();
      }
      return cpuSeconds() - start;
    },
  };
}

export const interpreter: Engine = {
  ...{ name: 'interpreter', title: 'interpreter', bits: 64, lacks: {} },
  open: (image) => open(image, false),
};

/** What a VM does unless told otherwise: the interpreter, and what becomes hot is translated to WebAssembly. */
export const jit: Engine = {
  ...{ name: 'jit', title: 'second tier', bits: 64, lacks: {} },
  open: (image) => open(image, true),
};
