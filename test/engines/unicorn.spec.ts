/**
 * Engine unicorn: everything that can be observed of a guest is as on the core. Back ends are our own module of the unicorn.js API,
 * always, and a real one: the package @alexaltea/unicorn-js or KVMSCOPE_UNICORN=…/unicorn_x86.js, which runs all of guest/. Without
 * a real one the suite says so and skips that part.
 */
import { afterAll, describe, expect, it } from 'vitest';
import { UnicornCpu } from '../../src/cpu/engines/unicorn.ts';
import { loadUnicorn } from '../../src/cpu/engines/unicorn-module.ts';
import {
  assemble,
  createVm,
  findPrograms,
  type MachineOptions,
  openProgram,
  type Program,
  type RunResult,
  type StartMode,
} from '../../src/index.ts';
import { resolveOptions } from '../../src/machine/options.ts';
import { ownModule } from './own-module.ts';

const missing = await loadUnicorn().then(
  () => undefined,
  (error: Error) => error.message,
);
if (missing !== undefined) console.warn(`test/engines/unicorn.spec.ts skips the real module: ${missing}`);

/** Everything but how long it took and who did it. */
function observed({ end, steps, vcpus, exits, trace, times, counters, console, reports }: RunResult) {
  return { end, steps, vcpus, exits, trace, times, counters, console, reports };
}

interface Share {
  readonly executed: number;
  readonly steps: number;
  readonly note: string;
}

/** Runs a program on the core and on engine unicorn, compares, and returns who executed what. */
async function compare(program: Program, options: MachineOptions, module: typeof ownModule): Promise<Share> {
  const { vcpus, memory, vendor } = resolveOptions(options);
  const core = await createVm(options);
  core.load(program);
  const expected = core.run();
  const unicorn = await createVm({
    ...options,
    cpu: await UnicornCpu.create({ vcpus, memory, vendor }, await module()),
  });
  unicorn.load(program);
  const run = unicorn.run();
  expect(observed(run)).toEqual(observed(expected));
  expect(Buffer.compare(run.memory, expected.memory)).toBe(0);
  core.dispose();
  const note = run.notes.find((text) => text.startsWith('Unicorn executed')) ?? '';
  return { executed: run.share?.executed ?? -1, steps: run.steps, note };
}

const ALL = findPrograms(['guest']);
/** One of each kind: events, exceptions, CPL 3, instructions that are replaced in place, MMIO, several vCPUs, modes. */
const SOME = [
  'guest/hypercall/after-sti.S',
  'guest/hypercall/from-user-mode.S',
  'guest/hypercall/kick-cpu.S',
  'guest/hypercall/single-step.S',
  'guest/hypercall/wrong-vendor.S',
  'guest/boot/from-real-mode.S',
];

const BACK_ENDS = [
  { name: 'our own module', programs: SOME, module: ownModule, skip: false },
  { name: 'a real module', programs: ALL, module: () => loadUnicorn(), skip: missing !== undefined },
];

