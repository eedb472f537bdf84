# KVM_HC_SEND_IPI to APIC id 1, 2,000 times. BITS 64 only: in 32-bit code the arguments are other ones.
.include "lap.inc"
lap:
    mov ebp, 2000
    mov ebx, 2
    xor ecx, ecx
    xor edx, edx
    mov esi, 0xf0
1:
    mov eax, KVM_HC_SEND_IPI
trap:
    vmcall
    dec ebp
    jnz 1b
    mov eax, 2000
    ret
