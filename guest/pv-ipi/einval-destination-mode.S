# Logical destination mode is refused with -EINVAL and nothing is sent.
#
# The hypercall names its destinations by physical APIC ID only.
#
# kvm: >=4.19   vcpus: 4   mode: long64
# expect: rax = -22
# expect: vcpu[*].irr = {}
# expect: preserved rbx, rcx, rdx, rsi, rdi, rbp, rsp, r8-r15, rflags
# expect: counters.hypercalls = 1
.include "pvipi.inc"

    .code64
_start:
    send_ipi 0b1111, 0, 0, ICR_LOGICAL|0xf0
    hlt
