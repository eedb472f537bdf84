# 79 calls with KVM_HC_SEND_IPI: one exit, whatever the mode of the local APICs.
#
# 79 APIC IDs fit the 128 bits of one hypercall. What the receivers do costs them the same as before.
#
# kvm: >=4.19   vcpus: 80   mode: long64   aps: run
# expect: memory[calls].u64 = 158
# expect: memory[ipis].u64 = 158
# expect: vcpu[0].exits.vmcall = 2
# expect: vcpu[0].exits.wrmsr = 0
# expect: vcpu[1..79].exits.external_interrupt = 2
# expect: vcpu[1..79].exits.wrmsr = 2
# expect: counters.hypercalls = 2
# expect: fastpath = 0
# expect: end = halted
.include "ipi-bench.inc"
    .equ MODE, BROADCAST
    .equ APIC, X2APIC_PHYSICAL
    .equ SEND, PV_IPI
    .equ ROUNDS, 2
.include "call-function.inc"
