# Shorthand "self": on the fastpath as merged, off it from v5.6 final on, and on it again since v6.18.
#
# kvm: >=5.6-rc1   vcpus: 2   mode: long64   vendor: both
# expect: vcpu[0].irr = {0xf0}
# expect: vcpu[1].irr = {}
# expect[kvm<5.6]: fastpath = 1
# expect[kvm>=5.6 <6.18]: fastpath = 0
# expect[kvm>=5.6 <6.18]: fastpath.reason = "shorthand"
# expect[kvm>=6.18]: fastpath = 1
.include "pvipi.inc"

    .code64
_start:
    write_icr ICR_SELF|0xf0
    hlt
