/** Snapshots of the engine: RAM, vCPU state blocks, TLBs and decoded code after a restore are those of the snapshot. */
import { createHash } from 'node:crypto';
import { describe, expect, it } from 'vitest';
import { STATE_STRIDE, TLB_BYTES, TLB_FILLED, TLB_PART } from '../../src/cpu/core/layout.ts';
import type { CpuSnapshot } from '../../src/cpu/cpu.ts';
import { REGISTERS } from '../../src/cpu/registers.ts';
import { WasmCpu } from '../../src/cpu/wasm-cpu.ts';
import { Random } from '../../src/machine/scheduler.ts';
import { type Bare, bare, PT } from './bare.ts';

const DATA = 0x100000;

/** A vCPU with snapshots: `Bare` over the built-in engine. */
async function machine(mode: Parameters<typeof bare>[0] = 'long64'): Promise<Bare & { readonly cpu: WasmCpu }> {
  return (await bare(mode)) as Bare & { readonly cpu: WasmCpu };
}
const registers = (b: Bare): bigint[] => REGISTERS.map(({ id }) => b.state.get(id));
const ram = (b: Bare): string => createHash('sha1').update(b.cpu.memory).digest('hex');

describe('a restore', () => {
  it('brings back RAM, registers and steps, and the run from there repeats itself', async () => {
    const b = await machine();
    b.load('mov ecx, 100\n1: add [rcx*8 + 0x100000], rcx\n push rcx\n pop rax\n loop 1b\n hlt');
    b.cpu.run(0, 50);
    const snapshot = b.cpu.snapshot();
    const before = [registers(b), b.state.steps, ram(b)];
    b.go();
    const end = [registers(b), b.state.steps, ram(b)];
    b.cpu.restore(snapshot);
    expect([registers(b), b.state.steps, ram(b)]).toEqual(before);
    b.go();
    expect([registers(b), b.state.steps, ram(b)]).toEqual(end);
  });

  it('takes back accessed and dirty bits of page tables', async () => {
    const b = await machine();
    b.load('mov [0x123000], eax\n hlt');
    const snapshot = b.cpu.snapshot();
    b.go();
    expect(b.read64(PT + 0x123 * 8)).toBe(0x123067n);
    b.cpu.restore(snapshot);
    expect(b.read64(PT + 0x123 * 8)).toBe(0x123007n);
  });

  it('takes back what the host wrote and announced', async () => {
    const b = await machine();
    const snapshot = b.cpu.snapshot();
    b.cpu.memoryWritten(DATA + 0xffe, 4);
    b.cpu.memory.fill(0xaa, DATA + 0xffe, DATA + 0x1002);
    b.cpu.restore(snapshot);
    expect([...b.cpu.memory.subarray(DATA + 0xffe, DATA + 0x1002)]).toEqual([0, 0, 0, 0]);
  });

  it('brings back code that was overwritten after it had been decoded, again and again', async () => {
    const b = await machine();
    // The immediate of the second MOV is patched at each run, after the first pass has executed it.
    b.load('mov ecx, 2\n1: mov eax, 1\n mov dword ptr [1b + 1], 7\n loop 1b\n hlt');
    const snapshot = b.cpu.snapshot();
    for (let round = 0; round < 3; round++) {
      b.go();
      expect(b.get('rax')).toBe(7n);
      b.cpu.restore(snapshot);
      b.cpu.run(0, 2);
      expect(b.get('rax')).toBe(1n);
      b.cpu.restore(snapshot);
    }
  });

  it('drops code decoded since, where the snapshot has other bytes', async () => {
    const b = await machine();
    b.load('mov eax, 1\n hlt');
    const snapshot = b.cpu.snapshot();
    b.load('mov ebx, 2\n hlt');
    b.go();
    b.cpu.restore(snapshot);
    b.go();
    expect([b.get('rax'), b.get('rbx')]).toEqual([1n, 0n]);
  });

  /** The page-table entry of 0x123000 is redirected, and no INVLPG follows: the old translation is still cached. */
  const STALE = `
    mov eax, [0x123000]
    mov qword ptr [${PT + 0x123 * 8}], 0x124007
    nop
    mov ebx, [0x123000]
    hlt`;

  it('brings back translations that no page table holds any more', async () => {
    const b = await machine();
    b.write32(0x123000, 1);
    b.write32(0x124000, 2);
    b.load(STALE);
    b.cpu.run(0, 3);
    const snapshot = b.cpu.snapshot();
    for (let round = 0; round < 2; round++) {
      b.go();
      expect(b.get('rbx')).toBe(1n);
      b.state.flushTlb();
      b.load('mov ebx, [0x123000]\n hlt');
      b.go();
      expect(b.get('rbx')).toBe(2n);
      b.cpu.restore(snapshot);
    }
  });

  it('brings them back after so many changes of the TLB that they are not logged one by one', async () => {
    const b = await machine();
    b.write32(0x123000, 1);
    b.write32(0x124000, 2);
    b.load(STALE);
    b.cpu.run(0, 3);
    const snapshot = b.cpu.snapshot();
    b.load('mov ecx, 3000\n1: mov rax, cr3\n mov cr3, rax\n mov eax, [0x123000]\n mov [0x124000], eax\n loop 1b\n hlt');
    b.go(100_000);
    b.cpu.restore(snapshot);
    b.go();
    expect(b.get('rbx')).toBe(1n);
  });

  it('forgets translations made since', async () => {
    const b = await machine();
    b.write32(0x123000, 1);
    b.write32(0x124000, 2);
    b.load('mov ebx, [0x123000]\n hlt');
    const snapshot = b.cpu.snapshot();
    b.write64(PT + 0x123 * 8, 0x124007n);
    b.go();
    expect(b.get('rbx')).toBe(2n);
    b.cpu.restore(snapshot);
    b.go();
    expect(b.get('rbx')).toBe(1n);
  });

  it('brings back an injected event and an access that waits for the host', async () => {
    const b = await machine();
    b.load('mov rsi, 0x300000\n mov eax, [rsi]\n hlt');
    b.write64(PT - 0x1000 + 8, 0x200087n);
    const exit = b.cpu.run(0, 10);
    expect(exit.reason).toBe('mmio');
    b.state.completeMmio(0x1234, 0);
    b.state.inject(0x80000021, 0, 0);
    const snapshot = b.cpu.snapshot();
    for (let round = 0; round < 2; round++) {
      expect(b.go()).toMatchObject({ reason: 'hlt', vector: 0x21 });
      expect(b.get('rax')).toBe(0x1234n);
      b.cpu.restore(snapshot);
      expect(b.state.injected).toBe(0x80000021);
    }
  });

  it('restores every vCPU', async () => {
    const cpu = await WasmCpu.create({ vcpus: 3, memory: 0x100000, vendor: 'intel' });
    const snapshot = cpu.snapshot();
    for (let index = 0; index < 3; index++) cpu.vcpu(index).put(0, BigInt(index + 5));
    cpu.restore(snapshot);
    expect([0, 1, 2].map((index) => cpu.vcpu(index).get(0))).toEqual([0n, 0n, 0n]);
  });
});

