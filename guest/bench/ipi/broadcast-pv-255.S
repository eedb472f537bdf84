# 254 calls: APIC IDs 1 to 254 do not fit 128 bits, so it takes two hypercalls.
#
# kvm: 4.19, 7.1   vcpus: 255   mode: long64   aps: run
# expect: memory[calls].u64 = 254
# expect: vcpu[0].exits.vmcall = 2
# expect: vcpu[1..254].exits.external_interrupt = 1
# expect: vcpu[1..254].exits.wrmsr = 1
# expect: end = halted
.include "ipi-bench.inc"
    .equ MODE, BROADCAST
    .equ APIC, X2APIC_PHYSICAL
    .equ SEND, PV_IPI
    .equ CPUS, 255
    .equ ROUNDS, 1
.include "call-function.inc"
