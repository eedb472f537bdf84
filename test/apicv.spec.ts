/** What an IPI costs with and without hardware help, in every version; and that the help changes nothing but the cost. */
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import {
  createVm,
  findPrograms,
  KvmscopeError,
  type MachineOptions,
  openProgram,
  type RunResult,
  resolveEra,
  runProgram,
  type Vm,
} from '../src/index.ts';
import { VERSIONS } from './eras/versions.ts';

type Help = Pick<MachineOptions, 'vendor' | 'apicv' | 'avic' | 'pvFeatures'>;

const HELP = {
  none: { vendor: 'intel' },
  'none, AMD': { vendor: 'amd' },
  APICv: { vendor: 'intel', apicv: 'on' },
  'IPI virtualization': { vendor: 'intel', apicv: 'ipiv' },
  x2AVIC: { vendor: 'amd', avic: true },
} as const satisfies Record<string, Help>;
type HelpName = keyof typeof HELP;

/** Versions in which this help exists. */
const versionsOf = (name: HelpName): readonly string[] =>
  name === 'IPI virtualization' || name === 'x2AVIC' ? VERSIONS.slice(VERSIONS.indexOf('6.0')) : VERSIONS;

async function runOn<T>(
  options: MachineOptions,
  source: string,
  observe: (run: RunResult, vm: Vm) => T,
  prepare: (vm: Vm) => void = () => {},
): Promise<T> {
  const vm = await createVm({ memory: 0x20_0000, budget: 200_000, ...options });
  try {
    vm.load(source.replaceAll('HC', vm.options.vendor === 'intel' ? 'vmcall' : 'vmmcall'));
    prepare(vm);
    return observe(vm.run(), vm);
  } finally {
    vm.dispose();
  }
}

/** A gate for `vector` in the IDT at 0x110000, and LIDT of it. */
const gate = (vector: number, handler: string): string => `
    lea rax, [rip+${handler}]
    mov word ptr [0x110000+${vector}*16], ax
    mov word ptr [0x110000+${vector}*16+2], cs
    mov word ptr [0x110000+${vector}*16+4], 0x8e00
    shr rax, 16
    mov word ptr [0x110000+${vector}*16+6], ax
    mov dword ptr [0x110000+${vector}*16+8], 0
    mov dword ptr [0x110000+${vector}*16+12], 0`;

const wrmsr = (msr: number, low: string, high = '0'): string => `
    mov ecx, ${msr}
    mov eax, ${low}
    mov edx, ${high}
    wrmsr`;

const COUNTING_HANDLER = `
idt: .word 256*16-1
    .quad 0x110000
listening: .quad 0
received: .quad 0
handler:
    push rax
    push rcx
    push rdx
    lock inc qword ptr [rip+received]
    btr dword ptr [rip+pv_eoi], 0
    jc 1f
    ${wrmsr(0x80b, '0')}
1:  pop rdx
    pop rcx
    pop rax
    iretq
    .balign 4
pv_eoi: .long 0`;

/**
 * Processor 0 sends `rounds` times by `send`, and waits until everybody has received; the others run with IF=1, and end
 * with HLT. `receivers` runs on them first.
 */
const rounds = (count: number, targets: number, send: string, receivers = ''): string => `
    .code64
    .globl _start
    ${COUNTING_HANDLER}
_start:
    ${gate(0x40, 'handler')}
    lidt [rip+idt]
    mov ecx, 0x802
    rdmsr
    test eax, eax
    jnz receiver
1:  pause
    cmp qword ptr [rip+listening], ${targets}
    jb 1b
    xor ebp, ebp
    xor r8d, r8d
2:  ${send}
    add r8, ${targets}
3:  pause
    cmp [rip+received], r8
    jb 3b
    inc ebp
    cmp ebp, ${count}
    jb 2b
    hlt
receiver:
    ${receivers}
    sti
    lock inc qword ptr [rip+listening]
4:  pause
    cmp qword ptr [rip+received], ${count * targets}
    jb 4b
    cli
    hlt`;

interface Cost {
  readonly sender: number;
  readonly receive: number;
  readonly eoi: number;
}

/** Exits of one more round: at the sender; at all receivers to receive, and to write EOI. */
async function costOf(options: MachineOptions, source: (count: number) => string): Promise<Cost> {
  const [few, many] = await Promise.all(
    [10, 20].map((count) =>
      runOn(options, source(count), (run) => {
        expect(run.end.kind).toBe('halted');
        const others = run.vcpus.slice(1).map((vcpu) => vcpu.counters.byReason);
        const sum = (name: string) => others.reduce((all, exits) => all + (exits[name] ?? 0), 0);
        return {
          sender: Object.values(run.vcpus[0].counters.byReason).reduce((all, n) => all + n, 0),
          receive: sum('external_interrupt') + sum('interrupt'),
          eoi: sum('msr_write'),
          all: Object.values(run.counters.byReason).reduce((all, n) => all + n, 0),
        };
      }),
    ),
  );
  const per = (key: keyof typeof few) => (many[key] - few[key]) / 10;
  // Nothing else leaves the guest.
  expect(per('sender') + per('receive') + per('eoi')).toBe(per('all'));
  return { sender: per('sender'), receive: per('receive'), eoi: per('eoi') };
}

