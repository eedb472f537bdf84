# An IPI sent on the fastpath still went through the whole end of a VM exit.
#
# v5.6 and v5.7 only skipped the exit handler, later versions said EXIT_HANDLED. Since v6.12 (0dd45f2cd8cc,
# "KVM: x86: Re-enter guest if WRMSR(X2APIC_ICR) fastpath is successful") the processor goes straight back into
# its guest.
#
# kvm: >=5.6   vcpus: 2   mode: long64   vendor: both
# expect[kvm<5.8-rc1]: fastpath.completion = SKIP_EMUL_INS
# expect[kvm>=5.8-rc1 <6.12-rc1]: fastpath.completion = EXIT_HANDLED
# expect[kvm>=6.12-rc1]: fastpath.completion = REENTER_GUEST
# expect: fastpath = 1
# expect: vcpu[1].irr = {0x40}
.include "pvipi.inc"

    .code64
_start:
    write_icr 0x40, 1
    hlt
