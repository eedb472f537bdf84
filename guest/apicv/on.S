# With Intel's APICv only the sender leaves the guest: interrupts are posted, EOIs and reads are the processor's.
#
# kvm: >=4.19   vcpus: 2   mode: long64   aps: run   apicv: on
# expect: memory[received].u64 = 10
# expect: vcpu[0].exits.wrmsr = 10
# expect: vcpu[1].exits.external_interrupt = 0
# expect: exits.rdmsr = 0
# expect: vcpu[0].exits = 11
# expect: vcpu[1].exits = 1
# expect: vcpu[*].exits.hlt = 1
# expect: counters.irq_injections = 0
# expect: events.kvm_eoi = 0
# expect: events.kvm_apic_accept_irq = 10
# expect[kvm>=5.17]: events.kvm_apicv_accept_irq = 10
# expect[kvm<5.17]: events.kvm_apicv_accept_irq = 0
# expect[kvm>=5.6-rc1]: fastpath = 10
# expect: vcpu[*].irr = {}
# expect: vcpu[*].isr = {}
# expect: end = halted
.include "lockstep.inc"

    .code64
_start:
    lockstep
