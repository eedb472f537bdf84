/**
 * A VM that nobody watches handles exits while the engine still waits (`Cpu.handleExits`): nothing but speed depends on it, however a run
 * is divided.
 */
import { describe, expect, it } from 'vitest';
import {
  createVm,
  findPrograms,
  type MachineOptions,
  openProgram,
  type Program,
  type RunEnd,
  type Vm,
} from '../../src/index.ts';
import { numbers, randomBytes, randomOptions } from '../support/random-programs.ts';

const BUDGET = 60_000;

/** Runs to an end, in portions of `portion` steps, and tells all that can be observed; `inside` false: the engine leaves at every exit. */
async function play(
  program: Program | Uint8Array,
  options: MachineOptions,
  inside: boolean,
  portion: number,
): Promise<object> {
  const vm = await createVm({ ...options, budget: BUDGET, record: false });
  vm.load(program as Program);
  if (!inside) vm.kvm.cpu.handleExits?.(null);
  let end: RunEnd = { kind: 'budget', steps: 0 };
  for (let left = BUDGET; left > 0 && end.kind === 'budget'; left -= portion) {
    end = vm.advance({ budget: Math.min(left, portion) });
  }
  const fingerprint = vm.fingerprint({ time: true, counters: true });
  const seen = {
    end,
    fingerprint,
    steps: vm.kvm.vcpus.map(({ state }) => state.steps),
    counters: vm.kvm.vcpus.map(({ counters }) => ({ ...counters })),
  };
  vm.dispose();
  return seen;
}

async function compare(program: Program | Uint8Array, options: MachineOptions): Promise<void> {
  for (const portion of [BUDGET, 777]) {
    expect(await play(program, options, true, portion)).toEqual(await play(program, options, false, portion));
  }
}

describe('a guest is the same with exits handled inside the engine: programs', () => {
  it.each(findPrograms(['guest']))('%s', async (path) => {
    const { program, options } = openProgram(path);
    await compare(program, options);
  });
});

describe('a guest is the same with exits handled inside the engine: random bytes', () => {
  const next = numbers(78);
  it.each(Array.from({ length: 60 }, (_, n) => [n]))('%i', async () => {
    await compare(randomBytes(next), randomOptions(next));
  });
});

describe('Cpu.run', () => {
  /** How often the engine was entered for a program that ends with a write to the exit port. */
  async function entries(source: string): Promise<[entries: number, exits: number]> {
    const vm: Vm = await createVm({ vcpus: 2, record: false });
    vm.load(`mov ecx, 1000\n1:\nmov ebp, ecx\n${source}\nmov ecx, ebp\nloop 1b\nout 0xf4, al`, { fileName: 'x.S' });
    const { cpu } = vm.kvm;
    const run = cpu.run.bind(cpu);
    let count = 0;
    cpu.run = (index, budget) => {
      count++;
      return run(index, budget);
    };
    expect(vm.advance().kind).toBe('exit');
    const { exits } = vm.kvm.vcpus[0].counters;
    vm.dispose();
    return [count, exits];
  }

  it('is called once a turn for a thousand hypercalls, ICR writes, CPUIDs or MSR reads', async () => {
    // The first of two turns is a short one.
    expect(await entries('mov eax, 1\nvmcall')).toEqual([2, 1001]);
    expect(await entries('mov ecx, 0x830\nmov edx, 1\nmov eax, 0xf0\nwrmsr')).toEqual([2, 1001]);
    expect(await entries('xor eax, eax\ncpuid')).toEqual([2, 1001]);
    expect(await entries('mov ecx, 0x802\nrdmsr')).toEqual([2, 1001]);
  });

  it('is called again after an exit with an event to evaluate', async () => {
    // Each IPI to itself requests the evaluation.
    expect(await entries('mov ecx, 0x830\nxor edx, edx\nmov eax, 0xf0\nwrmsr')).toEqual([1002, 1001]);
  });
});
