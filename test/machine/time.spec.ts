/** Virtual time of whole machines: one clock for all vCPUs, made of steps and of jumps to timers, and bounded by the budget. */
import { describe, expect, it } from 'vitest';
import { createVm, type MachineOptions, type RunResult } from '../../src/index.ts';

const PRELUDE = `
    .macro wr register, value
        mov ecx, \\register
        mov eax, \\value
        xor edx, edx
        wrmsr
    .endm
    .macro tsc
        rdtsc
        shl rdx, 32
        or rax, rdx
    .endm
`;

interface Timed {
  readonly run: RunResult;
  /** VM time at the end, in ns. */
  readonly now: number;
}

async function timed(source: string, options: MachineOptions = {}): Promise<Timed> {
  const vm = await createVm(options);
  try {
    vm.load(PRELUDE + source);
    const run = vm.run();
    return { run, now: vm.kvm.clock.now };
  } finally {
    vm.dispose();
  }
}
const register = (run: RunResult, vcpu: number, name: string): bigint => run.vcpus[vcpu]?.registers[name] as bigint;

describe('without timers', () => {
  it('time is the steps of all vCPUs', async () => {
    const { run, now } = await timed('mov ecx, 1000\n1: dec ecx\njnz 1b\nhlt', { vcpus: 3, aps: 'run' });
    expect(now).toBe(run.steps);
    expect(run.steps).toBeGreaterThan(6000);
  });

  it.each([1, 2, 3, 4])('the TSCs of two vCPUs never go back, whichever reads (seed %i)', async (seed) => {
    const source = `
      mov r8d, 2000
      1: mov rbx, [last]
      tsc
      cmp rax, rbx
      adc r9d, 0
      mov [last], rax
      dec r8d
      jnz 1b
      hlt
      last: .quad 0
    `;
    const { run } = await timed(source, { vcpus: 2, aps: 'run', seed });
    expect([register(run, 0, 'r9'), register(run, 1, 'r9')]).toEqual([0n, 0n]);
  });
});

describe('sleeping', () => {
  it('a deadline far away is reached at once, in virtual time', async () => {
    const source = `
      wr 0x832, 0x40040
      mov ecx, 0x6e0
      mov eax, 0
      mov edx, 0x10000           # 2^48 ns, three days
      wrmsr
      hlt
    `;
    const { run, now } = await timed(source);
    expect([run.end.kind, run.vcpus[0]?.lapic.irr]).toEqual(['halted', [0x40]]);
    expect(now).toBe(2 ** 48);
    expect(run.steps).toBeLessThan(20);
  });

  it('a deadline in centuries is never reached', async () => {
    const { run, now } = await timed('wr 0x832, 0x40040\nmov ecx, 0x6e0\nmov eax, -1\nmov edx, eax\nwrmsr\nhlt');
    expect([run.end.kind, run.vcpus[0]?.lapic.irr, now]).toEqual(['halted', [], run.steps]);
  });

  it('a machine with a periodic timer that nobody hears is halted', async () => {
    const { run } = await timed('wr 0x832, 0x20040\nwr 0x838, 1000\ncli\nhlt', { vcpus: 2 });
    expect([run.end.kind, run.vcpus[0]?.lapic.irr]).toEqual(['halted', [0x40]]);
  });

  it('a vector below TPR wakes nobody', async () => {
    const { run } = await timed('wr 0x832, 0x20040\nwr 0x838, 1000\nwr 0x808, 0x50\nsti\n1: hlt\njmp 1b');
    expect([run.end.kind, run.vcpus[0]?.lapic.irr]).toEqual(['halted', [0x40]]);
  });
});

describe('the same program and seed', () => {
  it.each(['intel', 'amd'] as const)('gives the same times on %s', async (vendor) => {
    const source = `
      mov rax, offset handler
      mov edi, 0x110000 + 0x400
      mov word ptr [rdi], ax
      mov word ptr [rdi+2], cs
      mov word ptr [rdi+4], 0x8e00
      shr rax, 16
      mov dword ptr [rdi+6], eax
      mov dword ptr [rdi+12], 0
      lidt [idtr]
      wr 0x83e, 11
      wr 0x832, 0x20040
      wr 0x838, 250000
      sti
      1: cmp dword ptr [count], 20
      jae 2f
      pause
      jmp 1b
      2: cli
      wr 0x838, 0
      tsc
      hlt
      handler: push rax
      push rcx
      push rdx
      inc dword ptr [count]
      wr 0x80b, 0
      pop rdx
      pop rcx
      pop rax
      iretq
      .align 8
      count: .quad 0
      idtr: .word 4095
      .quad 0x110000
    `;
    const options: MachineOptions = { vcpus: 3, aps: 'run', vendor, seed: 7 };
    const [first, second] = [await timed(source, options), await timed(source, options)];
    expect(first.run.end.kind).toBe('halted');
    expect(second.now).toBe(first.now);
    expect(second.run.trace).toEqual(first.run.trace);
    expect(second.run.vcpus).toEqual(first.run.vcpus);
  });
});
