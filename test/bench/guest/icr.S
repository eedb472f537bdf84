# A fixed interrupt to APIC id 1 by the x2APIC's command register, 2,000 times.
.include "lap.inc"
lap:
    mov ebp, 2000
    mov ecx, X2APIC_ICR
    mov edx, 1
    mov eax, 0xf0
1:
trap:
    wrmsr
    dec ebp
    jnz 1b
    mov eax, 2000
    ret
