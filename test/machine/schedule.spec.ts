/** Runs by an explicit schedule. */
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, describe, expect, it } from 'vitest';
import { createVm, encodeTrace, KvmscopeError, type MachineOptions, openProgram, runProgram } from '../../src/index.ts';
import { kvmscope } from '../cli/spawn.ts';

const OPTIONS: MachineOptions = { vcpus: 2, aps: 'run', memory: 0x20_0000 };

/** Each vCPU appends its number to a list of bytes, three times; XADD makes room. */
const LIST = `
    .equ LIST, 0x100000
    mov ecx, 0x802
    rdmsr                   # x2APIC ID
    mov ebx, eax
    mov ebp, 3
1:  mov eax, 1
    lock xadd [LIST], al
    movzx eax, al
    mov [LIST+1+rax], bl
    dec ebp
    jnz 1b
    hlt
`;

async function list(schedule: string, options: MachineOptions = {}): Promise<number[]> {
  const vm = await createVm({ ...OPTIONS, ...options });
  vm.load(LIST);
  vm.run({ schedule });
  const bytes = [...vm.memory.subarray(0x10_0001, 0x10_0007)];
  vm.dispose();
  return bytes;
}

const folder = mkdtempSync(join(tmpdir(), 'kvmscope-schedule-'));
afterAll(() => rmSync(folder, { recursive: true }));

describe('a schedule', () => {
  it('decides who comes first, step by step', async () => {
    expect(await list('0*30,1*30')).toEqual([0, 0, 0, 1, 1, 1]);
    expect(await list('1*30,0*30')).toEqual([1, 1, 1, 0, 0, 0]);
    // 4 steps, then 6 for each time: both in turn.
    expect(await list('0*4,1*4,0*6,1*6,0*6,1*6,0*6,1*6')).toEqual([0, 1, 0, 1, 0, 1]);
    expect(await list('0*4,1*4,1*6,0*6,0*6,1*6,0*6,1*6')).toEqual([1, 0, 0, 1, 0, 1]);
  });

  it('has steps of one instruction each', async () => {
    const vm = await createVm(OPTIONS);
    vm.load('inc eax\ninc eax\ninc eax\ninc eax\nhlt');
    const run = vm.run({ schedule: '1*3,0*2', budget: 5 });
    expect(run.vcpus.map((vcpu) => vcpu.registers.rax)).toEqual([2n, 3n]);
    expect(run.end).toEqual({ kind: 'budget', steps: 5 });
    vm.dispose();
  });

  it('counts an exit, and an access to an APIC register in memory, as part of the instruction', async () => {
    const vm = await createVm({ ...OPTIONS, apic: 'xapic' });
    vm.load('mov ebx, 0xfee00080\nmov dword ptr [rbx], 0x20\nmov eax, [rbx]\ncpuid\nmov ecx, 7\nhlt');
    const order: bigint[] = [];
    for (let step = 0; step < 5; step++) {
      expect(vm.turn(1)).toBeUndefined();
      order.push(vm.vcpu(1).registers.rip);
    }
    expect(order.map((rip) => Number(rip - 0x1000n))).toEqual([5, 11, 13, 15, 20]);
    expect(vm.vcpu(1).lapic.tpr).toBe(0x20);
    vm.dispose();
  });

  it('is replayed byte for byte', async () => {
    const vm = await createVm({ ...OPTIONS, kvm: '6.18' });
    const traces = ['0*7,1*5,0*3,1*9', '0*7,1*5,0*3,1*9', '1*7,0*5,1*3,0*9'].map((schedule) => {
      vm.load(LIST);
      const run = vm.run({ schedule });
      return Buffer.from(encodeTrace(run, 'trace.dat')).toString('latin1');
    });
    expect(traces[0]).toBe(traces[1]);
    expect(traces[0]).not.toBe(traces[2]);
    vm.dispose();
  });

  it('is part of a snapshot', async () => {
    const vm = await createVm(OPTIONS);
    vm.load(LIST);
    vm.run({ schedule: '0*4,1*4,0*6,1*6,0*6,1*6,0*6,1*6', budget: 100 });
    const middle = vm.snapshot();
    vm.run();
    const first = vm.memory.slice(0x10_0000, 0x10_0007);
    vm.restore(middle);
    vm.run();
    expect(vm.memory.slice(0x10_0000, 0x10_0007)).toEqual(first);
    vm.dispose();
  });

  it('leaves the rest of the run to the seed', async () => {
    const seeds = [1, 2, 3, 4, 5, 6, 7, 8];
    const lists = await Promise.all(seeds.map((seed) => list('1*8', { seed })));
    for (const bytes of lists) expect(bytes[0]).toBe(1);
    expect(await list('1*8', { seed: 5 })).toEqual(lists[4]);
  });

  it('says what of it did not happen', async () => {
    const vm = await createVm(OPTIONS);
    vm.load('nop\nhlt');
    expect(vm.run({ schedule: '1*5,0*3,1*2' }).notes).toEqual([
      '3 steps of the schedule were skipped: the vCPU slept',
      'the run ended 3 steps before the end of its schedule',
    ]);
    vm.dispose();
  });

  it('names only vCPUs that exist', async () => {
    const error = new KvmscopeError('usage', 'schedule: no vCPU 2: the VM has 2, counted from 0');
    await expect(createVm({ ...OPTIONS, schedule: '0,2*3' })).rejects.toThrow(error);
    const vm = await createVm(OPTIONS);
    vm.load('hlt');
    expect(() => vm.run({ schedule: [{ vcpu: 2, steps: 3 }] })).toThrow(error);
    expect(() => vm.turn(2)).toThrow(new KvmscopeError('usage', 'no vCPU 2: the VM has 2, counted from 0'));
    vm.dispose();
  });
});

describe('a schedule in a header and on the command line', () => {
  const program = (schedule: string, expected: string): string => {
    const path = join(folder, 'list.S');
    const header = `# Who comes first.\n# vcpus: 2   aps: run   memory: 2M   schedule: ${schedule}\n`;
    writeFileSync(path, `${header}# expect: memory[0x100001].u32 = ${expected}\n${LIST}`);
    return path;
  };

  it('is the schedule of the run', async () => {
    const outcome = await runProgram(openProgram(program('1*30, 0*30', '0x010101')));
    expect(outcome.pass).toBe(true);
    expect(outcome.vm.options.schedule).toEqual([
      { vcpu: 1, steps: 30 },
      { vcpu: 0, steps: 30 },
    ]);
    outcome.vm.dispose();
  });

  it('is replaced by --schedule', () => {
    const path = program('1*30,0*30', '0x01000000');
    expect(kvmscope('run', path).status).toBe(1);
    const { status, stdout } = kvmscope('run', path, '--schedule', '0*30,1*30');
    expect(status).toBe(0);
    expect(stdout).toContain('seed 1, schedule 0*30,1*30');
  });

  it('is refused in one line', () => {
    const path = program('1*30,0*30', '0');
    expect(kvmscope('run', path, '--schedule', '0*30,4')).toMatchObject({
      status: 2,
      stderr: 'kvmscope: --schedule: no vCPU 4: the VM has 2, counted from 0\n',
    });
    expect(kvmscope('run', path, '--schedule', 'all')).toMatchObject({
      status: 2,
      stderr: 'kvmscope: --schedule: "all" is neither a vCPU nor vCPU*steps; a schedule is like 0*3,1,0,2*5\n',
    });
    expect(kvmscope('run', program('7', '0'))).toMatchObject({
      status: 2,
      stderr: `kvmscope: ${path}: schedule: no vCPU 7: the VM has 2, counted from 0\n`,
    });
  });
});
