# The shorthand in xAPIC mode: no ICR2, but ICR is polled first.
#
# kvm: >=4.19   vcpus: 8   mode: long64   apic: xapic   aps: run   vendor: both
# expect: memory[calls].u64 = 21
# expect: vcpu[0].exits.nested_page_fault = 7
# expect: vcpu[1..7].exits.external_interrupt = 3
# expect: vcpu[1..7].exits.nested_page_fault = 4
# expect: end = halted
.include "ipi-bench.inc"
    .equ MODE, BROADCAST
    .equ APIC, XAPIC_PHYSICAL
    .equ SEND, SHORTHAND
    .equ CPUS, 8
.include "call-function.inc"
