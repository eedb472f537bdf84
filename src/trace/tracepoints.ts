/**
 * KVM's tracepoints as binary records: the fields of TP_STRUCT__entry and the print format of TP_printk in arch/x86/kvm/trace.h and
 * include/trace/events/kvm.h, by kernel version, so that `trace-cmd`, KernelShark and `perf` read a trace file as if it came from that kernel.
 * A record begins with ftrace's common fields (type, flags, preempt count, pid); fields lie as a C compiler for x86-64 puts them.
 *
 * One row per event; `ftrace.ts` holds the same texts for people.
 */
import type { KvmTraceEvent, KvmTraceEventName } from '../kvm/trace.ts';
import type { Bytes } from './bytes.ts';
import { exitReasonTable, kernelVersion } from './exit-names.ts';
import {
  APIC_REGISTERS,
  DELIVERY_MODES,
  type EventOf,
  EXCEPTIONS,
  isTracepoint,
  type TraceDialect,
  USERSPACE_EXITS,
  userspaceExitNumber,
  vcpuId,
} from './ftrace.ts';
import { vcpuTid } from './timed.ts';

/** Integer types of fields: size in bytes, which is also the alignment, and whether signed. */
const TYPES = {
  bool: { size: 1, signed: 0 },
  u8: { size: 1, signed: 0 },
  __u8: { size: 1, signed: 0 },
  __s8: { size: 1, signed: 1 },
  __u16: { size: 2, signed: 0 },
  int: { size: 4, signed: 1 },
  u32: { size: 4, signed: 0 },
  __u32: { size: 4, signed: 0 },
  unsigned: { size: 4, signed: 0 },
  'unsigned int': { size: 4, signed: 0 },
  u64: { size: 8, signed: 0 },
  __u64: { size: 8, signed: 0 },
  'unsigned long': { size: 8, signed: 0 },
} as const;

type Field<E> = readonly [
  type: keyof typeof TYPES,
  name: string,
  value: (event: E, dialect: TraceDialect) => number | bigint,
];

interface Row<E> {
  readonly fields: readonly Field<E>[];
  /** What follows `print fmt:` in the event's format file. */
  readonly print: string;
}

type TracedName = Exclude<KvmTraceEventName, 'kvm_inj_nmi'>;
type Rows = { readonly [Name in TracedName]: (kernel: number) => Row<EventOf<Name>> };

const bit = (value: boolean): number => (value ? 1 : 0);
const symbols = (table: Iterable<readonly [number, string]>): string =>
  [...table].map(([value, name]) => `{ 0x${value.toString(16)}, "${name}" }`).join(', ');
const flipped = (table: Iterable<readonly [string, number]>, prefix: string): [number, string][] =>
  [...table].map(([name, value]) => [value, prefix + name]);

const MODE_SYMBOLS = symbols(DELIVERY_MODES.entries());
const SHORTHAND_SYMBOLS = symbols(['dst', 'self', 'all', 'all-but-self'].entries());
const WRITE_OR_READ = 'REC->rw ? "write" : "read"';

// isa of kvm_exit.
const ISA_VMX = 1;
const ISA_SVM = 2;

const reasonSymbols = (kernel: number, mask: string): string =>
  `(REC->isa == ${ISA_VMX}) ? __print_symbolic(REC->exit_reason${mask}, ${symbols(exitReasonTable('intel', kernel))}) ` +
  `: __print_symbolic(REC->exit_reason, ${symbols(exitReasonTable('amd', kernel))})`;

const eoi = (): Row<EventOf<'kvm_eoi'> | EventOf<'kvm_pv_eoi'>> => ({
  fields: [
    ['__u32', 'apicid', (e) => e.apicid],
    ['int', 'vector', (e) => e.vector],
  ],
  print: '"apicid %x vector %d", REC->apicid, REC->vector',
});

const accept = (): Row<EventOf<'kvm_apic_accept_irq'> | EventOf<'kvm_apicv_accept_irq'>> => ({
  fields: [
    ['__u32', 'apicid', (e) => e.apicid],
    ['__u16', 'dm', (e) => e.deliveryMode << 8],
    ['__u16', 'tm', (e) => e.triggerMode << 15],
    ['__u8', 'vec', (e) => e.vector],
  ],
  print:
    `"apicid %x vec %u (%s|%s)", REC->apicid, REC->vec, __print_symbolic((REC->dm >> 8 & 0x7), ${MODE_SYMBOLS}), ` +
    'REC->tm ? "level" : "edge"',
});

