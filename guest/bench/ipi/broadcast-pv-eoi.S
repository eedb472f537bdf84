# Broadcast as a Linux guest of KVM does it: with the hypercall, and with interrupts that end without an exit.
#
# What is left is one exit at the sender and one at each receiver.
#
# kvm: >=4.19   vcpus: 8   mode: long64   aps: run
# expect: memory[calls].u64 = 21
# expect: vcpu[0].exits.vmcall = 3
# expect: vcpu[1..7].exits.external_interrupt = 3
# expect: vcpu[1..7].exits.wrmsr = 1
# expect: events.kvm_pv_eoi = 21
# expect: end = halted
.include "ipi-bench.inc"
    .equ MODE, BROADCAST
    .equ APIC, X2APIC_PHYSICAL
    .equ SEND, PV_IPI
    .equ EOI, PV_EOI
    .equ CPUS, 8
.include "call-function.inc"
