# The micro-benchmark's first mode: rounds in which nothing happens, the bookkeeping that the others contain, too.
#
# kvm: >=4.19   vcpus: 8   mode: long64   aps: run   vendor: both
# expect: memory[calls].u64 = 0
# expect: exits.wrmsr = 0
# expect: exits.external_interrupt = 0
# expect: vcpu[*].exits.hlt = 1
# expect: end = halted
.include "ipi-bench.inc"
    .equ MODE, DRY_RUN
    .equ APIC, X2APIC_PHYSICAL
    .equ CPUS, 8
.include "call-function.inc"
