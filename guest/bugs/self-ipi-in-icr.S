# A self IPI left its traces in the interrupt command register, which it has nothing to do with.
#
# KVM carried out MSR 0x83f by writing the ICR: 0x40000 | vector in the low word, the old destination in the high one.
# Since v5.18 the ICR stays what the guest wrote last.
#
# kvm: >=4.19   vcpus: 2   mode: long64   vendor: both
# expect[kvm<5.18-rc1]: rax = 0x40041
# expect[kvm>=5.18-rc1]: rax = 0x40
# expect: rdx = 1
# expect: vcpu[0].irr = {0x41}
# expect: vcpu[1].irr = {0x40}
.include "pvipi.inc"

    .code64
_start:
    write_icr 0x40, 1
    write_x2apic X2APIC_SELF_IPI, 0x41
    mov ecx, X2APIC_ICR
    rdmsr
    hlt
