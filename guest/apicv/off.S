# What an IPI costs without hardware help: an exit to send it, one to receive it, one to end it.
#
# The receiver runs with interrupts on. The sender's ICR write leaves the guest; KVM kicks the receiver out to inject the
# interrupt; the EOI is an MSR write like any other. See the same ten interrupts in on.S, ipiv.S and avic.S.
#
# kvm: >=4.19   vcpus: 2   mode: long64   aps: run   vendor: both
# expect: memory[received].u64 = 10
# expect: vcpu[0].exits.wrmsr = 10
# expect: vcpu[1].exits.external_interrupt = 10
# expect: vcpu[1].exits.wrmsr = 10
# expect: vcpu[*].exits.rdmsr = 1
# expect: vcpu[1].counters.irq_injections = 10
# expect: end = halted
.include "lockstep.inc"

    .code64
_start:
    lockstep
