/**
 * Conditional jumps and IMUL have forms of their own that read pending flags; SETcc and IMUL from memory compute them. Whatever set the
 * flags before, and with whatever values, they agree, in both tiers.
 */
import { describe, expect, it } from 'vitest';
import type { Tier2 } from '../../src/cpu/cpu.ts';
import { createVm } from '../../src/index.ts';

const CONDITIONS = ['o', 'no', 'b', 'ae', 'e', 'ne', 'be', 'a', 's', 'ns', 'p', 'np', 'l', 'ge', 'le', 'g'];
/** What sets flags from `a` and `b`, which are registers of one size. */
const OPERATIONS = [
  'add A, B',
  'sub A, B',
  'cmp A, B',
  'and A, B',
  'test A, B',
  'inc A',
  'dec A',
  'neg A',
  'adc A, B',
  'shl A, 3',
];
const SIZES = [
  ['al', 'dl'],
  ['ax', 'dx'],
  ['eax', 'edx'],
  ['rax', 'rdx'],
] as const;
const VALUES = [
  0n,
  1n,
  0x7fn,
  0x80n,
  0xffn,
  0x7fffn,
  0x8000n,
  0x7fffffffn,
  0x80000000n,
  0xffffffffn,
  1n << 63n,
  (1n << 64n) - 1n,
];

/** Runs `blocks` for every pair of values; each begins with them in RAX and RDX and jumps to `differs` with its number in ESI. */
async function run(tier2: Tier2, blocks: readonly string[]): Promise<string> {
  const pairs = VALUES.flatMap((a) => VALUES.map((b) => `.quad ${a}, ${b}`));
  const body = blocks.map((block, n) => `mov esi, ${n}\nmov rax, [rbx]\nmov rdx, [rbx+8]\n${block}`);
  const source = `
    lea rbx, [rip+pairs]
    again:
    ${body.join('\n')}
    add rbx, 16
    lea rcx, [rip+cell]
    cmp rbx, rcx
    jb again
    xor eax, eax
    out 0xf4, al
    differs:
    mov eax, 1
    out 0xf4, al
    .balign 8
    pairs:
    ${pairs.join('\n')}
    cell: .quad 0
  `;
  const vm = await createVm({ record: false, tier2, budget: 100_000_000 });
  vm.load(source, { fileName: 'lazy-flags.S' });
  const end = vm.advance();
  const block = blocks[vm.kvm.cpu.vcpu(0).lo(6)];
  vm.dispose();
  return end.kind === 'exit' && end.status === 0 ? 'agree' : `${JSON.stringify(end)} in\n${block}`;
}

describe.each<[Tier2]>([[false], ['force']])('tier2: %s', (tier2) => {
  it.each(SIZES)('jumps are taken when SETcc sets: %s', async (a, b) => {
    const blocks = OPERATIONS.flatMap((operation, n) =>
      CONDITIONS.map((condition, m) => {
        const set = operation.replace('A', a).replace('B', b);
        const label = `${n}_${m}`;
        return `
          ${set}
          set${condition} cl
          mov rax, [rbx]
          mov rdx, [rbx+8]
          ${set}
          mov ch, 1
          j${condition} taken${label}
          mov ch, 0
          taken${label}:
          cmp cl, ch
          jne differs`;
      }),
    );
    // Both begin with CF = 0 for ADC.
    expect(
      await run(
        tier2,
        blocks.map((block) => block.replaceAll('adc', 'clc\nadc')),
      ),
    ).toBe('agree');
  });

  it('IMUL of 32-bit registers leaves result and flags as IMUL from memory does', async () => {
    const flags = 'pushfq\npop';
    const blocks = SIZES.flatMap(([a, b]) =>
      OPERATIONS.flatMap((operation) => {
        const set = operation.replace('A', a).replace('B', b).replace('adc', 'clc\nadc');
        const again = 'mov rax, [rbx]\nmov rdx, [rbx+8]';
        const memory = 'imul edx, dword ptr [rbx]';
        const same = `cmp r8, r10\njne differs\ncmp r9, r11\njne differs`;
        return [
          `${set}\nmov rdx, [rbx+8]\n${memory}\n${flags} r9\nmov r8, rdx\n${again}\n${set}\nmov rax, [rbx]\nmov rdx, [rbx+8]
          imul edx, eax\n${flags} r11\nmov r10, rdx\n${same}`,
          `${set}\nimul edx, dword ptr [rbx], -77\n${flags} r9\nmov r8, rdx\n${again}\n${set}\nmov rax, [rbx]
          imul edx, eax, -77\n${flags} r11\nmov r10, rdx\n${same}`,
        ];
      }),
    );
    expect(await run(tier2, blocks)).toBe('agree');
  });
});
