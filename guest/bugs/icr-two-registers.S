# One write and one read of the x2APIC's ICR were two register accesses each to KVM.
#
# The 64-bit register was kept, and traced, as the xAPIC's ICR and ICR2. Since v5.18 (a57a31684d7b) it is one:
# the write is traced once, after sending; a read is not traced at all. The guest reads the same value. A
# logical destination keeps the write off the fastpath before v6.18.
#
# kvm: >=4.19   vcpus: 2   mode: long64   vendor: both
# expect[kvm<5.18-rc1]: events.kvm_apic = 4
# expect[kvm>=5.18-rc1]: events.kvm_apic = 1
# expect: rax = 0x840
# expect: rdx = 2
# expect: vcpu[1].irr = {0x40}
.include "pvipi.inc"

    .code64
_start:
    write_icr ICR_LOGICAL|0x40, 2
    xor eax, eax
    xor edx, edx
    rdmsr                           # ECX is still the ICR
    hlt
