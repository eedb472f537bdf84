# The called function takes one lock: 7 receivers wait for each other, in the guest. The exits are those of broadcast-physical.S.
#
# kvm: >=4.19   vcpus: 8   mode: long64   aps: run   vendor: both
# expect: memory[calls].u64 = 21
# expect: memory[lock_word].u32 = 0
# expect: vcpu[0].exits.wrmsr = 21
# expect: vcpu[1..7].exits.external_interrupt = 3
# expect: vcpu[1..7].exits.wrmsr = 3
# expect: end = halted
.include "ipi-bench.inc"
    .equ MODE, BROADCAST_LOCK
    .equ APIC, X2APIC_PHYSICAL
    .equ SEND, VANILLA
    .equ CPUS, 8
.include "call-function.inc"
