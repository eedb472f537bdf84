# The same call in x2APIC cluster mode: the destination is logical, and the fastpath takes that since v6.18 only.
#
# kvm: >=4.19   vcpus: 8   mode: long64   aps: run   vendor: both
# expect: memory[calls].u64 = 3
# expect: memory[forward].u64 = 3
# expect: vcpu[0].exits.wrmsr = 3
# expect: vcpu[1].exits.external_interrupt = 3
# expect: vcpu[1].exits.wrmsr = 3
# expect[kvm>=5.6-rc1 <6.18]: fastpath = 0
# expect[kvm>=6.18]: fastpath = 3
# expect: end = halted
.include "ipi-bench.inc"
    .equ MODE, NORMAL_IPI
    .equ APIC, X2APIC_CLUSTER
    .equ CPUS, 8
.include "call-function.inc"
