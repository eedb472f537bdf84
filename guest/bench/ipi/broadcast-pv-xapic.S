# Broadcast on AMD in xAPIC mode, where the hypercall saves most: broadcast-xapic.S has three exits for each target.
#
# kvm: >=4.19   vcpus: 8   mode: long64   apic: xapic   aps: run   vendor: amd
# expect: memory[calls].u64 = 21
# expect: vcpu[0].exits.vmmcall = 3
# expect: vcpu[0].exits.npf = 1
# expect: vcpu[1..7].exits.interrupt = 3
# expect: vcpu[1..7].exits.npf = 4
# expect: end = halted
.include "ipi-bench.inc"
    .equ AMD, 1
    .equ MODE, BROADCAST
    .equ APIC, XAPIC_PHYSICAL
    .equ SEND, PV_IPI
    .equ CPUS, 8
.include "call-function.inc"