const pageFault = (): Row<EventOf<'kvm_async_pf_not_present'> | EventOf<'kvm_async_pf_ready'>> => ({
  fields: [
    ['__u64', 'token', (e) => e.token],
    ['__u64', 'gva', (e) => e.gva],
  ],
  // The kernel has %#llx, which prints 0 as 0x0 there, but not in user space.
  print: '"token 0x%llx gva 0x%llx", REC->token, REC->gva',
});

const ROWS: Rows = {
  kvm_entry: (kernel) => {
    const id: Field<EventOf<'kvm_entry'>> = ['unsigned int', 'vcpu_id', (e, dialect) => vcpuId(e, dialect)];
    const rip: Field<EventOf<'kvm_entry'>> = ['unsigned long', 'rip', (e) => e.rip];
    if (kernel < 5_010) return { fields: [id], print: '"vcpu %u", REC->vcpu_id' };
    if (kernel < 6_009) return { fields: [id, rip], print: '"vcpu %u, rip 0x%lx", REC->vcpu_id, REC->rip' };
    const immediate: Field<EventOf<'kvm_entry'>> = ['bool', 'immediate_exit', () => 0];
    const suffix = 'REC->immediate_exit ? "[immediate exit]" : ""';
    if (kernel < 6_014) {
      return {
        fields: [id, rip, immediate],
        print: `"vcpu %u, rip 0x%lx%s", REC->vcpu_id, REC->rip, ${suffix}`,
      };
    }
    return {
      fields: [id, rip, immediate, ['u32', 'intr_info', (e) => e.intrInfo], ['u32', 'error_code', (e) => e.errorCode]],
      print:
        '"vcpu %u, rip 0x%lx intr_info 0x%08x error_code 0x%08x%s", REC->vcpu_id, REC->rip, ' +
        `REC->intr_info, REC->error_code, ${suffix}`,
    };
  },
  kvm_exit: (kernel) => {
    const head: Field<EventOf<'kvm_exit'>>[] = [
      ['unsigned int', 'exit_reason', (e) => e.reason],
      ['unsigned long', 'guest_rip', (e) => e.rip],
      ['u32', 'isa', (_, dialect) => (dialect.vendor === 'intel' ? ISA_VMX : ISA_SVM)],
      ['u64', 'info1', (e) => e.info1],
      ['u64', 'info2', (e) => e.info2],
    ];
    const id: Field<EventOf<'kvm_exit'>> = ['unsigned int', 'vcpu_id', (e, dialect) => vcpuId(e, dialect)];
    const rest = 'REC->guest_rip, REC->info1, REC->info2';
    if (kernel < 5_006) {
      return { fields: head, print: `"reason %s rip 0x%lx info %llx %llx", ${reasonSymbols(kernel, '')}, ${rest}` };
    }
    if (kernel < 5_010) {
      return {
        fields: [...head, id],
        print: `"vcpu %u reason %s rip 0x%lx info %llx %llx", REC->vcpu_id, ${reasonSymbols(kernel, '')}, ${rest}`,
      };
    }
    // Bits 31:16 of a VMX exit reason are flags (SDM vol. 3, 24.9.1).
    const flags =
      `(REC->isa == ${ISA_VMX} && REC->exit_reason & ~0xffff) ? " " : "", (REC->isa == ${ISA_VMX}) ? ` +
      '__print_flags(REC->exit_reason & ~0xffff, " ", { 0x80000000, "FAILED_VMENTRY" }) : ""';
    const requests = kernel < 6_014 ? '' : ' requests 0x%016llx';
    return {
      fields: [
        ...head,
        ['u32', 'intr_info', (e) => e.intrInfo],
        ['u32', 'error_code', (e) => e.errorCode],
        id,
        ...(kernel < 6_014 ? [] : ([['u64', 'requests', (e) => e.requests ?? 0]] as Field<EventOf<'kvm_exit'>>[])),
      ],
      print:
        '"vcpu %u reason %s%s%s rip 0x%lx info1 0x%016llx info2 0x%016llx intr_info 0x%08x error_code 0x%08x' +
        `${requests}", REC->vcpu_id, ${reasonSymbols(kernel, ' & 0xffff')}, ${flags}, ${rest}, REC->intr_info, ` +
        `REC->error_code${kernel < 6_014 ? '' : ', REC->requests'}`,
    };
  },
  kvm_hypercall: () => ({
    fields: [
      ['unsigned long', 'nr', (e) => e.nr],
      ['unsigned long', 'a0', (e) => e.a0],
      ['unsigned long', 'a1', (e) => e.a1],
      ['unsigned long', 'a2', (e) => e.a2],
      ['unsigned long', 'a3', (e) => e.a3],
    ],
    print: '"nr 0x%lx a0 0x%lx a1 0x%lx a2 0x%lx a3 0x%lx", REC->nr, REC->a0, REC->a1, REC->a2, REC->a3',
  }),
  kvm_msr: () => ({
    fields: [
      ['unsigned', 'write', (e) => bit(e.write)],
      ['u32', 'ecx', (e) => e.msr],
      ['u64', 'data', (e) => e.data],
      ['u8', 'exception', (e) => bit(e.fault)],
    ],
    print: '"msr_%s %x = 0x%llx%s", REC->write ? "write" : "read", REC->ecx, REC->data, REC->exception ? " (#GP)" : ""',
  }),
  kvm_apic: (kernel) => {
    const wide = kernel >= 5_018;
    const value = wide ? '0x%llx' : '0x%x';
    return {
      fields: [
        ['unsigned int', 'rw', (e) => bit(e.write)],
        ['unsigned int', 'reg', (e) => e.reg],
        [wide ? 'u64' : 'unsigned int', 'val', (e) => e.value],
      ],
      print: `"apic_%s %s = ${value}", ${WRITE_OR_READ}, __print_symbolic(REC->reg, ${symbols(APIC_REGISTERS)}), REC->val`,
    };
  },
  kvm_apic_ipi: () => ({
    fields: [
      ['__u32', 'icr_low', (e) => e.icrLow],
      ['__u32', 'dest_id', (e) => e.destId],
    ],
    print:
      '"dst %x vec %u (%s|%s|%s|%s|%s)", REC->dest_id, (u8)REC->icr_low, ' +
      `__print_symbolic((REC->icr_low >> 8 & 0x7), ${MODE_SYMBOLS}), ` +
      '(REC->icr_low & (1<<11)) ? "logical" : "physical", (REC->icr_low & (1<<14)) ? "assert" : "de-assert", ' +
      '(REC->icr_low & (1<<15)) ? "level" : "edge", ' +
      `__print_symbolic((REC->icr_low >> 18 & 0x3), ${SHORTHAND_SYMBOLS})`,
  }),
  kvm_apic_accept_irq: accept,
  kvm_apicv_accept_irq: accept,
  kvm_eoi: eoi,
  kvm_pv_eoi: eoi,
  kvm_inj_virq: (kernel) =>
    kernel < 6_000
      ? { fields: [['unsigned int', 'irq', (e) => e.irq]], print: '"irq %u", REC->irq' }
      : {
          fields: [
            ['unsigned int', 'vector', (e) => e.irq],
            ['bool', 'soft', (e) => bit(e.soft)],
            ['bool', 'reinjected', (e) => bit(e.reinjected)],
          ],
          print: '"%s 0x%x%s", REC->soft ? "Soft/INTn" : "IRQ", REC->vector, REC->reinjected ? " [reinjected]" : ""',
        },
  kvm_inj_exception: (kernel) => {
    const fields: Field<EventOf<'kvm_inj_exception'>>[] = [
      ['u8', 'exception', (e) => e.vector],
      ['u8', 'has_error', (e) => bit(e.errorCode !== null)],
      ['u32', 'error_code', (e) => e.errorCode ?? 0],
    ];
    const name = `__print_symbolic(REC->exception, ${symbols(EXCEPTIONS)})`;
    if (kernel < 6_000) return { fields, print: `"%s (0x%x)", ${name}, REC->has_error ? REC->error_code : 0` };
    return {
      fields: [...fields, ['bool', 'reinjected', (e) => bit(e.reinjected)]],
      // The kernel's list of error codes is empty; readers want one entry.
      print:
        `"%s%s%s%s%s", ${name}, !REC->has_error ? "" : " (", ` +
        '!REC->has_error ? "" : __print_symbolic(REC->error_code, { 0x0, "0x0" }), ' +
        '!REC->has_error ? "" : ")", REC->reinjected ? " [reinjected]" : ""',
    };
  },
  kvm_cpuid: (kernel) => {
    const values = ['rax', 'rbx', 'rcx', 'rdx'] as const;
    const registers = ['eax', 'ebx', 'ecx', 'edx'] as const;
    const indexed = kernel >= 5_007;
    const fields: Field<EventOf<'kvm_cpuid'>>[] = [
      ['unsigned int', 'function', (e) => e.func],
      ...(indexed ? ([['unsigned int', 'index', (e) => e.index]] as Field<EventOf<'kvm_cpuid'>>[]) : []),
      ...values.map((name, i): Field<EventOf<'kvm_cpuid'>> => ['unsigned long', name, (e) => e[registers[i]]]),
      ['bool', 'found', (e) => bit(e.found)],
    ];
    const tail = `${values.map((name) => `REC->${name}`).join(', ')}, REC->found ? "found" : "not found"`;
    const words = 'rax %lx rbx %lx rcx %lx rdx %lx, cpuid entry %s';
    if (!indexed) return { fields, print: `"func %x ${words}", REC->function, ${tail}` };
    return {
      fields: [...fields, ['bool', 'used_max_basic', (e) => bit(e.usedMaxBasic === true)]],
      print:
        `"func %x idx %x ${words}%s", REC->function, REC->index, ${tail}, ` +
        'REC->used_max_basic ? ", used max basic" : ""',
    };
  },
  kvm_pio: () => ({
    fields: [
      ['unsigned int', 'rw', (e) => bit(e.write)],
      ['unsigned int', 'port', (e) => e.port],
      ['unsigned int', 'size', (e) => e.size],
      ['unsigned int', 'count', () => 1],
      ['unsigned int', 'val', (e) => e.value],
    ],
    print:
      `"pio_%s at 0x%x size %d count %d val 0x%x %s", ${WRITE_OR_READ}, REC->port, REC->size, REC->count, REC->val, ` +
      'REC->count > 1 ? "(...)" : ""',
  }),
  kvm_mmio: () => ({
    fields: [
      ['u32', 'type', (e) => (e.write ? 2 : 1)],
      ['u32', 'len', (e) => e.size],
      ['u64', 'gpa', (e) => e.gpa],
      ['u64', 'val', (e) => e.value],
    ],
    print:
      '"mmio %s len %u gpa 0x%llx val 0x%llx", __print_symbolic(REC->type, { 0, "unsatisfied-read" }, { 1, "read" }, ' +
      '{ 2, "write" }), REC->len, REC->gpa, REC->val',
  }),
  kvm_cr: () => ({
    fields: [
      ['unsigned int', 'rw', (e) => bit(e.write)],
      ['unsigned int', 'cr', (e) => e.cr],
      ['unsigned long', 'val', (e) => e.value],
    ],
    print: `"cr_%s %x = 0x%lx", ${WRITE_OR_READ}, REC->cr, REC->val`,
  }),
  kvm_userspace_exit: () => ({
    fields: [
      ['__u32', 'reason', (e) => userspaceExitNumber(e.reason)],
      ['int', 'errno', () => 0],
    ],
    print:
      '"reason %s (%d)", REC->errno < 0 ? (REC->errno == -4 ? "restart" : "error") : ' +
      `__print_symbolic(REC->reason, ${symbols(flipped(USERSPACE_EXITS, 'KVM_EXIT_'))}), ` +
      'REC->errno < 0 ? -REC->errno : REC->reason',
  }),
  kvm_pvclock_update: () => ({
    fields: [
      ['unsigned int', 'vcpu_id', (e) => e.vcpuId],
      ['__u32', 'version', (e) => e.version],
      ['__u64', 'tsc_timestamp', (e) => e.tscTimestamp],
      ['__u64', 'system_time', (e) => e.systemTime],
      ['__u32', 'tsc_to_system_mul', (e) => e.mul],
      ['__s8', 'tsc_shift', (e) => e.shift],
      ['__u8', 'flags', (e) => e.flags],
    ],
    print:
      '"vcpu_id %u, pvclock { version %u, tsc_timestamp 0x%llx, system_time 0x%llx, tsc_to_system_mul 0x%x, ' +
      'tsc_shift %d, flags 0x%x }", REC->vcpu_id, REC->version, REC->tsc_timestamp, REC->system_time, ' +
      'REC->tsc_to_system_mul, REC->tsc_shift, REC->flags',
  }),
  kvm_pv_tlb_flush: () => ({
    fields: [
      ['unsigned int', 'vcpu_id', (e) => e.vcpuId],
      ['bool', 'need_flush_tlb', (e) => bit(e.needFlush)],
    ],
    print: '"vcpu %u need_flush_tlb %s", REC->vcpu_id, REC->need_flush_tlb ? "true" : "false"',
  }),
  kvm_async_pf_not_present: pageFault,
  kvm_async_pf_ready: pageFault,
};