describe('several snapshots', () => {
  /** What a snapshot must bring back. */
  interface Model {
    readonly snapshot: CpuSnapshot;
    readonly ram: Buffer;
    readonly rax: bigint;
  }

  it('can be restored in any order and disposed of in any order', async () => {
    const random = new Random(7);
    const below = (n: number): number => random.next() % n;
    for (let round = 0; round < 20; round++) {
      const cpu = await WasmCpu.create({ vcpus: 1, memory: 0x10000, vendor: 'intel' });
      const state = cpu.vcpu(0);
      let models: Model[] = [];
      for (let step = 0; step < 150; step++) {
        const what = below(10);
        if (what < 5) {
          const at = below(0x10000 - 8);
          cpu.memoryWritten(at, 8);
          cpu.memory.fill(below(256), at, at + 8);
          state.put(0, BigInt(step));
        } else if (what < 7) {
          models.push({ snapshot: cpu.snapshot(), ram: Buffer.from(cpu.memory), rax: state.get(0) });
        } else if (models.length > 0) {
          const model = models[below(models.length)];
          if (what < 9) {
            cpu.restore(model.snapshot);
            expect(Buffer.compare(cpu.memory, model.ram), `round ${round} step ${step}`).toBe(0);
            expect(state.get(0)).toBe(model.rax);
          } else {
            model.snapshot.dispose();
            models = models.filter((other) => other !== model);
          }
        }
      }
    }
  });

  it('cost nothing any more when all are disposed of: no page is kept', async () => {
    const cpu = await WasmCpu.create({ vcpus: 1, memory: 0x10000, vendor: 'intel' });
    const snapshots = [cpu.snapshot(), cpu.snapshot(), cpu.snapshot()];
    cpu.restore(snapshots[0]);
    for (const snapshot of snapshots) snapshot.dispose();
    cpu.memoryWritten(0, 8);
    cpu.memory.fill(1, 0, 8);
    const again = cpu.snapshot();
    cpu.memoryWritten(0, 8);
    cpu.memory.fill(2, 0, 8);
    cpu.restore(again);
    expect([...cpu.memory.subarray(0, 9)]).toEqual([1, 1, 1, 1, 1, 1, 1, 1, 0]);
  });
});

describe('mistakes', () => {
  it('a snapshot of another engine, or one that was disposed of, is an error', async () => {
    const a = await WasmCpu.create({ vcpus: 1, memory: 0x10000, vendor: 'intel' });
    const b = await WasmCpu.create({ vcpus: 1, memory: 0x10000, vendor: 'intel' });
    const snapshot = a.snapshot();
    b.snapshot();
    expect(() => b.restore(snapshot)).toThrow('this snapshot was taken of another engine');
    snapshot.dispose();
    snapshot.dispose();
    expect(() => a.restore(snapshot)).toThrow('this snapshot has been disposed of');
  });
});

it('the TLBs fit in the state block', () => {
  expect(TLB_BYTES % (6 * TLB_PART)).toBe(0);
  expect(TLB_FILLED + 8).toBeLessThanOrEqual(STATE_STRIDE - 64);
});
