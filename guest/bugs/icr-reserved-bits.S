# Reserved bits in the x2APIC's ICR did not stop the interrupt.
#
# Bits 13, 16, 17 and 20 to 31 must be zero, and hardware raises #GP. KVM does so since v6.12
# (71bf395a276f, "KVM: x86: Enforce x2APIC's must-be-zero reserved ICR bits"), and sends nothing. Bit 12,
# the old busy bit, is still dropped without a word.
#
# kvm: >=4.19   vcpus: 2   mode: long64   vendor: both
# expect[kvm<6.12-rc1]: memory[caught_count].u64 = 0
# expect[kvm<6.12-rc1]: vcpu[1].irr = {0x40, 0x41}
# expect[kvm<6.12-rc1]: icr = 0x100100040
# expect[kvm>=6.12-rc1]: memory[caught_count].u64 = 1
# expect[kvm>=6.12-rc1]: vcpu[1].irr = {0x41}
# expect[kvm>=6.12-rc1]: icr = 0x100000041
.include "idt.inc"
.include "pvipi.inc"

    .code64
_start:
    catch GP
    load_idt
    write_icr ICR_BUSY|0x41, 1
    resume_at over
    write_icr 1 << 20|0x40, 1
over:
    hlt
