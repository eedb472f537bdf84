# Where KVM keeps the x2APIC's ICR shows under APICv: the processor reads one 64-bit register.
#
# Until v5.17 KVM kept two registers as in the xAPIC, and a guest with APICv read 0 for the destination (a57a31684d7b).
#
# kvm: >=4.19   mode: long64   vcpus: 2   apicv: on
# expect: exits.wrmsr = 1
# expect: exits.rdmsr = 0
# expect: rax = 0x40
# expect[kvm<5.18]: rdx = 0
# expect[kvm>=5.18]: rdx = 1
.include "pvipi.inc"

    .code64
_start:
    write_icr 0x40, 1
    mov ecx, X2APIC_ICR
    rdmsr
    hlt
