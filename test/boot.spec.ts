/** A PC with a Multiboot image: what a loader hands over, interrupts from every controller, and how a machine ends. */
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { assemble, createVm, type MachineOptions, type RunResult } from '../src/index.ts';
import { kvmscope } from './cli/spawn.ts';

/** A 32-bit image at 1 MiB; the IDT's 256 gates lead to `handler`, which reports through EDI. */
const image = (body: string): Uint8Array => {
  const source = `
    .code32
    .org 0x100000
    .long 0x1badb002, 0x10000, -(0x1badb002 + 0x10000)
    .long 0x100000, 0x100000, 0, 0, start
print:                          # the text at ESI, to COM1
    mov dx, 0x3f8
1:  lodsb
    test al, al
    jz 2f
    out dx, al
    jmp 1b
2:  ret
start:
    cld
    mov esp, 0x200000
${body}
    xor eax, eax
    out 0xf4, eax
    .org 0x101000
`;
  const program = assemble(source, { fileName: 'image.S', origin: 0x100000 });
  return program.segments[0].bytes;
};

async function boot(body: string, options: MachineOptions = {}, append?: string): Promise<RunResult> {
  const vm = await createVm({ board: 'pc', ...options });
  vm.boot(image(body), { name: 'image', ...(append === undefined ? {} : { append }) });
  const run = vm.run();
  vm.dispose();
  return run;
}

describe('the image starts', () => {
  it('in 32-bit protected mode with the magic number, and finds its arguments', async () => {
    const run = await boot(
      `
    cmp eax, 0x2badb002
    jne bad
    mov esi, [ebx+16]
    call print
    jmp good
bad: mov eax, 1
    out 0xf4, eax
good:`,
      {},
      'hello world',
    );
    expect(run.console).toBe('image hello world');
    expect(run.end).toEqual({ kind: 'exit', status: 0 });
  });

  it('with APs that wait for SIPI', async () => {
    const run = await boot('', { vcpus: 3 });
    expect(run.vcpus.map(({ mpState }) => mpState)).toEqual(['runnable', 'uninitialized', 'uninitialized']);
  });
});

describe('time', () => {
  it('a CPUID takes 1,291 cycles', async () => {
    const run = await boot(`
    rdtsc
    mov edi, eax
    xor eax, eax
    cpuid
    rdtsc
    sub eax, edi
    mov [0x1000], eax`);
    const cycles = new DataView(run.memory.buffer, run.memory.byteOffset).getUint32(0x1000, true);
    // Six instructions beside the exit.
    expect(cycles).toBe(1291 + 4);
  });

  it('passes while the only vCPU spins with PAUSE', async () => {
    const run = await boot(`
    rdtsc
    mov edi, eax
again:
    pause
    rdtsc
    sub eax, edi
    cmp eax, 1000000000
    jb again`);
    expect(run.end).toEqual({ kind: 'exit', status: 0 });
    expect(run.steps).toBeLessThan(1_000_000);
  });
});

describe('hidden features', () => {
  it.each([
    [[], 1, 1],
    [['umip', 'x2apic'], 0, 0],
  ] as const)('%j: not in CPUID, and their CR4 bits are reserved', async (hiddenFeatures, shown, allowed) => {
    const body = `
    mov eax, 1
    cpuid
    mov [0x1000], ecx
    mov eax, cr4
    or eax, 1 << 11             # UMIP; #GP without an IDT is a triple fault
    mov cr4, eax
    mov byte ptr [0x1004], 1`;
    const run = await boot(body, { hiddenFeatures });
    const view = new DataView(run.memory.buffer, run.memory.byteOffset);
    expect([(view.getUint32(0x1000, true) >>> 21) & 1, view.getUint8(0x1004)]).toEqual([shown, allowed]);
    expect(run.end.kind).toBe(allowed ? 'exit' : 'shutdown');
  });
  it('an unknown name is refused', async () => {
    await expect(createVm({ hiddenFeatures: ['x2apik'] })).rejects.toThrow('there is no processor feature "x2apik"');
  });
});

describe('the machine ends', () => {
  it.each([
    ['mov al, 0xfe\n out 0x64, al', 'reset'],
    ['mov al, 6\n mov dx, 0xcf9\n out dx, al', 'reset'],
    ['mov ax, 0x2000\n mov dx, 0x604\n out dx, ax', 'power-off'],
  ])('%j: %s', async (body, kind) => {
    expect((await boot(body)).end).toEqual({ kind });
  });
});

describe('kvmscope boot', () => {
  let folder: string;
  beforeAll(() => {
    folder = mkdtempSync(join(tmpdir(), 'kvmscope-boot-'));
    writeFileSync(join(folder, 'hello'), image('mov esi, [ebx+16]\n call print\n mov eax, 7\n out 0xf4, eax'));
    writeFileSync(join(folder, 'loop'), image('1: jmp 1b'));
    writeFileSync(join(folder, 'astray'), image('mov eax, 0x70000000\n jmp eax'));
    writeFileSync(join(folder, 'plain'), new Uint8Array(512));
  });
  afterAll(() => rmSync(folder, { recursive: true, force: true }));

  it('prints what the image prints and exits with its status', () => {
    const { status, stdout, stderr } = kvmscope('boot', join(folder, 'hello'), '--append', 'a b');
    expect([status, stdout, stderr]).toEqual([7, 'hello a b', '']);
  });
  it('gives up after --timeout with exit code 124', () => {
    const { status, stderr } = kvmscope('boot', join(folder, 'loop'), '--timeout', '1');
    expect([status, stderr.split(': ').slice(2).join(': ')]).toEqual([
      124,
      'no end after 1 s; give it more with --timeout\n',
    ]);
  });
  it.each([
    [['boot', 'nowhere'], "kvmscope: image 'nowhere' cannot be read (ENOENT)\n"],
    [
      ['boot', 'nowhere', '--smp', 'x'],
      "kvmscope: option '--smp <n>' argument 'x' is invalid. It must be a whole number (decimal or 0x…).\n",
    ],
    [
      ['kut', 'nowhere'],
      'kvmscope: nowhere/x86/unittests.cfg cannot be read: give the folder of a built kvm-unit-tests tree\n',
    ],
  ])('%j is one line', (args, message) => {
    const { status, stderr } = kvmscope(...args);
    expect([status, stderr]).toEqual([2, message]);
  });
  it('a guest that jumps out of RAM has failed; that is no bug here', () => {
    const { status, stderr } = kvmscope('boot', join(folder, 'astray'));
    expect([status, stderr.includes('lies outside RAM (address 0x70000000)')]).toEqual([1, true]);
  });
  it('refuses a file that is no image, and a feature that the processor does not have', () => {
    const plain = kvmscope('boot', join(folder, 'plain'));
    expect([plain.status, plain.stderr]).toEqual([
      2,
      'kvmscope: plain: no Multiboot header in the first 8 KiB; kvmscope boot takes Multiboot 1 images such as *.flat of kvm-unit-tests\n',
    ]);
    const feature = kvmscope('boot', join(folder, 'hello'), '--cpu', 'max,+sgx');
    expect([feature.status, feature.stderr]).toEqual([
      2,
      "kvmscope: --cpu: the processor has no feature 'sgx'; kvmscope cpu lists those it has\n",
    ]);
  });
});
