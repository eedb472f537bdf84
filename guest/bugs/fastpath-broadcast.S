# The broadcast destination looked like a single target to the ICR fastpath of v5.6.
#
# Fixed, physical, no shorthand: all conditions hold, and yet every processor is meant. v5.7 refuses destination
# 0xffffffff.
#
# kvm: >=5.6   vcpus: 4   mode: long64   vendor: both
# expect[kvm<5.7-rc1]: fastpath = 1
# expect[kvm>=5.7-rc1]: fastpath = 0
# expect[kvm>=5.7-rc1]: fastpath.reason = "broadcast"
# expect: vcpu[*].irr = {0x40}
.include "pvipi.inc"

    .code64
_start:
    write_icr 0x40, X2APIC_BROADCAST
    hlt
