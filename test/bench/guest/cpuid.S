# CPUID leaf 0, 2,000 times.
.include "lap.inc"
lap:
    mov ebp, 2000
1:
    xor eax, eax
    xor ecx, ecx
trap:
    cpuid
    dec ebp
    jnz 1b
    mov eax, 2000
    ret
