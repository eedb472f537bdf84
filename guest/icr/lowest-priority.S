# Lowest priority to a logical destination: one of the set is chosen, by the vector.
#
# With vector hashing (the default) KVM takes member number (vector mod size of the set), so neighbouring vectors
# go to different processors.
#
# kvm: >=4.19   vcpus: 4   mode: long64   vendor: both
# expect: vcpu[0].irr = {}
# expect: vcpu[1].irr = {0x60, 0x63}
# expect: vcpu[2].irr = {0x61}
# expect: vcpu[3].irr = {0x62}
.include "pvipi.inc"

    .code64
_start:                             # cluster 0, members 1, 2 and 3
    write_icr ICR_LOGICAL|ICR_LOWEST_PRIORITY|0x60, 0b1110
    write_icr ICR_LOGICAL|ICR_LOWEST_PRIORITY|0x61, 0b1110
    write_icr ICR_LOGICAL|ICR_LOWEST_PRIORITY|0x62, 0b1110
    write_icr ICR_LOGICAL|ICR_LOWEST_PRIORITY|0x63, 0b1110
    hlt
