# A synchronous call to the own CPU: no IPI, no exit, whatever the local APIC could do.
#
# That is why PV IPI does not change the Self-IPI row of the published tables.
#
# kvm: >=4.19   vcpus: 8   mode: long64   aps: run   vendor: both
# expect: memory[calls].u64 = 3
# expect: memory[ipis].u64 = 0
# expect: memory[forward].u64 = 3
# expect: exits.wrmsr = 0
# expect: exits.external_interrupt = 0
# expect: vcpu[0].steps > 0
# expect: end = halted
.include "ipi-bench.inc"
    .equ MODE, SELF_IPI
    .equ APIC, X2APIC_PHYSICAL
    .equ CPUS, 8
.include "call-function.inc"
