# Linux since v5.4: "all but self" needs no mask, so the hypercall has nothing left to save.
#
# v5.6-rc1 sent shorthands on its fastpath, with the host's interrupts off; see ../../bugs/fastpath-multicast.S.
#
# kvm: >=4.19   vcpus: 80   mode: long64   aps: run
# expect: memory[calls].u64 = 158
# expect: vcpu[0].exits.wrmsr = 2
# expect: vcpu[1..79].exits.external_interrupt = 2
# expect: vcpu[1..79].exits.wrmsr = 2
# expect[kvm=5.6-rc1]: fastpath = 2
# expect[kvm>=5.6]: fastpath = 0
# expect: end = halted
.include "ipi-bench.inc"
    .equ MODE, BROADCAST
    .equ APIC, X2APIC_PHYSICAL
    .equ SEND, SHORTHAND
    .equ ROUNDS, 2
.include "call-function.inc"
