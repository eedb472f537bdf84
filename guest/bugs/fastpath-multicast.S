# As merged, the ICR fastpath delivered to all processors with the host's interrupts off.
#
# It looked at delivery mode and destination mode only, not at the shorthand, and a loop over hundreds of
# processors is long. v5.6-rc8, e1be9ac8e601 "KVM: X86: Narrow down the IPI fastpath to single target IPI": the
# slow path, the same delivery.
#
# kvm: >=5.6-rc1   vcpus: 4   mode: long64   vendor: both
# expect[kvm<5.6-rc8]: fastpath = 1
# expect[kvm<5.6-rc8]: fastpath.completion = SKIP_EMUL_INS
# expect[kvm>=5.6-rc8]: fastpath = 0
# expect[kvm>=5.6-rc8]: fastpath.reason = "shorthand"
# expect: vcpu[0].irr = {}
# expect: vcpu[1..3].irr = {0x40}
.include "pvipi.inc"

    .code64
_start:
    write_icr ICR_ALL_BUT_SELF|0x40
    hlt
