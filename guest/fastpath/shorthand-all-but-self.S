# Shorthand "all excluding self": only the fastpath as merged (v5.6-rc1) took it.
#
# kvm: >=5.6-rc1   vcpus: 4   mode: long64   vendor: both
# expect: vcpu[0].irr = {}
# expect: vcpu[1..3].irr = {0xf0}
# expect[kvm<5.6]: fastpath = 1
# expect[kvm>=5.6]: fastpath = 0
# expect[kvm>=5.6 <6.18]: fastpath.reason = "shorthand"
.include "pvipi.inc"

    .code64
_start:
    write_icr ICR_ALL_BUT_SELF|0xf0
    hlt
