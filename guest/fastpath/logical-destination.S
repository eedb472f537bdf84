# A logical destination misses the fastpath until v6.18.
#
# Destination 3 in logical mode is cluster 0, members 0 and 1: processors 0 and 1 receive, on either path.
#
# kvm: >=5.6-rc1   vcpus: 4   mode: long64   vendor: both
# expect: vcpu[0..1].irr = {0xf0}
# expect: vcpu[2..3].irr = {}
# expect[kvm<6.18]: fastpath = 0
# expect[kvm<6.18]: fastpath.reason = "logical destination"
# expect[kvm>=6.18]: fastpath = 1
.include "pvipi.inc"

    .code64
_start:
    write_icr ICR_LOGICAL|0xf0, 3
    hlt
