# The last accepted message of a vector decides its trigger mode: an edge IPI clears the TMR bit.
#
# kvm: >=4.19   vcpus: 2   mode: long64
# expect: vcpu[1].irr = {0xc1, 0xc2}
# expect: vcpu[1].tmr = {0xc2}
.include "pvipi.inc"

    .code64
_start:
    send_ipi 0b10, 0, 0, ICR_LEVEL|ICR_ASSERT|0xc1
    send_ipi 0b10, 0, 0, ICR_LEVEL|ICR_ASSERT|0xc2
    send_ipi 0b10, 0, 0, ICR_FIXED|0xc1
    hlt
