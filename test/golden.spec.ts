/**
 * Replays recordings of a real KVM (Linux 6.18.15, kvm_amd) against era 6.18: one ICR write or one SEND_IPI hypercall
 * per line and everything it changed. A file is replayed whole; one line that disagrees fails it.
 *
 * A recording reads, per vCPU and in this order, LAPIC, vCPU events, MP state (which carries out a pending INIT or
 * SIPI) and CS.
 */
import { readdirSync, readFileSync } from 'node:fs';
import { describe, expect, it } from 'vitest';
import { R_CR0, R_RAX, R_RFLAGS, R_SEL, SEG_CS } from '../src/cpu/core/layout.ts';
import type { Exit } from '../src/cpu/exit.ts';
import { FakeCpu, HYPERCALL, setArguments, wrmsr } from '../src/kvm/spec-helper.ts';
import type { MpState } from '../src/kvm/types.ts';
import type { KvmVcpu } from '../src/kvm/vcpu.ts';
import { Kvm } from '../src/kvm/x86.ts';

const ROOT = new URL('golden/', import.meta.url);

interface ApicMeta {
  readonly base: string;
  readonly ldr: string;
  readonly dfr: string;
  readonly svr: string;
}
interface Meta {
  readonly config: string;
  readonly note: string;
  readonly x2apic_api: number;
  readonly ids: readonly number[];
  readonly apics?: readonly ApicMeta[];
  readonly bits?: number;
}
/** What changed on one vCPU; only what changed is there. */
interface Change {
  irr?: number[];
  tmr?: number[];
  tmr_clr?: number[];
  nmi?: number;
  smi?: number;
  init?: number;
  mp?: number;
  sipi?: number;
}
interface IcrLine {
  readonly via: 'KVM_SET_MSRS' | 'guest-wrmsr' | 'guest-mmio';
  readonly from: number;
  readonly base: 'wfs' | 'halted';
  readonly icr: string;
  readonly gp: 0 | 1;
  readonly rb: string;
  readonly ch: Record<string, Change>;
}
interface CallLine {
  readonly base: 'wfs' | 'halted';
  readonly nr: number;
  readonly lo: string;
  readonly hi: string;
  readonly min: string;
  readonly icr: string;
  readonly rax: string;
  readonly ch: Record<string, Change>;
}

const MP_NUMBER: Readonly<Record<MpState, number>> = { runnable: 0, uninitialized: 1, 'init-received': 2, halted: 3 };
const hex = (value: bigint): string => `0x${value.toString(16)}`;

function readGolden<Line>(file: string): { meta: Meta; lines: Line[] } {
  const [first, ...rest] = readFileSync(new URL(file, ROOT), 'utf8').trimEnd().split('\n');
  return {
    meta: (JSON.parse(first as string) as { meta: Meta }).meta,
    lines: rest.map((line) => JSON.parse(line) as Line),
  };
}

/** The APICs of recordings whose meta line describes them in words only. */
function describedApics(meta: Meta): readonly ApicMeta[] {
  const xapic = meta.config.startsWith('xapic');
  return meta.ids.map((id) => {
    const mixed = meta.config === 'mixed';
    const disabled = mixed && id === 3;
    const isXapic = xapic || (mixed && (id === 4 || id === 5));
    const base = 0xfee00000n | (disabled ? 0n : isXapic ? 0x800n : 0xc00n) | (id === 0 ? 0x100n : 0n);
    const svr = mixed && (id === 2 || id === 5) ? '0xff' : '0x1ff';
    return { base: hex(base), ldr: isXapic ? hex(BigInt(1 << (id & 7)) << 24n) : '0x0', dfr: '0xffffffff', svr };
  });
}

/** One VM in a recording's configuration, brought back to its start state for every line. */
class Replay {
  readonly meta: Meta;
  readonly cpu: FakeCpu;
  readonly kvm: Kvm;
  /** LAPIC registers at the start of every line. */
  readonly #snapshot: Uint32Array[];

  constructor(meta: Meta) {
    this.meta = meta;
    this.cpu = new FakeCpu(meta.ids.length, 'amd');
    const hidden = meta.config === 'x2-4-nofeat';
    this.kvm = new Kvm({
      cpu: this.cpu,
      era: '6.18',
      apicIds: meta.ids,
      x2apicApi: Math.max(0, meta.x2apic_api),
      enforcePvFeatures: hidden || meta.config === 'x2-4-feat',
      ...(hidden ? { pvFeatures: 0x1000000 } : {}),
    });
    for (const [index, apic] of (meta.apics ?? describedApics(meta)).entries()) this.#setApic(index, apic);
    this.#snapshot = this.kvm.vcpus.map((vcpu) => vcpu.lapic.registers.slice());
  }

