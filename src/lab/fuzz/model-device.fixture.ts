/**
 * The model behind the interface of a live KVM's VM, in the kernel's structures: what cases on a KVM that makes hypercalls, takes interrupts
 * and sleeps look like, without one.
 */
import {
  KvmRegisters,
  type KvmVmOptions,
  kvmRegisterNames,
  MP,
  type PendingEvents,
} from '../../cpu/engines/kvm-device.ts';
import type { KvmReport } from '../../cpu/engines/kvm-probe.ts';
import { registerByName } from '../../cpu/registers.ts';
import type { MpState } from '../../kvm/types.ts';
import { type KvmVcpu as ModelVcpu, MP_NUMBER } from '../../kvm/vcpu.ts';
import type { Kvm } from '../../kvm/x86.ts';
import { createVm } from '../../machine/machine.ts';
import type { Vm } from '../../machine/vm.ts';
import { SLOT_ID } from '../lapic-slots.ts';
import type { LiveVcpu, LiveVmDevice } from './live-kvm.ts';
import type { Topology } from './types.ts';

/** A KVM that can do everything. */
export const MODEL_REPORT: KvmReport = {
  unavailable: undefined,
  kernel: '6.18.0-model',
  vendor: 'intel',
  software: false,
  smm: true,
  vectorHashing: true,
  noHypercalls: undefined,
};

const SLOTS = 64;
/** KVM_CAP_X2APIC_API: ids of 32 bits. */
const API_IDS = 1;
const GENERAL = /^r([a-d]x|[sd]i|[sb]p|ip|flags|\d+)$/;
const MP_STATES = Object.keys(MP) as MpState[];

class DeviceVcpu extends KvmRegisters implements LiveVcpu {
  readonly id: number;
  readonly lapic = new Uint32Array(256);
  readonly #kvm: Kvm;
  readonly #model: ModelVcpu;
  readonly #wideIds: boolean;

  constructor(kvm: Kvm, index: number, wideIds: boolean) {
    super();
    this.#kvm = kvm;
    this.#model = kvm.vcpus[index] as ModelVcpu;
    this.#wideIds = wideIds;
    this.id = this.#model.apicId;
  }

  #get(general: boolean): void {
    for (const name of kvmRegisterNames()) {
      const register = registerByName(name);
      if (register !== undefined && GENERAL.test(name) === general) this.put(name, this.#model.state.get(register.id));
    }
  }
  #set(general: boolean): void {
    for (const name of kvmRegisterNames()) {
      const register = registerByName(name);
      if (register !== undefined && name !== 'cr8' && GENERAL.test(name) === general)
        this.#model.state.put(register.id, this.get(name));
    }
  }
  getRegs(): void {
    this.#get(true);
  }
  setRegs(): void {
    this.#set(true);
    // KVM_SET_REGS drops a pending exception.
    this.#model.exceptionVector = -1;
  }
  getSregs(): void {
    this.#get(false);
    this.put('apic_base', this.#model.lapic.apicBase);
    this.put('cr8', BigInt(this.#model.lapic.tpr >> 4));
  }
  setSregs(): void {
    this.#set(false);
    const { index, lapic } = this.#model;
    if (this.get('apic_base') !== lapic.apicBase) this.#kvm.setMsr(index, 0x1b, this.get('apic_base'));
    lapic.write(0x80, Number(this.get('cr8')) << 4);
  }
  getLapic(): void {
    const { registers, x2apic } = this.#model.lapic;
    this.lapic.fill(0);
    for (let slot = 0; slot < SLOTS; slot++) this.lapic[slot * 4] = registers[slot];
    if (x2apic && !this.#wideIds) this.lapic[SLOT_ID * 4] <<= 24;
  }
  setLapic(image?: Uint8Array): void {
    const words = image === undefined ? this.lapic : new Uint32Array(image.buffer, image.byteOffset, 256);
    this.#kvm.setLapic(
      this.#model.index,
      Uint32Array.from({ length: SLOTS }, (_, slot) => words[slot * 4]),
    );
  }
  getMsr(msr: number): bigint | undefined {
    return this.#kvm.getMsr(this.#model.index, msr);
  }
  setMsr(msr: number, value: bigint): boolean {
    return this.#kvm.setMsr(this.#model.index, msr, value);
  }
  getMpState(): number {
    return MP_NUMBER[this.#kvm.getMpState(this.#model.index)];
  }
  setMpState(state: number): void {
    this.#model.mpState = MP_STATES[state];
  }
  pending(): PendingEvents {
    const { lapic, nmiPending } = this.#model;
    return { nmi: nmiPending, smi: lapic.smiPending ? 1 : 0, init: lapic.initPending ? 1 : 0 };
  }
  clearEvents(): void {
    this.#model.clearEvents();
  }
  singleStep(): void {}
  run(): string {
    const { index } = this.#model;
    const end = this.#kvm.run(index, 1);
    switch (end.kind) {
      case 'budget':
      case 'yield':
        return 'debug';
      case 'blocked':
        return 'limit';
      case 'mmio':
        this.#kvm.completeMmio(index, 0n);
        return 'intr';
      case 'io':
        this.#kvm.completeIo(index, 0);
        return 'intr';
      default:
        return end.kind;
    }
  }
  answerMmio(): void {}
}

/** Makes devices for the option `device` of `openLiveTarget`. */
export const modelDevice =
  (topology: Topology, kvm: string) =>
  async ({ ids, memory = 0, x2apicApi = 0, enforcePvFeatures = false }: KvmVmOptions): Promise<LiveVmDevice> => {
    const vm: Vm = await createVm({
      vcpus: ids.length,
      apicIds: ids,
      vendor: topology.vendor,
      apic: 'reset',
      aps: 'run',
      record: false,
      ...{ memory, kvm, x2apicApi, enforcePvFeatures },
      ...(topology.pvFeatures === undefined ? {} : { pvFeatures: topology.pvFeatures }),
    });
    return {
      memory: vm.memory,
      vcpus: ids.map((_, index) => new DeviceVcpu(vm.kvm, index, (x2apicApi & API_IDS) !== 0)),
      close: () => vm.dispose(),
    };
  };
