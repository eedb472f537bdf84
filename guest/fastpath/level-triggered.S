# Trigger mode and level do not matter to the fastpath.
#
# kvm: >=5.6-rc1   vcpus: 4   mode: long64   vendor: both
# expect: vcpu[1].irr = {0xc1}
# expect: vcpu[1].tmr = {0xc1}
# expect: vcpu[2].irr = {}
# expect: fastpath = 2
.include "pvipi.inc"

    .code64
_start:
    write_icr ICR_LEVEL|ICR_ASSERT|0xc1, 1
    write_icr ICR_LEVEL|0xc1, 2         # de-assert: dropped at the target
    hlt
