# With IPI virtualization nobody leaves the guest: the processor looks the target up and posts the interrupt.
#
# kvm: >=6.0   vcpus: 2   mode: long64   aps: run   apicv: ipiv
# expect: memory[received].u64 = 10
# expect: vcpu[*].exits = 1
# expect: vcpu[*].exits.hlt = 1
# expect: fastpath = 0
# expect: events.kvm_apic_ipi = 0
# expect: events.kvm_apic_accept_irq = 0
# expect: vcpu[0].icr = 0x100000040
# expect: end = halted
.include "lockstep.inc"

    .code64
_start:
    lockstep
