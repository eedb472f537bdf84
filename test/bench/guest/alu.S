# Registers only: additions, logic, LEA, a loop.
.include "lap.inc"
lap:
    mov rCX, 25000
    xor eax, eax
    xor edx, edx
    xor edi, edi
1:
    add rAX, rCX
    xor rDX, rAX
    lea rBX, [rAX+rDX*2+1]
    mov rSI, rBX
    and rSI, rDX
    sub rDI, rSI
    dec rCX
    jnz 1b
    mov eax, edi
    ret