const unicast = (count: number) => rounds(count, 1, wrmsr(0x830, '0x40', '1'));
const pvIpi = (count: number) =>
  rounds(count, 3, 'mov eax, 10\nmov ebx, 0b1110\nxor ecx, ecx\nxor edx, edx\nmov esi, 0x40\nHC');
/** The receiver turns PV EOI on. */
const withPvEoi = (count: number) =>
  rounds(
    count,
    1,
    wrmsr(0x830, '0x40', '1'),
    `lea rax, [rip+pv_eoi]\nor eax, 1\nmov ecx, 0x4b564d04\nxor edx, edx\nwrmsr`,
  );

describe('exits per IPI to a running target with IF=1', () => {
  it.each<[HelpName, Cost]>([
    ['none', { sender: 1, receive: 1, eoi: 1 }],
    ['none, AMD', { sender: 1, receive: 1, eoi: 1 }],
    ['APICv', { sender: 1, receive: 0, eoi: 0 }],
    ['IPI virtualization', { sender: 0, receive: 0, eoi: 0 }],
    ['x2AVIC', { sender: 0, receive: 0, eoi: 0 }],
  ])('by ICR, help: %s: %o', async (name, cost) => {
    for (const kvm of versionsOf(name)) {
      const seen = await costOf({ ...HELP[name], kvm, vcpus: 2, aps: 'run' }, unicast);
      expect({ kvm, ...seen }).toEqual({ kvm, ...cost });
    }
  });

  it.each<[HelpName, Cost]>([
    ['none', { sender: 1, receive: 3, eoi: 3 }],
    ['none, AMD', { sender: 1, receive: 3, eoi: 3 }],
    ['APICv', { sender: 1, receive: 0, eoi: 0 }],
    ['IPI virtualization', { sender: 1, receive: 0, eoi: 0 }],
    ['x2AVIC', { sender: 1, receive: 0, eoi: 0 }],
  ])('by one hypercall to three targets, help: %s: %o', async (name, cost) => {
    for (const kvm of versionsOf(name)) {
      const seen = await costOf({ ...HELP[name], kvm, vcpus: 4, aps: 'run' }, pvIpi);
      expect({ kvm, ...seen }).toEqual({ kvm, ...cost });
    }
  });

  it('by ICR to a receiver with PV EOI, no help: the EOI is free', async () => {
    for (const kvm of VERSIONS) {
      const seen = await costOf({ ...HELP.none, kvm, vcpus: 2, aps: 'run' }, withPvEoi);
      expect({ kvm, ...seen }).toEqual({ kvm, sender: 1, receive: 1, eoi: 0 });
    }
  });
});

describe('a sleeping target', () => {
  const toSleeper = `
    .code64
    .globl _start
    ${COUNTING_HANDLER}
_start:
    ${gate(0x40, 'handler')}
    lidt [rip+idt]
    mov ecx, 0x802
    rdmsr
    test eax, eax
    jnz receiver
1:  pause
    cmp qword ptr [rip+listening], 1
    jb 1b
    mov ebx, 1000
2:  pause
    dec ebx
    jnz 2b
    ${wrmsr(0x830, '0x40', '1')}
    hlt
receiver:
    mov qword ptr [rip+listening], 1
    sti
    hlt
    cli
    hlt`;

  it.each<[HelpName, Record<string, number>, Record<string, number>]>([
    ['none', { msr_read: 1, msr_write: 1, hlt: 1 }, { msr_read: 1, hlt: 2, msr_write: 1 }],
    ['APICv', { msr_write: 1, hlt: 1 }, { hlt: 2 }],
    ['IPI virtualization', { hlt: 1 }, { hlt: 2 }],
    ['x2AVIC', { avic_incomplete_ipi: 1, hlt: 1 }, { hlt: 2 }],
  ])('help: %s: sender %o, target %o', async (name, sender, target) => {
    for (const kvm of versionsOf(name)) {
      await runOn({ ...HELP[name], kvm, vcpus: 2, aps: 'run' }, toSleeper, (run) => {
        expect({ kvm, ...run.vcpus[0].counters.byReason }).toEqual({ kvm, ...sender });
        expect({ kvm, ...run.vcpus[1].counters.byReason }).toEqual({ kvm, ...target });
        expect(run.vcpus[1].counters.halt_wakeup).toBe(1);
      });
    }
  });
});

