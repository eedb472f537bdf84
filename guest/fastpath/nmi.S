# Any delivery mode but Fixed misses the fastpath until v6.18. Here: an NMI.
#
# kvm: >=5.6-rc1   vcpus: 2   mode: long64   aps: wait-for-sipi   vendor: both
# expect: vcpu[1].nmi = 1
# expect: vcpu[1].irr = {}
# expect[kvm<6.18]: fastpath = 0
# expect[kvm<6.18]: fastpath.reason = "delivery mode is not Fixed"
# expect[kvm>=6.18]: fastpath = 1
.include "pvipi.inc"

    .code64
_start:
    write_icr ICR_NMI, 1
    hlt
