# APIC IDs 128 apart: each needs a hypercall of its own, and a cluster of its own, too.
#
# kvm: >=4.19   vcpus: 4   ids: 0,128,256,384   mode: long64   x2apic-api: 1   aps: run
# expect: memory[calls].u64 = 9
# expect: vcpu[0].exits.vmcall = 9
# expect: vcpu[1..3].exits.external_interrupt = 3
# expect: end = halted
.include "ipi-bench.inc"
    .equ MODE, BROADCAST
    .equ APIC, X2APIC_PHYSICAL
    .equ SEND, PV_IPI
    .equ CPUS, 4
    .equ ID_STRIDE, 128
.include "call-function.inc"
