# Destination 0xffffffff is a broadcast, sender included; the fastpath refuses it since v5.7.
#
# kvm: >=5.6-rc1   vcpus: 4   mode: long64   vendor: both
# expect: vcpu[*].irr = {0xf0}
# expect[kvm<5.7]: fastpath = 1
# expect[kvm>=5.7]: fastpath = 0
# expect[kvm>=5.7]: fastpath.reason = "broadcast"
.include "pvipi.inc"

    .code64
_start:
    write_icr ICR_FIXED|0xf0, X2APIC_BROADCAST
    hlt
