/**
 * One-rule flips of the model for scripts/mutate.ts. Each says which rule is broken, where, and how: `find` occurs exactly once in
 * `file`. The numbers are those of the rules in the recorder's notes: 1-16 ICR writes, 17-22 KVM_HC_SEND_IPI.
 */
export interface Mutation {
  readonly name: string;
  readonly file: string;
  readonly find: string;
  readonly replace: string;
}

const ICR = 'src/kvm/icr.ts';
const LAPIC = 'src/kvm/lapic.ts';
const MAP = 'src/kvm/apic-map.ts';
const ROUTER = 'src/kvm/irq-comm.ts';
const HYPERCALL = 'src/kvm/hypercall.ts';
const X86 = 'src/kvm/x86.ts';
const VCPU = 'src/kvm/vcpu.ts';

export const MUTATIONS: readonly Mutation[] = [
  {
    name: '1 ICR bit 13 is not reserved',
    file: ICR,
    find: 'ICR_RESERVED = 0xfff32000 | 0',
    replace: 'ICR_RESERVED = 0xfff30000 | 0',
  },
  {
    name: '1 ICR bits 31:20 are not reserved',
    file: ICR,
    find: 'ICR_RESERVED = 0xfff32000 | 0',
    replace: 'ICR_RESERVED = 0x00032000 | 0',
  },
  {
    name: '2 ICR bit 12 raises #GP',
    file: ICR,
    find: 'ICR_RESERVED = 0xfff32000 | 0',
    replace: 'ICR_RESERVED = 0xfff33000 | 0',
  },
  {
    name: '2 ICR bit 12 reads back as written',
    file: LAPIC,
    find: 'r[ICR2] = hi;\n    r[ICR] = lo & ~ICR_BUSY;',
    replace: 'r[ICR2] = hi;\n    r[ICR] = lo;',
  },
  {
    name: '3 vectors below 16 are refused',
    file: LAPIC,
    find: 'if (this.swEnabled !== true || this.hwEnabled !== true) return 0;\n    reach(',
    replace:
      'if ((message & ICR_VECTOR) < 16 || this.swEnabled !== true || this.hwEnabled !== true) return 0;\n    reach(',
  },
  {
    name: '4 a level-triggered de-assert is delivered',
    file: LAPIC,
    find: 'if ((message & ICR_ASSERT) === 0) return 0;\n    if (this.accept(',
    replace: 'if (this.accept(',
  },
  {
    name: '4 an edge without level is dropped',
    file: LAPIC,
    find: 'if ((message & SPECIAL) !== 0) return this.acceptSpecial(message);',
    replace:
      'if ((message & SPECIAL) !== 0) return this.acceptSpecial(message);\n    if ((message & ICR_ASSERT) === 0) return 0;',
  },
  {
    name: '4 an edge leaves TMR alone',
    file: LAPIC,
    find: 'this.triggers[word] &= ~bit;',
    replace: '',
  },
  {
    name: '5 INIT de-assert is carried out',
    file: LAPIC,
    find: 'if ((message & ICR_LEVEL) !== 0 && (message & ICR_ASSERT) === 0) return 0;\n        this.initPending = true;',
    replace: 'this.initPending = true;',
  },
  {
    name: '5 INIT needs level 1',
    file: LAPIC,
    find: 'if ((message & ICR_LEVEL) !== 0 && (message & ICR_ASSERT) === 0) return 0;\n        this.initPending = true;',
    replace: 'if ((message & ICR_ASSERT) === 0) return 0;\n        this.initPending = true;',
  },
  {
    name: '5 INIT keeps a pending SIPI',
    file: LAPIC,
    find: 'this.initPending = true;\n        this.sipiPending = false;',
    replace: 'this.initPending = true;',
  },
  {
    name: '6 the first SIPI vector wins',
    file: LAPIC,
    find: 'this.sipiVector = message & ICR_VECTOR;',
    replace: 'if (!this.sipiPending) this.sipiVector = message & ICR_VECTOR;',
  },
  {
    name: '6 three NMIs leave three pending',
    file: VCPU,
    find: 'Math.min(this.nmiLatched + this.lapic.nmiQueued, this.nmiLimit)',
    replace: 'this.nmiLatched + this.lapic.nmiQueued',
  },
  {
    name: '7 ExtINT is accepted',
    file: LAPIC,
    find: '// ExtINT means something only through LVT0.\n        return 0;',
    replace: 'return 1;',
  },
  {
    name: '7 mode 3 wakes nobody',
    file: LAPIC,
    find: 'this.pvUnhalted = true;',
    replace: '',
  },
  {
    name: '8 the self shorthand works with Fixed only',
    file: ROUTER,
    find: 'if (source !== null) this.sink.deliver',
    replace: 'if (source !== null && (low & ICR_MODE) === 0) this.sink.deliver',
  },
  {
    name: '9 0xff is a broadcast to x2APIC targets',
    file: MAP,
    find: 'if (mda === (target.x2apic ? X2APIC_BROADCAST : XAPIC_BROADCAST)) return true;',
    replace: 'if (mda === X2APIC_BROADCAST || mda === XAPIC_BROADCAST) return true;',
  },
  {
    name: '9 0xff is no broadcast in xAPIC mode',
    file: ICR,
    find: 'XAPIC_BROADCAST = 0xff;\nexport const X2APIC_BROADCAST = 0xffffffff;',
    replace: 'XAPIC_BROADCAST = 0x1ff;\nexport const X2APIC_BROADCAST = 0xffffffff;',
  },
  {
    name: '10 x2APIC clusters have 8 members',
    file: LAPIC,
    find: '(1 << (this.vcpuId & 15))',
    replace: '(1 << (this.vcpuId & 7))',
  },
  {
    name: '11 lowest priority counts existing vCPUs only',
    file: ROUTER,
    find: 'if (this.vectorHashing) return 1 << nthBit(mask, vector % bitCount(mask));',
    replace: `if (this.vectorHashing) {
      let real = 0;
      for (let bit = 0; bit < 16; bit++) if ((mask >>> bit) & 1 && map.logicalCandidate(dest, bit)) real |= 1 << bit;
      return real === 0 ? 0 : 1 << nthBit(real, vector % bitCount(real));
    }`,
  },
  {
    name: '11 lowest priority counts from the high end',
    file: ROUTER,
    find: 'if (this.vectorHashing) return 1 << nthBit(mask, vector % bitCount(mask));',
    replace: 'if (this.vectorHashing) return 1 << nthBit(mask, bitCount(mask) - 1 - (vector % bitCount(mask)));',
  },
  {
    name: '11 bits beyond the highest APIC id count',
    file: MAP,
    find: 'return dest & (0xffff >> (16 - Math.min(this.maxApicId - first + 1, 16)));',
    replace: 'return dest & 0xffff;',
  },
  {
    name: '12 software-disabled APICs take part in the election',
    file: ROUTER,
    find: 'else if (lapic.swEnabled) contenders.push(lapic);',
    replace: 'else contenders.push(lapic);',
  },
  {
    name: '12 lowest priority to physical 0xff stays an election',
    file: ROUTER,
    find: 'const low = isLowestBroadcast(icrLow, dest) ? icrLow & ~ICR_MODE : icrLow;',
    replace: 'const low = icrLow;',
  },
  {
    name: '14 a software-disabled APIC takes Fixed',
    file: LAPIC,
    find: 'if (this.swEnabled !== true || this.hwEnabled !== true) return 0;\n    reach(',
    replace: 'if (this.hwEnabled !== true) return 0;\n    reach(',
  },
  {
    name: '14 a software-disabled APIC takes no NMI',
    file: LAPIC,
    find: 'this.nmiQueued++;',
    replace: 'if (!this.swEnabled) return 0;\n        this.nmiQueued++;',
  },
  {
    name: '14 a globally disabled APIC hears broadcasts',
    file: ROUTER,
    find: 'if (!lapic.hwEnabled || !this.isMeant(',
    replace: 'if (!this.isMeant(',
  },
  {
    name: '15 the last mode seen decides the logical map of a mixed VM',
    file: MAP,
    find: "if (common !== 'sw-disabled' && common !== mode) return { mode: 'none', logical };",
    replace: '',
  },
  {
    name: '16 SELF_IPI ignores the bits above the vector',
    file: LAPIC,
    find: 'if (this.#era.selfIpiReservedGp && vector !== value >>> 0) return WRITE_FAULT;',
    replace: '',
  },
  {
    name: 'xAPIC ICR2 keeps all bits',
    file: LAPIC,
    find: 'r[ICR2] = value & 0xff000000;',
    replace: 'r[ICR2] = value;',
  },
  {
    name: '17 a call from CPL 3 is served',
    file: X86,
    find: 'if (state.cpl !== 0) return -KVM_EPERM;',
    replace: '',
  },
  {
    name: '17 the feature bit is never enforced',
    file: X86,
    find: 'this.allowedPvFeatures = enforced ? this.pvFeatures | 0 : -1;',
    replace: 'this.allowedPvFeatures = -1;',
  },
  {
    name: '17 a logical destination is no error',
    file: HYPERCALL,
    find: 'if ((icr & ICR_DESTINATION) !== 0) {',
    replace: 'if ((icr & ICR_SHORTHAND) !== 0) {',
  },
  {
    name: "17 the ICR's reserved bits are errors",
    file: HYPERCALL,
    find: 'if ((icr & ICR_DESTINATION) !== 0) {',
    replace: 'if ((icr & (ICR_DESTINATION | 0xfff32000)) !== 0) {',
  },
  {
    name: '18 a 32-bit caller has maps of 64',
    file: HYPERCALL,
    find: 'const second = (min + (long ? 64 : 32)) >>> 0;',
    replace: 'const second = (min + 64) >>> 0;',
  },
  {
    name: '18 the result of a 32-bit call is sign-extended',
    file: X86,
    find: 'ret < 0 && state.is64bit ? -1 : 0',
    replace: 'ret < 0 ? -1 : 0',
  },
  {
    name: '19 the second map does not wrap at 2^32',
    file: HYPERCALL,
    find: 'const second = (min + (long ? 64 : 32)) >>> 0;',
    replace: 'const second = min + (long ? 64 : 32);',
  },
  {
    name: '20 the result counts targets, accepted or not',
    file: HYPERCALL,
    find: 'count += kvm.deliver(target, icr);',
    replace: 'count += Math.max(1, kvm.deliver(target, icr));',
  },
  {
    name: '21 Lowest priority stops at the first target',
    file: HYPERCALL,
    find: 'count += kvm.deliver(target, icr);',
    replace: 'if ((icr & 0x700) !== 0x100 || count === 0) count += kvm.deliver(target, icr);',
  },
  {
    name: '22 two vCPUs with one APIC id: the first one keeps it',
    file: MAP,
    find: 'if (phys[lapic.id] !== null) return null;\n        phys[lapic.id] = lapic;',
    replace: 'phys[lapic.id] ??= lapic;',
  },
];
