# Level-triggered: asserted it is delivered and marked in the TMR, de-asserted it is dropped.
#
# kvm: >=4.19   vcpus: 4   mode: long64
# expect: reports = [3, 0]
# expect: vcpu[1..3].irr = {0xc1}
# expect: vcpu[1..3].tmr = {0xc1}
.include "pvipi.inc"
.include "report.inc"

    .code64
_start:
    send_ipi 0b1110, 0, 0, ICR_LEVEL|ICR_ASSERT|0xc1
    report eax
    send_ipi 0b1110, 0, 0, ICR_LEVEL|0xc2
    report eax
    hlt