  #setApic(index: number, apic: ApicMeta): void {
    const base = BigInt(apic.base);
    const { lapic } = this.kvm.vcpus[index] as KvmVcpu;
    const x2apic = (base & 0x400n) !== 0n;
    if (!x2apic && (base & 0x800n) === 0n) {
      // Disabled later, after it had been set up in x2APIC mode.
      this.kvm.setMsr(index, 0x1b, base | 0xc00n);
      lapic.write(0xf0, Number(apic.svr));
    }
    this.kvm.setMsr(index, 0x1b, base);
    lapic.write(0xf0, Number(apic.svr));
    if (x2apic) return;
    lapic.write(0xe0, Number(apic.dfr));
    lapic.write(0xd0, Number(apic.ldr));
  }

  /** `running`: index of a vCPU that executes guest code, whatever the base says. */
  reset(base: 'wfs' | 'halted', running: number): void {
    for (const vcpu of this.kvm.vcpus) {
      this.kvm.setLapic(vcpu.index, this.#snapshot[vcpu.index] as Uint32Array);
      const { lapic } = vcpu;
      lapic.nmiQueued = 0;
      lapic.smiPending = false;
      lapic.initPending = false;
      lapic.sipiPending = false;
      lapic.pvUnhalted = false;
      vcpu.nmiLatched = 0;
      vcpu.state.set(R_SEL + SEG_CS, 0xf000, 0);
      vcpu.state.set(R_RFLAGS, 2, 0);
      vcpu.state.set(R_CR0, 0x11, 0);
      const idle: MpState = base === 'halted' ? 'halted' : 'init-received';
      vcpu.mpState = vcpu.index === running ? 'runnable' : idle;
    }
  }

  /** Lets vCPU `index` leave the guest with `exits`, and stops before it enters again. */
  execute(index: number, ...exits: Exit[]): void {
    this.cpu.scripts[index] = [...exits];
    this.kvm.run(index, exits.length * (exits.length > 1 ? 3 : 2));
  }

  /** Everything that changed since `reset`, in the words of the recordings. */
  changes(mpBefore: readonly number[]): Record<string, Change> {
    const changes: Record<string, Change> = {};
    for (const vcpu of this.kvm.vcpus) {
      const change: Change = {};
      const irr = vcpu.lapic.irr();
      const tmr = vcpu.lapic.tmr();
      if (irr.length > 0) change.irr = irr;
      if (tmr.length > 0) change.tmr = tmr;
      if (vcpu.nmiPending > 0) change.nmi = vcpu.nmiPending;
      if (vcpu.smiPending) change.smi = 1;
      if (vcpu.initPending) change.init = 1;
      const mp = MP_NUMBER[this.kvm.getMpState(vcpu.index)];
      if (mp !== mpBefore[vcpu.index]) change.mp = mp;
      const selector = vcpu.state.lo(R_SEL + SEG_CS);
      if (selector !== 0xf000) change.sipi = selector >> 8;
      if (Object.keys(change).length > 0) changes[String(vcpu.apicId)] = change;
    }
    return changes;
  }

  mpStates(): number[] {
    return this.kvm.vcpus.map((vcpu) => MP_NUMBER[vcpu.mpState]);
  }
}

/** Final state of one vCPU after a sequence of writes. */
interface FinalState {
  readonly irr?: number[];
  readonly tmr?: number[];
  readonly isr?: number[];
  readonly nmi: number;
  readonly smi: number;
  readonly init: number;
  readonly mp: number;
  readonly cs: string;
}
interface SequenceLine {
  readonly seq: readonly (readonly [sender: number, icr: string])[];
  readonly st: Record<string, FinalState>;
}
interface MsrLine {
  readonly msr: string;
  readonly read: boolean;
  readonly value: string;
  readonly write0: boolean;
  readonly write1: boolean;
  readonly 'write1<<32': boolean;
  readonly writeffffffff: boolean;
}

/**
 * The state in which sequences and the MSR survey start: TMR {32, 236}, IRR {33}, ISR {68} on all vCPUs but the first.
 */
function occupy(replay: Replay): void {
  for (const { lapic, index } of replay.kvm.vcpus) {
    if (index === 0) continue;
    const registers = lapic.registers.slice();
    registers[0x100 / 16 + 2] = 1 << (68 - 64);
    registers[0x180 / 16 + 1] = 1 << (32 - 32);
    registers[0x180 / 16 + 7] = 1 << (236 - 224);
    registers[0x200 / 16 + 1] = 1 << (33 - 32);
    replay.kvm.setLapic(index, registers);
  }
}

const write4 = (gpa: number, value: number): Exit => ({
  reason: 'mmio',
  gpaLo: gpa,
  gpaHi: 0,
  size: 4,
  direction: 'write',
  valueLo: value,
  valueHi: 0,
});

