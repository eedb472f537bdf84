# A shorthand makes the destination field and the destination mode meaningless.
#
# kvm: >=4.19   vcpus: 3   mode: long64   vendor: both
# expect: vcpu[0].irr = {}
# expect: vcpu[1..2].irr = {0x44}
.include "pvipi.inc"

    .code64
_start:
    write_icr ICR_ALL_BUT_SELF|ICR_LOGICAL|0x44, 0x12345678
    hlt
