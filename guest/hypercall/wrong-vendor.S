# The other vendor's instruction raises #UD, and KVM patches the guest: 0f 01 c1 becomes 0f 01 d9 or the reverse.
#
# The loop makes the call three times. The first costs two exits, the exception and the patched instruction,
# the others one each.
#
# kvm: >=4.19   mode: long64   vendor: both
# expect: rax = 0
# expect: rbp = 0
# expect: exits.hypercall = 6
# expect[vendor=intel]: exits.exception_nmi = 1
# expect[vendor=intel]: memory[amd_instruction].u32 = 0x90c1010f
# expect[vendor=intel]: memory[intel_instruction].u32 = 0x90c1010f
# expect[vendor=amd]: memory[amd_instruction].u32 = 0x90d9010f
# expect[vendor=amd]: memory[intel_instruction].u32 = 0x90d9010f
# expect: counters.hypercalls = 6
# expect: preserved rbx, rcx, rdx, rsi, rdi, rbp, rsp, r8-r15, rflags
.include "constants.inc"

    .code64
_start:
    mov ebp, 3
again:
    mov eax, KVM_HC_VAPIC_POLL_IRQ
amd_instruction:
    vmmcall
    nop
    mov eax, KVM_HC_VAPIC_POLL_IRQ
intel_instruction:
    vmcall
    nop
    dec ebp
    jnz again
    hlt
