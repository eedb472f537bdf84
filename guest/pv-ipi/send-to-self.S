# The sender may be in its own set.
#
# The interrupt waits in the IRR: the sender runs with interrupts disabled.
#
# kvm: >=4.19   vcpus: 2   mode: long64
# expect: rax = 1
# expect: vcpu[0].irr = {0x40}
# expect: vcpu[0].isr = {}
# expect: vcpu[1].irr = {}
# expect: preserved rbx, rcx, rdx, rsi, rdi, rbp, rsp, r8-r15, rflags
.include "pvipi.inc"

    .code64
_start:
    send_ipi 1, 0, 0, ICR_FIXED|0x40
    hlt
