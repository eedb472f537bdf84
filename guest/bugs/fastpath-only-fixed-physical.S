# An NMI and an IPI to a logical destination had to take the slow path, though one processor is all they reach.
#
# Since v6.18 (777414340085, aeeb4c7fff52) the fastpath takes whatever the table of APIC IDs can deliver quickly.
#
# kvm: >=5.6   vcpus: 3   mode: long64   aps: wait-for-sipi   vendor: both
# expect[kvm<6.18-rc1]: fastpath = 0
# expect[kvm<6.18-rc1]: fastpath.reason = "logical destination"
# expect[kvm>=6.18-rc1]: fastpath = 2
# expect: vcpu[1].nmi = 1
# expect: vcpu[2].irr = {0x40}
.include "pvipi.inc"

    .code64
_start:
    write_icr ICR_NMI, 1
    write_icr ICR_LOGICAL|0x40, 1 << 2
    hlt
