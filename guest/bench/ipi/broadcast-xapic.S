# Broadcast in xAPIC mode: for each target ICR is polled, ICR2 and ICR are written.
#
# kvm: >=4.19   vcpus: 8   mode: long64   apic: xapic   aps: run   vendor: both
# expect: memory[calls].u64 = 21
# expect: vcpu[0].exits.nested_page_fault = 64
# expect: vcpu[1..7].exits.nested_page_fault = 4
# expect: vcpu[1..7].exits.external_interrupt = 3
# expect: exits.wrmsr = 0
# expect: end = halted
.include "ipi-bench.inc"
    .equ MODE, BROADCAST
    .equ APIC, XAPIC_PHYSICAL
    .equ SEND, VANILLA
    .equ CPUS, 8
.include "call-function.inc"
