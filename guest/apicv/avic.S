# With AMD's x2AVIC nobody leaves the guest: IRR is set, and a doorbell tells the receiver.
#
# kvm: >=6.0   vcpus: 2   mode: long64   aps: run   vendor: amd   avic: yes
# expect: memory[received].u64 = 10
# expect: vcpu[*].exits = 1
# expect: vcpu[*].exits.hlt = 1
# expect: fastpath = 0
# expect: events.kvm_apic_ipi = 0
# expect: end = halted
.include "lockstep.inc"

    .code64
_start:
    lockstep
