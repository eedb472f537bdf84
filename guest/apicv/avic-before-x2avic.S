# Before v6.0 AVIC knows the xAPIC only: a guest in x2APIC mode has no help from it.
#
# kvm: >=4.19 <6.0   vcpus: 2   mode: long64   aps: run   vendor: amd   avic: yes
# expect: memory[received].u64 = 10
# expect: vcpu[0].exits.wrmsr = 10
# expect: vcpu[1].exits.external_interrupt = 10
# expect: vcpu[1].exits.wrmsr = 10
# expect: end = halted
.include "lockstep.inc"

    .code64
_start:
    lockstep
