# Delivery mode 7 (ExtINT) has no meaning between processors: nothing happens, nobody counts.
#
# kvm: >=4.19   vcpus: 4   mode: long64
# expect: rax = 0
# expect: vcpu[*].irr = {}
.include "pvipi.inc"

    .code64
_start:
    send_ipi 0b1111, 0, 0, ICR_EXTINT|0xf0
    hlt