describe('help changes the cost and nothing else', () => {
  const VECTORS = [0x31, 0x42, 0x53, 0x5f, 0x64] as const;
  const handlers = VECTORS.map(
    (vector) => `
handler_${vector}:
    push rax
    push rcx
    push rdx
    mov eax, ${vector}
    out 0xe8, eax
    ${vector === 0x42 ? 'sti' : ''}
    ${wrmsr(0x80b, '0')}
    pop rdx
    pop rcx
    pop rax
    iretq`,
  ).join('');
  const vector = fc.constantFrom(...VECTORS);
  const operation = fc.oneof(
    vector.map((v) => wrmsr(0x83f, String(v))),
    vector.map((v) => wrmsr(0x830, `0x40000|${v}`)),
    vector.map((v) => wrmsr(0x830, String(v), '0')),
    fc.integer({ min: 0, max: 7 }).map((level) => `mov eax, ${level}\nmov cr8, rax`),
    fc.integer({ min: 0, max: 0x7f }).map((tpr) => wrmsr(0x808, String(tpr))),
    fc.constantFrom('sti', 'cli', 'nop', 'sti\nnop\ncli', wrmsr(0x80b, '0')),
  );

  it('gives the guest the same interrupts in the same order, whatever it sends itself and masks', async () => {
    await fc.assert(
      fc.asyncProperty(fc.array(operation, { minLength: 4, maxLength: 24 }), async (operations) => {
        const source = `
    .code64
    .globl _start
    ${handlers}
idt: .word 256*16-1
    .quad 0x110000
_start:
    ${VECTORS.map((v) => gate(v, `handler_${v}`)).join('')}
    lidt [rip+idt]
    ${operations.join('\n')}
    cli
    mov ecx, 0x80a
    rdmsr
    out 0xe8, eax
    hlt`;
        const seen = await Promise.all(
          Object.values(HELP).map((help) =>
            runOn({ ...help, kvm: '7.1' }, source, ({ end, reports, vcpus: [{ lapic }] }) => ({
              end,
              reports: reports.map((report) => report.value),
              ...{ irr: lapic.irr, isr: lapic.isr, tpr: lapic.tpr, ppr: lapic.ppr },
            })),
          ),
        );
        for (const other of seen) expect(other).toEqual(seen[0]);
      }),
      { seed: 7, numRuns: 60 },
    );
  });
});

/** Programs whose results show what the help is about, not only what it costs. */
const SHOWS_HELP: ReadonlySet<string> = new Set([
  // PV EOI is never armed under APICv.
  'guest/pv/eoi-not-armed.S',
  // Ends by its budget, which exits use up.
  'guest/timer/endless.S',
]);
const PROGRAMS = findPrograms(['guest']).filter((path) => !path.startsWith('guest/apicv/') && !SHOWS_HELP.has(path));

describe('guest programs end alike with and without help', () => {
  it.each(PROGRAMS)('%s', async (path) => {
    const opened = openProgram(path);
    const kvm = opened.eras.at(-1) as string;
    const vendor = opened.vendors[0];
    const fromV6 = resolveEra(kvm).ipiVirtualization;
    const help: MachineOptions = vendor === 'amd' ? { avic: true } : { apicv: fromV6 ? 'ipiv' : 'on' };
    const seen = [];
    for (const options of [{}, help]) {
      const { run, vm } = await runProgram(opened, { vendor, kvm, ...options });
      const apics = run.vcpus.map(({ lapic: { irr, isr, tmr, tpr, svr }, mpState }) => ({
        ...{ irr, isr, tmr, tpr, svr, mpState },
      }));
      seen.push({ end: run.end, reports: run.reports, console: run.console, apics });
      vm.dispose();
    }
    expect(seen[1]).toEqual(seen[0]);
  });
});

describe('EOI of a vector that an I/O APIC waits for', () => {
  it('is an EOI-induced exit after the instruction, and is traced', async () => {
    const source = `
    .code64
    .globl _start
    ${COUNTING_HANDLER}
_start:
    ${gate(0x40, 'handler')}
    lidt [rip+idt]
    sti
    ${wrmsr(0x83f, '0x40')}
    cli
    hlt`;
    const options = { vendor: 'intel', apicv: 'on', kvm: '6.18' } as const;
    const exits = await runOn(
      options,
      source,
      (run) => {
        expect(run.trace.filter((event) => event.event === 'kvm_eoi')).toEqual([
          { event: 'kvm_eoi', vcpu: 0, apicid: 0, vector: 0x40 },
        ]);
        return run.exits.map((exit) => [exit.name, exit.reason]);
      },
      (vm) => vm.kvm.setEoiExit(0, 0x40),
    );
    expect(exits).toEqual([
      ['eoi_induced', 45],
      ['hlt', 12],
    ]);
  });
});

