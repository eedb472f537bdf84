# The busy bit (12) is no obstacle: KVM drops it, also from what the ICR reads back.
#
# kvm: >=5.6-rc1   vcpus: 4   mode: long64   vendor: both
# expect: vcpu[1].irr = {0xf0}
# expect: fastpath = 1
# expect: rax = 0xf0
# expect: rdx = 1
.include "pvipi.inc"

    .code64
_start:
    write_icr ICR_BUSY|0xf0, 1
    xor eax, eax
    xor edx, edx
    rdmsr                           # ECX is still the ICR
    hlt