/** Event types below this number belong to ftrace itself. */
const FIRST_ID = 1001;
/** Size of the common fields. */
const COMMON_SIZE = 8;

/** One event type of a trace file. */
export interface Tracepoint {
  /** The tracepoint's name in system `kvm`. */
  readonly name: string;
  /** Number in `common_type` and in perf_event_attr.config. */
  readonly id: number;
  /** Bytes of a record, a multiple of 4. */
  readonly size: number;
  /** Text of /sys/kernel/tracing/events/kvm/<name>/format. */
  readonly format: string;
  /** Appends one record, common fields first. */
  write(event: KvmTraceEvent, out: Bytes): void;
}

const fieldLine = (type: string, name: string, offset: number, size: number, signed: number): string =>
  `\tfield:${type} ${name};\toffset:${offset};\tsize:${size};\tsigned:${signed};\n`;

const COMMON_FIELDS = [
  fieldLine('unsigned short', 'common_type', 0, 2, 0),
  fieldLine('unsigned char', 'common_flags', 2, 1, 0),
  fieldLine('unsigned char', 'common_preempt_count', 3, 1, 0),
  fieldLine('int', 'common_pid', 4, 4, 1),
].join('');

const aligned = (offset: number, unit: number): number => Math.ceil(offset / unit) * unit;