describe('what switches the help off while the VM runs', () => {
  const inhibits = async (options: MachineOptions, change: (vm: Vm) => void) => {
    const vm = await createVm({ memory: 0x20_0000, ...options });
    change(vm);
    const { apicvActive, apicvInhibits } = vm.kvm;
    vm.dispose();
    expect(apicvActive).toBe(apicvInhibits.length === 0);
    return apicvInhibits;
  };
  const writeId = (id: number) => (vm: Vm) => {
    vm.kvm.setLapic(
      0,
      Uint32Array.from(vm.kvm.vcpus[0].lapic.registers, (old, slot) => (slot === 2 ? id << 24 : old)),
    );
  };
  const nothing = () => {};

  it('nothing does in a plain VM', async () => {
    expect(await inhibits({ apicv: 'on' }, nothing)).toEqual([]);
    expect(await inhibits({ apicv: 'ipiv', apic: 'xapic', vcpus: 4 }, nothing)).toEqual([]);
    expect(await inhibits({ vendor: 'amd', avic: true, vcpus: 4 }, nothing)).toEqual([]);
  });

  it('no in-kernel APIC', async () => {
    expect(await inhibits({ apicv: 'on', apic: 'none' }, nothing)).toEqual(['no in-kernel APIC']);
  });

  it.each([
    ['5.19', [], []],
    ['6.0', ['APIC ID modified'], ['APIC ID modified']],
    ['6.3', ['APIC ID modified'], []],
  ])('an xAPIC id that is not the vCPU id, KVM %s: %o, and after it is right again: %o', async (kvm, wrong, again) => {
    const options = { apicv: 'on', apic: 'xapic', kvm } as const;
    expect(await inhibits(options, writeId(5))).toEqual(wrong);
    const back = (vm: Vm) => {
      writeId(5)(vm);
      writeId(0)(vm);
    };
    expect(await inhibits(options, back)).toEqual(again);
  });

  it.each([
    ['5.19', []],
    ['6.0', ['APIC base modified']],
    ['7.1', ['APIC base modified']],
  ])('another APIC base, for good, KVM %s: %o', async (kvm, reasons) => {
    const moveAndBack = (vm: Vm) => {
      vm.kvm.setMsr(0, 0x1b, 0xfee10900n);
      vm.kvm.setMsr(0, 0x1b, 0xfee00900n);
    };
    expect(await inhibits({ apicv: 'on', apic: 'xapic', kvm }, moveAndBack)).toEqual(reasons);
  });

  it.each([
    ['6.2', ['APIC ID modified']],
    ['6.3', ['APIC ID modified', 'physical ID aliased']],
  ])('two vCPUs with one xAPIC id, KVM %s: %o', async (kvm, reasons) => {
    expect(await inhibits({ apicv: 'on', apic: 'xapic', kvm, vcpus: 2 }, writeId(1))).toEqual(reasons);
  });

  it.each([
    ['6.2', []],
    ['6.3', ['logical ID aliased']],
  ])('two vCPUs with one logical id under AVIC, KVM %s: %o', async (kvm, reasons) => {
    const sameLdr = (vm: Vm) => {
      for (const { index, lapic } of vm.kvm.vcpus) {
        vm.kvm.setLapic(
          index,
          Uint32Array.from(lapic.registers, (old, slot) => (slot === 0xd ? 1 << 24 : old)),
        );
      }
    };
    expect(await inhibits({ vendor: 'amd', avic: true, apic: 'xapic', kvm, vcpus: 2 }, sameLdr)).toEqual(reasons);
  });

  it.each([
    ['5.19', ['x2APIC mode']],
    ['6.0', []],
  ])('x2APIC mode under AVIC, KVM %s: %o', async (kvm, reasons) => {
    expect(await inhibits({ vendor: 'amd', avic: true, kvm }, nothing)).toEqual(reasons);
  });

  it('an APIC id beyond what x2AVIC can address', async () => {
    const options = { vendor: 'amd', avic: true, apicIds: [0, 512], vcpus: 2 } as const;
    expect(await inhibits(options, nothing)).toEqual(['physical ID too big']);
  });
});

describe('options that make no sense are one line', () => {
  it.each<[MachineOptions, string]>([
    [{ vendor: 'amd', apicv: 'on' }, "APICv 'on' is Intel's; for an AMD host give avic"],
    [{ avic: true }, "AVIC is AMD's; for an Intel host give apicv"],
    [{ apicv: 'ipiv', kvm: '5.19' }, "KVM 5.19 has no IPI virtualization, which came in 6.0; use apicv 'on'"],
    [{ apicv: 'yes' as 'on' }, 'apicv must be one of off, on, ipiv, not yes'],
  ])('%o', async (options, message) => {
    await expect(createVm(options)).rejects.toThrow(new KvmscopeError('usage', message));
  });
});
