# The cheapest hypercall: number 1 does nothing and returns 0.
#
# What is left is the price of leaving the guest and coming back, which is why benchmarks use it.
#
# kvm: >=4.19   mode: long64
# expect: rax = 0
# expect: preserved rbx, rcx, rdx, rsi, rdi, rbp, rsp, r8-r15, rflags
# expect: exits.vmcall = 1
# expect: counters.hypercalls = 1
.include "constants.inc"

    .code64
_start:
    mov eax, KVM_HC_VAPIC_POLL_IRQ
    vmcall
    hlt