function tracepoint(name: string, id: number, row: Row<KvmTraceEvent>, dialect: TraceDialect): Tracepoint {
  let end = COMMON_SIZE;
  const placed = row.fields.map(([type, field, value]) => {
    const { size, signed } = TYPES[type];
    const offset = aligned(end, size);
    end = offset + size;
    return { type, field, value, size, signed, offset };
  });
  const size = aligned(end, Math.max(4, ...placed.map((field) => field.size)));
  const own = placed.map((f) => fieldLine(f.type, f.field, f.offset, f.size, f.signed)).join('');
  return {
    name,
    id,
    size,
    format: `name: ${name}\nID: ${id}\nformat:\n${COMMON_FIELDS}\n${own}\nprint fmt: ${row.print}\n`,
    write(event, out) {
      const start = out.length;
      out.u16(id).u8(0).u8(0).u32(vcpuTid(event.vcpu));
      for (const field of placed) {
        out.zeros(start + field.offset - out.length).int(field.value(event, dialect), field.size);
      }
      out.zeros(start + size - out.length);
    },
  };
}

/** The tracepoints of a kernel, by event name. */
export function tracepoints(dialect: TraceDialect): ReadonlyMap<string, Tracepoint> {
  const kernel = kernelVersion(dialect.era);
  return new Map(
    Object.entries(ROWS).map(([name, row], i) => [
      name,
      tracepoint(name, FIRST_ID + i, (row as (kernel: number) => Row<KvmTraceEvent>)(kernel), dialect),
    ]),
  );
}

/** Calls `each` with every event of a trace that is a tracepoint, with its description and time. */
export function eachRecord(
  { trace, times }: { readonly trace: readonly KvmTraceEvent[]; readonly times: readonly number[] },
  points: ReadonlyMap<string, Tracepoint>,
  each: (event: KvmTraceEvent, point: Tracepoint, time: number) => void,
): void {
  for (const [i, event] of trace.entries()) {
    if (isTracepoint(event)) each(event, points.get(event.event) as Tracepoint, times[i]);
  }
}
