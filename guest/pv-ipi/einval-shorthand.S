# Each destination shorthand is refused with -EINVAL and nothing is sent.
#
# kvm: >=4.19   vcpus: 4   mode: long64
# expect: reports = [0xffffffea, 0xffffffea, 0xffffffea]
# expect: vcpu[*].irr = {}
# expect: exits.vmcall = 3
.include "pvipi.inc"
.include "report.inc"

    .code64
_start:
    send_ipi 0b1111, 0, 0, ICR_SELF|0xf0
    report eax
    send_ipi 0b1111, 0, 0, ICR_ALL|0xf0
    report eax
    send_ipi 0b1111, 0, 0, ICR_ALL_BUT_SELF|0xf0
    report eax
    hlt
