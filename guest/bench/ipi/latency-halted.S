# One IPI to a CPU that sleeps in HLT: the host wakes its thread up, and no external interrupt makes it leave the guest.
#
# The published figures are 4,238 cycles without the fastpath and 3,543 with it.
#
# kvm: >=4.19   vcpus: 2   mode: long64   aps: run   vendor: both
# expect: memory[calls].u64 = 10
# expect: memory[forward].u64 = 10
# expect: vcpu[0].exits.wrmsr = 10
# expect: vcpu[1].exits.external_interrupt = 0
# expect: vcpu[1].exits.wrmsr = 10
# expect: vcpu[1].counters.halt_wakeup = 10
# expect[kvm<5.6-rc1]: fastpath = 0
# expect[kvm>=5.6-rc1]: fastpath = 10
# expect: end = halted
.include "ipi-bench.inc"
    .equ MODE, BARE_IPI
    .equ APIC, X2APIC_PHYSICAL
    .equ CPUS, 2
    .equ ROUNDS, 10
    .equ IDLE, HALT
.include "call-function.inc"
