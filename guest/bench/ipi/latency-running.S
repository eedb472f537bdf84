# One IPI to a CPU that runs: from the sender's RDTSC to the receiver's, what the WRMSR fastpath was made for.
#
# The receiver leaves the guest because the host interrupts it, and again for its EOI.
#
# kvm: >=4.19   vcpus: 2   mode: long64   aps: run   vendor: both
# expect: memory[calls].u64 = 10
# expect: memory[forward].u64 = 10
# expect: vcpu[0].exits.wrmsr = 10
# expect: vcpu[1].exits.external_interrupt = 10
# expect: vcpu[1].exits.wrmsr = 10
# expect: vcpu[1].counters.halt_wakeup = 0
# expect[kvm<5.6-rc1]: fastpath = 0
# expect[kvm>=5.6-rc1]: fastpath = 10
# expect: end = halted
.include "ipi-bench.inc"
    .equ MODE, BARE_IPI
    .equ APIC, X2APIC_PHYSICAL
    .equ CPUS, 2
    .equ ROUNDS, 10
.include "call-function.inc"
