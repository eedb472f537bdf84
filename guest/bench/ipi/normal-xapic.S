# The same call in xAPIC mode: wait until ICR is idle, ICR2, ICR, three accesses to memory that all leave the guest.
#
# kvm: >=4.19   vcpus: 8   mode: long64   apic: xapic   aps: run   vendor: both
# expect: memory[calls].u64 = 3
# expect: memory[forward].u64 = 3
# expect: vcpu[0].exits.nested_page_fault = 10
# expect: vcpu[1].exits.nested_page_fault = 4
# expect: vcpu[1].exits.external_interrupt = 3
# expect: exits.wrmsr = 0
# expect: fastpath = 0
# expect: end = halted
.include "ipi-bench.inc"
    .equ MODE, NORMAL_IPI
    .equ APIC, XAPIC_PHYSICAL
    .equ CPUS, 8
.include "call-function.inc"
