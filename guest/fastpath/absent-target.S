# A destination nobody has: the fastpath takes it, and nothing happens.
#
# An ICR write never reports failure.
#
# kvm: >=5.6-rc1   vcpus: 4   mode: long64   vendor: both
# expect: vcpu[*].irr = {}
# expect: fastpath = 1
# expect: vcpu[0].icr = 0x9000000f0
.include "pvipi.inc"

    .code64
_start:
    write_icr ICR_FIXED|0xf0, 9
    hlt
