# MSR 0x83f sends to oneself: the value is the vector.
#
# Until v5.17 KVM made an ICR write with shorthand "self" of it, which a guest could see in the ICR afterwards.
#
# kvm: >=4.19   mode: long64   vendor: both
# expect: vcpu[0].irr = {0x77}
# expect[kvm<5.18]: rax = 0x40077
# expect[kvm>=5.18]: rax = 0
.include "pvipi.inc"

    .code64
_start:
    write_x2apic X2APIC_SELF_IPI, 0x77
    mov ecx, X2APIC_ICR
    rdmsr
    hlt
