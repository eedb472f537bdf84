# Broadcast in x2APIC physical mode: one ICR write for each target, and each an exit.
#
# kvm: >=4.19   vcpus: 8   mode: long64   aps: run   vendor: both
# expect: memory[calls].u64 = 21
# expect: memory[ipis].u64 = 21
# expect: vcpu[0].exits.wrmsr = 21
# expect: vcpu[1..7].exits.external_interrupt = 3
# expect: vcpu[1..7].exits.wrmsr = 3
# expect: exits.interrupt_window = 0
# expect[kvm>=5.6-rc1]: fastpath = 21
# expect[kvm<5.6-rc1]: fastpath = 0
# expect: end = halted
.include "ipi-bench.inc"
    .equ MODE, BROADCAST
    .equ APIC, X2APIC_PHYSICAL
    .equ SEND, VANILLA
    .equ CPUS, 8
.include "call-function.inc"