describe('ICR writes recorded from KVM 6.18', () => {
  it.each(readdirSync(new URL('icr/', ROOT)))('%s', (file) => {
    const { meta, lines } = readGolden<IcrLine>(`icr/${file}`);
    const replay = new Replay(meta);
    expect(lines.length).toBeGreaterThan(300);
    for (const line of lines) {
      const sender = meta.ids.indexOf(line.from);
      const { lapic } = replay.kvm.vcpus[sender] as KvmVcpu;
      const value = BigInt(line.icr);
      const guest = line.via !== 'KVM_SET_MSRS';
      replay.reset(line.base, guest ? sender : -1);
      const mpBefore = replay.mpStates();
      let fault = false;
      if (line.via === 'KVM_SET_MSRS') {
        fault = !replay.kvm.setMsr(sender, 0x830, value);
      } else if (line.via === 'guest-wrmsr') {
        replay.execute(sender, wrmsr(0x830, value));
        fault = (replay.kvm.vcpus[sender] as KvmVcpu).exceptionVector === 13;
      } else {
        const high = Number(value >> 32n);
        replay.execute(sender, write4(0xfee00310, high), write4(0xfee00300, Number(value & 0xffffffffn)));
      }
      const actual = { ...line, gp: fault ? 1 : 0, rb: hex(lapic.icr), ch: replay.changes(mpBefore) };
      expect(actual).toEqual(line);
    }
  });
});

describe('SEND_IPI hypercalls recorded from KVM 6.18', () => {
  it.each(readdirSync(new URL('hc/', ROOT)))('%s', (file) => {
    const { meta, lines } = readGolden<CallLine>(`hc/${file}`);
    const replay = new Replay(meta);
    const caller = replay.cpu.vcpu(0);
    caller.is64bit = meta.bits === 64;
    caller.cpl = meta.config === 'x2-4-cpl3' ? 3 : 0;
    expect(lines.length).toBeGreaterThan(100);
    for (const line of lines) {
      replay.reset(line.base, 0);
      const mpBefore = replay.mpStates();
      setArguments(caller, [BigInt(line.nr), BigInt(line.lo), BigInt(line.hi), BigInt(line.min), BigInt(line.icr)]);
      replay.execute(0, HYPERCALL);
      const actual = { ...line, rax: hex(caller.get(R_RAX)), ch: replay.changes(mpBefore) };
      expect(actual).toEqual(line);
    }
  });
});

describe('sequences of ICR writes recorded from KVM 6.18', () => {
  it('end in the recorded state', () => {
    const { meta, lines } = readGolden<SequenceLine>('icr-seq.jsonl');
    const replay = new Replay(meta);
    expect(lines.length).toBe(400);
    for (const line of lines) {
      replay.reset('wfs', -1);
      occupy(replay);
      for (const [sender, icr] of line.seq) {
        expect(replay.kvm.setMsr(meta.ids.indexOf(sender), 0x830, BigInt(icr))).toBe(true);
      }
      const st: Record<string, unknown> = {};
      for (const vcpu of replay.kvm.vcpus) {
        const { lapic } = vcpu;
        const sets = { irr: lapic.irr(), tmr: lapic.tmr(), isr: lapic.isr() };
        const events = { nmi: vcpu.nmiPending, smi: vcpu.smiPending ? 1 : 0, init: vcpu.initPending ? 1 : 0 };
        const filled = Object.fromEntries(Object.entries(sets).filter(([, vectors]) => vectors.length > 0));
        const mp = MP_NUMBER[replay.kvm.getMpState(vcpu.index)];
        st[vcpu.apicId] = { ...filled, ...events, mp, cs: hex(BigInt(vcpu.state.lo(R_SEL + SEG_CS))) };
      }
      expect({ ...line, st }).toEqual(line);
    }
  });
});

describe('the x2APIC MSR survey recorded from KVM 6.18', () => {
  it('finds the same MSRs readable, with the same values, and the same writes refused', () => {
    const lines = readFileSync(new URL('x2apic-msrs.jsonl', ROOT), 'utf8')
      .trimEnd()
      .split('\n')
      .map((line) => JSON.parse(line) as MsrLine);
    const replay = new Replay({ config: 'x2-2', note: '', x2apic_api: -1, ids: [0, 1] });
    const byMsr = new Map(lines.map((line) => [Number(line.msr), line]));
    for (let msr = 0x800; msr <= 0x8ff; msr++) {
      const attempt = (value: bigint): boolean => {
        replay.reset('wfs', -1);
        occupy(replay);
        return replay.kvm.setMsr(1, msr, value);
      };
      replay.reset('wfs', -1);
      occupy(replay);
      const value = replay.kvm.getMsr(1, msr);
      const actual = {
        msr: hex(BigInt(msr)),
        read: value !== undefined,
        value: hex(value ?? 0n),
        write0: attempt(0n),
        write1: attempt(1n),
        'write1<<32': attempt(1n << 32n),
        writeffffffff: attempt(0xffffffffn),
      };
      const absent = { msr: actual.msr, read: false, value: '0x0', write0: false, write1: false };
      expect(actual).toEqual(byMsr.get(msr) ?? { ...absent, 'write1<<32': false, writeffffffff: false });
    }
  });
});
