# One call to one other CPU: one ICR write, and since v5.6 KVM's fastpath takes it.
#
# Linux uses the hypercall for several targets only: this row is the same with and without PV IPI.
#
# kvm: >=4.19   vcpus: 8   mode: long64   aps: run   vendor: both
# expect: memory[calls].u64 = 3
# expect: memory[ipis].u64 = 3
# expect: memory[forward].u64 = 3
# expect: vcpu[0].exits.wrmsr = 3
# expect: vcpu[1].exits.external_interrupt = 3
# expect: vcpu[1].exits.wrmsr = 3
# expect: vcpu[2..7].exits.external_interrupt = 0
# expect[kvm<5.6-rc1]: fastpath = 0
# expect[kvm>=5.6-rc1]: fastpath = 3
# expect: end = halted
.include "ipi-bench.inc"
    .equ MODE, NORMAL_IPI
    .equ APIC, X2APIC_PHYSICAL
    .equ SEND, PV_IPI
    .equ CPUS, 8
.include "call-function.inc"
