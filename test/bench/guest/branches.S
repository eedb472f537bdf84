# Branches that depend on pseudo-random numbers.
.include "lap.inc"
lap:
    mov ecx, 20000
    mov eax, 1
    xor ebx, ebx
1:
    imul eax, eax, 1103515245
    add eax, 12345
    test eax, 0x10000
    jz 2f
    add ebx, 3
    jmp 3f
2:
    dec ebx
3:
    test eax, 0x400000
    jnz 4f
    xor ebx, eax
4:
    cmp eax, ebx
    jl 5f
    add ebx, eax
    js 5f
    inc ebx
5:
    dec ecx
    jnz 1b
    mov eax, ebx
    ret
