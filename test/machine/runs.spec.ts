/** How runs end, what they cost, and that they are the same every time. */
import '../../src/vitest.ts';
import { describe, expect, it } from 'vitest';
import { createVm, type MachineOptions, type RunResult } from '../../src/index.ts';

/** Runs `source` to its end in a VM of its own. */
async function run(source: string, options: MachineOptions = {}): Promise<RunResult> {
  const vm = await createVm(options);
  vm.load(source);
  const result = vm.run();
  vm.dispose();
  return result;
}

/** Every vCPU adds its APIC ID to a counter, 100 times, then halts; vCPU 0 sends an IPI to all others every tenth time. */
const BUSY = `
    mov ecx, 0x802          # x2APIC ID
    rdmsr
    mov ebp, eax
    mov r8d, 100
again:
    lock add [counter], ebp
    lock inc dword ptr [rounds]
    test ebp, ebp
    jnz next
    xor edx, edx
    mov eax, r8d
    mov ebx, 10
    div ebx
    test edx, edx
    jnz next
    mov ecx, 0x830          # all excluding self, vector 0x40
    mov eax, 0xc0040
    xor edx, edx
    wrmsr
next:
    dec r8d
    jnz again
    hlt
    .balign 8
counter: .long 0
rounds: .long 0
`;

const text = (result: RunResult): string =>
  JSON.stringify({ ...result, memory: undefined }, (_, value) =>
    typeof value === 'bigint' ? `0x${value.toString(16)}` : value,
  );

describe('a run', () => {
  it('ends halted when every vCPU has halted', async () => {
    expect((await run('hlt')).end).toEqual({ kind: 'halted' });
  });

  it('ends with the status written to port 0xf4', async () => {
    const result = await run('mov eax, 0x1234\n out 0xf4, eax\n ud2');
    expect(result.end).toEqual({ kind: 'exit', status: 0x1234 });
    expect(result).toMeet('end = exit 0x1234');
  });

  it('ends with shutdown at a triple fault, RIP at the instruction that started it', async () => {
    expect((await run('nop\n ud2')).end).toEqual({ kind: 'shutdown', vcpu: 0, rip: 0x1001n });
  });

  it('can be continued after its budget is used up', async () => {
    const vm = await createVm({ budget: 1000 });
    vm.load('mov ecx, 1000\n l: dec ecx\n jnz l\n hlt');
    const first = vm.run();
    expect(first.end).toEqual({ kind: 'budget', steps: 1000 });
    expect(first.steps).toBe(1000);
    const second = vm.run({ budget: 10_000 });
    expect(second).toEndWith('halted');
    expect(second).toHaveRegisters({ rcx: 0n });
    expect(second.start[0].rcx).toBe(first.vcpus[0].registers.rcx);
    vm.dispose();
  });

  it.each([
    ['an endless loop', 'jmp .'],
    ['a hypercall storm', 'again: mov eax, 1\n vmcall\n jmp again'],
    ['an IPI storm', 'mov ecx, 0x830\n mov eax, 0xc4040\n xor edx, edx\n again: wrmsr\n jmp again'],
    ['an I/O storm', 'again: in al, 0x60\n jmp again'],
    ['a REP OUTS storm', 'again: mov rcx, -1\n mov rsi, 0x1000\n mov edx, 0xe9\n rep outsb\n jmp again'],
    ['an MMIO storm', 'mov rbx, 0xfed00000\n again: mov eax, [rbx]\n jmp again'],
    ['a PAUSE loop', 'again: pause\n jmp again'],
    ['a REP STOS over all of memory', 'again: mov rcx, 0x100000\n mov rdi, 0x100000\n rep stosb\n jmp again'],
  ])('ends at its budget in %s', async (_, source) => {
    expect((await run(source, { vcpus: 2, budget: 100_000 })).end).toEqual({ kind: 'budget', steps: 100_000 });
  });

  it('notes ports and addresses nobody answers, once each', async () => {
    const result = await run(
      'in al, 0x60\n in al, 0x60\n out 0x61, al\n mov rbx, 0xfed00000\n mov ecx, [rbx]\n mov ecx, [rbx+4]\n hlt',
    );
    expect(result.notes).toEqual([
      'port 0x60: nobody there, reads give all-ones',
      'port 0x61: nobody there, writes are dropped',
      'guest-physical page 0xfed00000: nobody there, reads give all-ones',
    ]);
    expect(result).toHaveRegisters({ rax: 0xffn, rcx: 0xffff_ffffn });
  });

  it('keeps console text and reports', async () => {
    const result = await run(`
        mov al, 'h'
        out 0xe9, al
        mov al, 'i'
        mov edx, 0x3f8
        out dx, al
        mov eax, -22
        out 0xe8, eax
        hlt`);
    expect(result.console).toBe('hi');
    expect(result.reports).toEqual([{ vcpu: 0, value: 0xffffffea }]);
    expect(result).toMeet('reports = [-22]');
  });

  it('records nothing when asked to, and counts all the same', async () => {
    const result = await run('mov eax, 1\n vmcall\n hlt', { record: false });
    expect([result.exits, result.trace]).toEqual([[], []]);
    expect(result).toHaveExits({ vmcall: 1, hlt: 1 });
  });
});

describe('the same program, seed and era', () => {
  it.each([1, 4, 80, 255])('give the same run byte for byte with %i vCPUs', async (vcpus) => {
    const options = { vcpus, aps: 'run', seed: 42 } as const;
    const first = await run(BUSY, options);
    expect(first).toEndWith('halted');
    expect(first.vcpus.every((vcpu) => vcpu.registers.r8 === 0n)).toBe(true);
    expect(text(await run(BUSY, options))).toBe(text(first));
  });

  it('give another interleaving with another seed, and the same sums', async () => {
    const traces = new Set<string>();
    for (const seed of [1, 2, 3, 4]) {
      const vm = await createVm({ vcpus: 4, aps: 'run', seed });
      const { symbols } = vm.load(BUSY);
      const result = vm.run();
      const view = new DataView(vm.memory.buffer, vm.memory.byteOffset);
      const word = (name: string) => view.getUint32(Number(symbols.get(name)), true);
      expect([word('counter'), word('rounds')]).toEqual([100 * (1 + 2 + 3), 400]);
      traces.add(text({ ...result, seed: 0 }));
      vm.dispose();
    }
    expect(traces.size).toBeGreaterThan(1);
  });
});
