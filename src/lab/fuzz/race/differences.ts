/** Where two runs of one program came to different places: what a guest sees, in the words of an expectation header. */
import { GENERAL_REGISTERS } from '../../../cpu/registers.ts';
import { BOOT_LAYOUT, needsBootTables, vcpuBlock } from '../../../machine/boot-state.ts';
import type { RunResult, VcpuView } from '../../../machine/types.ts';
import type { ResolvedMachineOptions } from '../../../machine/vm.ts';
import { endText, showVectors } from '../../expect.ts';

export interface Difference {
  /** Subject of an expectation: `vcpu[1].rax`. */
  readonly subject: string;
  /** Value on each side, as an expectation has it. */
  readonly left: string;
  readonly right: string;
}

/** Pieces of memory that are told; the others only count. */
const MEMORY_LIMIT = 4;

const hex = (value: bigint | number): string => `0x${value.toString(16)}`;
const vectors = (members: readonly number[]): string => showVectors(members).replaceAll('..', '-');

/** All of them, the end first. Stacks at the top of RAM and the machine's own tables are left out. */
export function differences(left: RunResult, right: RunResult, options: ResolvedMachineOptions): Difference[] {
  const found: Difference[] = [];
  const differ = (subject: string, one: string, other: string): void => {
    if (one !== other) found.push({ subject, left: one, right: other });
  };
  differ('end', endText(left.end), endText(right.end));
  const bug = ({ end }: RunResult): string => (end.kind === 'host-bug' ? end.bug : 'none');
  differ('bug', bug(left), bug(right));
  // Where one of them stopped early, the rest follows from that.
  if (found.length > 0) return found;
  for (const [index, vcpu] of left.vcpus.entries()) {
    const views = [fields(vcpu), fields(right.vcpus[index])] as const;
    for (const [name, value] of views[0]) differ(`vcpu[${index}].${name}`, value, views[1].get(name) as string);
  }
  const reports = (run: RunResult): string => `[${run.reports.map(({ value }) => hex(value)).join(', ')}]`;
  differ('reports', reports(left), reports(right));
  differ('console', JSON.stringify(left.console), JSON.stringify(right.console));
  found.push(...memoryDifferences(left.memory, right.memory, options));
  return found;
}

function fields({ mpState, registers, lapic, nmiPending, smiPending, initPending }: VcpuView): Map<string, string> {
  return new Map([
    ['mp', mpState],
    ...GENERAL_REGISTERS.map(({ name }): [string, string] => [name, hex(registers[name])]),
    ['irr', vectors(lapic.irr)],
    ['isr', vectors(lapic.isr)],
    ['tmr', vectors(lapic.tmr)],
    ['apic', lapic.mode],
    ['apicid', hex(lapic.id)],
    ['apicbase', hex(lapic.apicBase)],
    ['icr', hex(lapic.icr)],
    ['tpr', hex(lapic.tpr)],
    ['svr', hex(lapic.svr)],
    ['ldr', hex(lapic.ldr)],
    ['nmi', hex(nmiPending)],
    ['smi', hex(smiPending ? 1 : 0)],
    ['init', hex(initPending ? 1 : 0)],
  ]);
}

function memoryDifferences(left: Uint8Array, right: Uint8Array, options: ResolvedMachineOptions): Difference[] {
  const tables = needsBootTables(options.mode);
  const end = tables ? vcpuBlock(options.memory, options.vcpus - 1) : options.memory;
  const found: Difference[] = [];
  for (let page = 0; page < end; page += 4096) {
    if (tables && page >= BOOT_LAYOUT.start && page < BOOT_LAYOUT.end) continue;
    const [one, other] = [left, right].map((memory) => Buffer.from(memory.buffer, memory.byteOffset + page, 4096));
    if (one.equals(other)) continue;
    for (let at = 0; at < 4096 && found.length < MEMORY_LIMIT; at += 8) {
      const values = [one.readBigUInt64LE(at), other.readBigUInt64LE(at)];
      if (values[0] === values[1]) continue;
      found.push({ subject: `memory[${hex(page + at)}].u64`, left: hex(values[0]), right: hex(values[1]) });
    }
  }
  return found;
}
