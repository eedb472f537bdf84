# Lowest priority by hypercall is no election: every processor of the set gets the interrupt.
#
# Compare icr/lowest-priority.S, where one of the set gets it.
#
# kvm: >=4.19   vcpus: 4   mode: long64
# expect: rax = 3
# expect: vcpu[1..3].irr = {0x71}
.include "pvipi.inc"

    .code64
_start:
    send_ipi 0b1110, 0, 0, ICR_LOWEST_PRIORITY|0x71
    hlt
