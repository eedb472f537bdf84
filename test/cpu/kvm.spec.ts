/**
 * The core against a live /dev/kvm: what user mode cannot show. Paging faults and their error codes, privilege checks, loads of segment
 * registers, and delivery through the IDT, each as one short piece of guest code that ends in the HLT of a handler.
 *
 * A KVM without VMX or SVM interprets such code by an emulator of its own. It is not compared where that is known to be wrong (SOFTWARE).
 * KVMSCOPE_KVM_ALL=1 runs all cases instead of one in so many.
 */
import { describe, expect, it } from 'vitest';
import { isSoftwareKvm, kvmUnavailable, LiveVm } from '../../src/cpu/engines/kvm-device.ts';
import { REGISTERS } from '../../src/cpu/registers.ts';
import { type Bare, bare, GDT, type Mode, PAE_PD, PAE_PDPT, PD, PD32, PML4, PT32, SEL, TSS } from './bare.ts';

const reason = kvmUnavailable();
if (reason) console.warn(`NOT RUN: the core is not compared with a live /dev/kvm: this ${reason}`);
const software = !reason && isSoftwareKvm();

/** What a KVM that interprets guest code is known to do differently, by the titles of the cases. */
const SOFTWARE: readonly (readonly [title: RegExp, why: string])[] = [
  [/^paging: (pae|legacy)/, 'no paging outside long mode'],
  [/^privilege: .*IOPL 3 \(long64/, 'IOPL is lost at CPL 3 of long mode'],
  [/^segment: .*\(long64, CPL 3/, 'segment registers stay flat at CPL 3 of long mode'],
  [/^privilege: (int|iret)/, 'INT n and IRET check no privileges'],
  [/^privilege: pushf/, 'IF is set at CPL 3'],
  [/^privilege: smsw .*long64/, 'the host processor executes it at CPL 3, and a Linux that emulates UMIP answers'],
  [/^segment: ss <- 0x(88|8b|a8|ab) /, 'stacks are not held to their size and limit'],
  [/^delivery: .*(type 0x(?![8e][ef])|selector|IST|limit|stack)/, 'gates, stacks and limits are not checked'],
  [/^delivery: (#BP|INT)/, 'INT n and INT3 in long mode'],
];

interface Case {
  readonly title: string;
  readonly mode: Mode;
  readonly cpl?: 0 | 3;
  readonly source: string;
  readonly setup?: (b: Bare) => void;
}

const RAM = 0x200000;
const ALL = process.env.KVMSCOPE_KVM_ALL !== undefined;
const SHOWN = 5;
/** Registers that both have; RIP apart, which one of them leaves at the HLT. */
const SHARED = REGISTERS.filter(
  ({ name, group }) =>
    (group === 'gpr' || group === 'flags' || group === 'control' || group === 'segment' || group === 'table') &&
    !/^(tsc|cr8|pkru)/.test(name),
).map(({ name }) => name);
/** Of descriptors, an emulator may leave the accessed bit alone; of an unusable segment, attributes and base are nobody's business. */
const ACCESSED = 1n;
const UNUSABLE = 0x10000n;

/** Page table of TARGET alone. */
const OWN_PT = 0x49000;
/** Memory that both may write differently: accessed bits of descriptors, accessed and dirty bits of page tables. */
const TABLES: readonly (readonly [start: number, end: number])[] = [
  [GDT, GDT + 0x100],
  [PML4, OWN_PT + 0x1000],
];

/** Runs a case on both; what differs, one line each, KVM first. */
async function compare(live: LiveVm, c: Case): Promise<string[]> {
  const b = await bare(c.mode, { vendor: 'amd', cpl: c.cpl ?? 0 });
  c.setup?.(b);
  b.load(c.source);
  live.memory.set(b.cpu.memory);
  for (const name of ['rip', ...SHARED]) live.put(name, b.get(name));
  live.setRegisters();
  const exit = live.run();
  live.getRegisters();
  const stop = b.go();
  const lines: string[] = [];
  const differ = (what: string, kvm: bigint | string, core: bigint | string): void => {
    if (kvm !== core) lines.push(`${what}: KVM ${kvm.toString(16)}, core ${core.toString(16)}`);
  };
  differ('exit', exit, stop.reason);
  // At other exits the two have come to different points of an instruction.
  if (exit !== 'hlt' || stop.reason !== 'hlt') return lines;
  differ('rip', live.get('rip'), b.get('rip') + 1n);
  for (const name of SHARED) {
    let [kvm, core] = [live.get(name), b.get(name)];
    if (/^[^gi].*_(attr|base|limit)$|^gs_/.test(name)) {
      const attributes = b.get(name.replace(/_.*/, '_attr'));
      if (attributes & UNUSABLE) continue;
      if (name.endsWith('_attr')) [kvm, core] = [kvm & ~ACCESSED, core & ~ACCESSED];
    }
    differ(name, kvm, core);
  }
  const same = Buffer.compare(live.memory, b.cpu.memory) === 0;
  for (let at = 0; at < RAM && !same; at++) {
    if (live.memory[at] === b.cpu.memory[at] || TABLES.some(([start, end]) => at >= start && at < end)) continue;
    lines.push(`memory 0x${at.toString(16)}: KVM ${live.memory[at]}, core ${b.cpu.memory[at]}`);
    if (lines.length > 12) break;
  }
  return lines;
}

async function none(cases: readonly Case[], every: number): Promise<void> {
  const reports: string[] = [];
  let compared = 0;
  for (const c of cases.filter((_, n) => n % every === 0)) {
    const title = `${c.title} (${c.mode}, CPL ${c.cpl ?? 0})`;
    if (software && SOFTWARE.some(([wrong]) => wrong.test(title))) continue;
    compared++;
    // A used VM may remember other page tables and other code.
    const live = new LiveVm(RAM);
    const lines = await compare(live, c);
    live.close();
    if (lines.length > 0) reports.push(`${title}\n  ${lines.join('\n  ')}`);
  }
  expect(reports.length, `\n${reports.slice(0, SHOWN).join('\n')}\n`).toBe(0);
  expect(compared).toBeGreaterThan(0);
}

// ---- cases ----

/** A linear page with tables of its own, so that its entries can be anything: 0x230000 to 0x30000. */
const TARGET = 0x230000;
const NX = 1n << 63n;
const WP = 0x10000n;
const ACCESSES: Readonly<Record<string, string>> = {
  read: `mov eax, [${TARGET}]`,
  write: `mov [${TARGET}], eax`,
  'read-modify-write': `lock inc dword ptr [${TARGET}]`,
  'compare that fails': `cmp [${TARGET}], eax`,
  fetch: `mov eax, ${TARGET}\njmp rax`,
};

/** Every access to a page whose entries have these flags. */
function pagingCases(): Case[] {
  const cases: Case[] = [];
  for (const mode of ['long64', 'pae', 'legacy'] as const) {
    const wide = mode !== 'legacy';
    const leafs = [0, 1, 3, 5, 7, 6, 0x47].map(BigInt);
    const entries = wide ? [...leafs, NX | 7n, NX | 5n, (1n << 51n) | 7n] : leafs;
    for (const cpl of [0, 3] as const) {
      for (const leaf of entries) {
        for (const upper of wide ? [7n, 5n, 3n, 6n, NX | 7n] : [7n, 5n, 3n, 6n]) {
          for (const [name, access] of Object.entries(ACCESSES)) {
            for (const wp of [0n, WP]) {
              if (cpl === 3 && wp === 0n) continue;
              const source = `${mode === 'long64' ? access : access.replace('rax', 'eax')}\nhlt`;
              cases.push({
                title: `paging: ${mode} ${name}, page 0x${leaf.toString(16)}, directory 0x${upper.toString(16)}, WP ${wp !== 0n}`,
                mode: mode === 'long64' ? 'long64' : 'prot32',
                cpl,
                source,
                setup: (b) => {
                  b.cpu.memory[0x30000] = 0xf4;
                  const page = 0x30000n | leaf;
                  if (wide) {
                    b.write64((mode === 'long64' ? PD : PAE_PD) + 8, BigInt(OWN_PT) | upper);
                    b.write64(OWN_PT + 0x30 * 8, page);
                  } else {
                    // 4 MiB a directory entry: the same table, another page of it.
                    b.write32(PD32, Number(BigInt(PT32) | 7n));
                    b.write32(PD32 + 4, Number(BigInt(OWN_PT) | upper));
                    b.write32(OWN_PT + 0x230 * 4, Number(page));
                  }
                  const cr0 = (b.get('cr0') & ~WP) | wp | 0x80000000n;
                  if (mode === 'pae') b.put({ cr0, cr3: PAE_PDPT, cr4: 0x20, efer: 0x800 });
                  else if (mode === 'legacy') b.put({ cr0, cr3: PD32 });
                  else b.put({ cr0 });
                },
              });
            }
          }
        }
      }
    }
  }
  return cases.map((c) =>
    c.title.includes('legacy') ? { ...c, source: c.source.replaceAll(String(TARGET), String(0x630000)) } : c,
  );
}

const PRIVILEGED =
  'hlt|cli|sti|clts|wbinvd|invd|in al, 0x10|out 0x10, al|in eax, dx|insb|rep outsb|lgdt [0x2800]|lidt [0x2800]|lldt ax|ltr ax|lmsw ax|' +
  'mov eax, cr0|mov cr0, eax|mov eax, cr2|mov cr3, eax|mov eax, cr4|mov dr0, eax|mov eax, dr7|invlpg [0x1000]|rdmsr|wrmsr|' +
  'sgdt [0x30000]|sidt [0x30000]|str ax|sldt ax|smsw ax|pushf|popf|int3|ud2|int 0x80|int 0x21|iret|sysenter';

function privilegeCases(): Case[] {
  const cases: Case[] = [];
  for (const mode of ['long64', 'prot32'] as const) {
    for (const instruction of PRIVILEGED.split('|')) {
      for (const iopl of [0n, 0x3000n]) {
        const long = mode === 'long64';
        const text = long
          ? instruction
              .replace(/^(mov.*)\be(ax.*)/, '$1r$2')
              .replace(/^(push|pop)f$/, '$1fq')
              .replace(/^iret$/, 'iretq')
          : instruction.replace(/^(push|pop)f$/, '$1fd').replace(/^iret$/, 'iretd');
        cases.push({
          title: `privilege: ${text}, IOPL ${iopl >> 12n}`,
          mode,
          cpl: 3,
          source: `${text}\nnop\nud2`,
          setup: (b) => b.put({ rflags: 2n | iopl, rsi: 0x30000, rdi: 0x30100, rcx: 2, rdx: 0x20 }),
        });
      }
    }
  }
  return cases;
}

function segmentCases(): Case[] {
  const cases: Case[] = [];
  const selectors = [0, 3, 4, ...Object.values(SEL), 0xd0, 0x1f8].flatMap((selector) => [
    selector,
    (selector ^ 3) & 0xffff,
  ]);
  for (const mode of ['long64', 'prot32'] as const) {
    for (const cpl of [0, 3] as const) {
      for (const selector of selectors) {
        for (const register of ['ds', 'es', 'ss', 'fs', 'gs']) {
          cases.push({
            title: `segment: ${register} <- 0x${selector.toString(16)}`,
            mode,
            cpl,
            source: `mov eax, ${selector}\nmov ${register}, ax\nnop\nud2`,
          });
        }
      }
    }
  }
  return cases;
}

const RAISE: readonly (readonly [string, number, string])[] = [
  ['#DE', 0, 'xor ecx, ecx\ndiv ecx'],
  ['#BP', 3, 'int3'],
  ['#UD', 6, 'ud2'],
  ['#GP', 13, 'mov eax, 0x1f8\nmov ds, ax'],
  ['#PF', 14, 'mov eax, [0x3ff000]'],
  ['INT 80h', 0x80, 'int 0x80'],
];

function deliveryCases(): Case[] {
  const cases: Case[] = [];
  const gates: readonly (readonly [string, number, number, number])[] = [
    ...[0x8e, 0x8f, 0xee, 0xef, 0x0e, 0x8c, 0x85, 0x86, 0x87, 0x80, 0x9e, 0xce].map(
      (type) => [`type 0x${type.toString(16)}`, -1, type, 0] as const,
    ),
    ...[0, SEL.DATA, SEL.NOCODE, SEL.UCODE64, SEL.CONFORM, SEL.CODELD, SEL.CODE1, SEL.CODE32, SEL.CODE64, 0x1f8, 4].map(
      (selector) => [`selector 0x${selector.toString(16)}`, selector, 0xee, 0] as const,
    ),
    ['IST 1', -1, 0xee, 1],
  ];
  for (const mode of ['long64', 'prot32'] as const) {
    for (const cpl of [0, 3] as const) {
      for (const [name, vector, source] of RAISE) {
        for (const [what, selector, type, ist] of gates) {
          if (ist > 0 && mode !== 'long64') continue;
          cases.push({
            title: `delivery: ${name} through ${what}`,
            mode,
            cpl,
            source: `${source}\nnop\nhlt`,
            setup: (b) =>
              b.gate(vector, selector < 0 ? (mode === 'long64' ? SEL.CODE64 : SEL.CODE32) : selector, type, ist),
          });
        }
        cases.push({
          title: `delivery: ${name} beyond the limit of the IDT`,
          mode,
          cpl,
          source: `${source}\nnop\nhlt`,
          setup: (b) => b.put({ idtr_limit: vector * (mode === 'long64' ? 16 : 8) + 3 }),
        });
        cases.push({
          title: `delivery: ${name} with a bad stack of CPL 0`,
          mode,
          cpl,
          source: `${source}\nnop\nhlt`,
          setup: (b) => {
            if (mode === 'long64') b.write64(TSS + 4, 0x300000n);
            else b.write32(TSS + 8, SEL.ABSENT);
          },
        });
      }
    }
  }
  return cases;
}

describe.runIf(!reason)('the core and a live KVM', { timeout: 300_000 }, () => {
  it('raise the same page faults', () => none(pagingCases(), ALL ? 1 : 37));
  it('refuse the same instructions at CPL 3', () => none(privilegeCases(), ALL ? 1 : 3));
  it('load the same segments', () => none(segmentCases(), ALL ? 1 : 23));
  it('deliver events alike', () => none(deliveryCases(), ALL ? 1 : 3));
});
