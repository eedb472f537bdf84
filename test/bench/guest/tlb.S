# One access to each of 2,048 pages, over and over: more than a TLB holds.
    .equ SETUP, 1
.include "lap.inc"
.include "paging.inc"
    .equ FIRST, 0x400000
    .equ TOUCHED, 2048
setup:
    enter_paging
    mov rCX, TOUCHED
    mov esi, FIRST
1:
    mov [rSI], ecx
    add rSI, 4096+8
    dec rCX
    jnz 1b
    ret

lap:
    xor eax, eax
    mov edx, 4
1:
    mov rCX, TOUCHED
    mov esi, FIRST
2:
    add eax, [rSI]
    add rSI, 4096+8
    dec rCX
    jnz 2b
    dec edx
    jnz 1b
    ret
