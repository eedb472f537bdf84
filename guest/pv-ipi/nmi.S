# Delivery mode NMI by hypercall.
#
# The targets wait for a start-up IPI, so the NMI stays pending. NMIs need no enabled local APIC and
# ignore the vector.
#
# kvm: >=4.19   vcpus: 4   mode: long64   aps: wait-for-sipi
# expect: rax = 2
# expect: vcpu[1..2].nmi = 1
# expect: vcpu[3].nmi = 0
# expect: vcpu[1..3].irr = {}
.include "pvipi.inc"

    .code64
_start:
    send_ipi 0b0110, 0, 0, ICR_NMI|0x33
    hlt
