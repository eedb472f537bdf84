# KVM_HC_SEND_IPI to APIC id 1, 2,000 times, and the sum of what it returns: one target each time. BITS 64 only: in 32-bit code the
# arguments are other ones.
.include "lap.inc"
lap:
    mov ebp, 2000
    mov ebx, 2
    xor ecx, ecx
    xor edx, edx
    mov esi, 0xf0
    xor edi, edi
1:
    mov eax, KVM_HC_SEND_IPI
trap:
    vmcall
    add edi, eax
    dec ebp
    jnz 1b
    mov eax, edi
    ret
