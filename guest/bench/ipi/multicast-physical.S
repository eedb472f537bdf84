# 3 of 7 other CPUs are called, the others sleep and are left alone: no shorthand could do that.
#
# kvm: >=4.19   vcpus: 8   mode: long64   aps: run   vendor: both
# expect: memory[calls].u64 = 9
# expect: vcpu[0].exits.wrmsr = 9
# expect: vcpu[1..3].exits.external_interrupt = 3
# expect: vcpu[4..7].exits.external_interrupt = 0
# expect: vcpu[4..7].exits.wrmsr = 0
# expect: end = halted
.include "ipi-bench.inc"
    .equ MODE, BROADCAST
    .equ APIC, X2APIC_PHYSICAL
    .equ SEND, VANILLA
    .equ CPUS, 8
    .equ TARGETS, 3
.include "call-function.inc"
