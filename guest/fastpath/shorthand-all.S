# Shorthand "all including self": only the fastpath as merged (v5.6-rc1) took it.
#
# With many processors the sender kept host interrupts disabled for the whole loop over them, so v5.6 narrowed
# the fastpath to single targets (e1be9ac8e601).
#
# kvm: >=5.6-rc1   vcpus: 4   mode: long64   vendor: both
# expect: vcpu[*].irr = {0xf0}
# expect[kvm<5.6]: fastpath = 1
# expect[kvm>=5.6]: fastpath = 0
.include "pvipi.inc"

    .code64
_start:
    write_icr ICR_ALL|0xf0
    hlt