/** Small programs for what the two sides must hand over exactly, and how many steps Unicorn has of them. */
const HANDOVER: readonly {
  readonly what: string;
  readonly mode?: StartMode;
  readonly source: string;
  readonly executed?: number;
}[] = [
  {
    what: 'a loop, counted exactly up to the HLT',
    source: 'mov ecx, 100\n 1: add rax, rcx\n dec ecx\n jnz 1b\n hlt',
    executed: 301,
  },
  {
    what: 'one step per REP iteration, and one for a count of 0',
    source: 'mov edi, 0x3000\n mov ecx, 5\n rep stosb\n rep stosb\n mov ecx, 3\n mov esi, 0x3000\n repe cmpsb\n hlt',
    executed: 2 + 5 + 1 + 2 + 3,
  },
  {
    what: 'a store across two pages',
    source: 'mov rax, 0x1122334455667788\n mov [0x3ffd], rax\n rdtsc\n mov rbx, [0x3ffd]\n hlt',
  },
  {
    what: 'code that changes itself',
    source:
      'mov ecx, 3\n 1: mov byte ptr [patch + 1], cl\n patch: mov al, 0x7f\n add rbx, rax\n dec ecx\n jnz 1b\n hlt',
  },
  {
    what: 'an addition to code of its own block',
    source: 'mov ecx, 3\n 1: add byte ptr [patch + 1], cl\n patch: mov al, 1\n add rbx, rax\n dec ecx\n jnz 1b\n hlt',
  },
  {
    what: 'a REP that overwrites code behind it',
    source: 'mov edi, patch + 1\n mov al, 5\n mov ecx, 2\n rep stosb\n patch: mov ebx, 0x12345678\n nop\n hlt',
  },
  {
    what: 'a GS base that the guest sets',
    source:
      'mov ecx, 0xc0000101\n mov eax, 0x3000\n xor edx, edx\n wrmsr\n mov dword ptr gs:[8], 7\n mov ebx, [0x3008]\n hlt',
    executed: 5,
  },
  {
    what: '32-bit code and its stack',
    mode: 'prot32',
    source:
      'mov ecx, 50\n 1: add eax, ecx\n push eax\n call 2f\n dec ecx\n jnz 1b\n hlt\n 2: pop edx\n pop ebx\n jmp 3f\n 3: push edx\n ret',
    executed: 1 + 50 * 10,
  },
  {
    what: 'a segment with a base',
    mode: 'compat32',
    source:
      'lgdt [table]\n mov eax, 0x10\n mov fs, eax\n mov dword ptr fs:[4], 9\n mov ebx, [0x3004]\n hlt\n' +
      'gdt: .quad 0, 0x00cf9b000000ffff, 0x00cf93003000ffff\n table: .word 23\n .long gdt\n .long 0',
    executed: 3,
  },
  {
    what: 'real mode, where limits are checked',
    mode: 'real16',
    source: 'mov bx, 0xffff\n inc bx\n hlt',
    executed: 0,
  },
  {
    what: 'a page fault that is delivered nowhere',
    source: 'mov rax, 0x7fff00000000\n mov ebx, [rax]\n hlt',
  },
  { what: 'a division by zero that is delivered nowhere', source: 'xor ecx, ecx\n div ecx\n hlt' },
  {
    what: 'straight code longer than the translator survives',
    source: `.rept 600\n add [0x3000], eax\n inc eax\n .endr\n hlt`,
  },
  {
    what: 'a loop behind more system instructions than a block may have, which is not cut',
    source:
      '.rept 7\n rdtsc\n .endr\n mov ecx, 100\n 1: add [0x3000], eax\n inc eax\n inc eax\n dec ecx\n jnz 1b\n hlt',
    executed: 1 + 100 * 5,
  },
  { what: 'code that runs into empty RAM', source: 'mov eax, 0x3000\n jmp 0x8000' },
  { what: 'an access outside RAM', source: 'mov eax, 0xfee00000\n mov ebx, [rax + 0x30]\n inc ebx\n hlt' },
  {
    what: 'a push to a page that Unicorn has and the system side writes',
    source: 'push 7\n pushfq\n pop rax\n pop rbx\n hlt',
  },
];

describe.each(BACK_ENDS)('engine unicorn on $name', ({ name, programs, module, skip }) => {
  let executed = 0;
  let steps = 0;
  const untouched: string[] = [];

  it.skipIf(skip).each(HANDOVER)('agrees with the core on $what', async ({ mode = 'long64', source, executed }) => {
    const bits = mode === 'long64' ? 64 : mode === 'real16' ? 16 : 32;
    const program = assemble(`.code${bits}\n_start:\n ${source}`, { fileName: 'handover.S', origin: 0x1000 });
    const share = await compare(program, { mode, budget: 20_000 }, module);
    if (executed === undefined) expect(share.executed).toBeGreaterThan(0);
    else expect(share.executed).toBe(executed);
  });

  it.skipIf(skip).each(programs)('%s ends as on the core, in every register, event and byte of RAM', async (path) => {
    const opened = openProgram(path);
    for (const vendor of opened.vendors) {
      const share = await compare(opened.program, { ...opened.options, vendor }, module);
      executed += share.executed;
      steps += share.steps;
      if (share.executed === 0) untouched.push(`  ${path}: ${share.note}`);
    }
  });

  afterAll(() => {
    if (skip) return;
    console.log([`${name}: Unicorn executed ${executed} of ${steps} steps; nothing of`, ...untouched].join('\n'));
  });
});
