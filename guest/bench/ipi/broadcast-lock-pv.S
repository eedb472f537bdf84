# The same lock behind one hypercall for all.
#
# kvm: >=4.19   vcpus: 8   mode: long64   aps: run
# expect: memory[calls].u64 = 21
# expect: memory[lock_word].u32 = 0
# expect: vcpu[0].exits.vmcall = 3
# expect: vcpu[1..7].exits.external_interrupt = 3
# expect: vcpu[1..7].exits.wrmsr = 3
# expect: end = halted
.include "ipi-bench.inc"
    .equ MODE, BROADCAST_LOCK
    .equ APIC, X2APIC_CLUSTER
    .equ SEND, PV_IPI
    .equ CPUS, 8
.include "call-function.inc"
