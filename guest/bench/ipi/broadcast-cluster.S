# 79 calls in x2APIC cluster mode: one ICR write for each of the five clusters of 16.
#
# kvm: >=4.19   vcpus: 80   mode: long64   aps: run
# expect: memory[calls].u64 = 158
# expect: memory[ipis].u64 = 158
# expect: vcpu[0].exits.wrmsr = 10
# expect: vcpu[1..79].exits.external_interrupt = 2
# expect: vcpu[1..79].exits.wrmsr = 2
# expect: exits.interrupt_window = 0
# expect[kvm>=6.18]: fastpath = 10
# expect[kvm<6.18]: fastpath = 0
# expect: end = halted
.include "ipi-bench.inc"
    .equ MODE, BROADCAST
    .equ APIC, X2APIC_CLUSTER
    .equ SEND, VANILLA
    .equ ROUNDS, 2
.include "call-function.inc"
