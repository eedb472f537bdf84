# Copies 64 KiB dword by dword in a loop, four times, and adds up what arrived.
    .equ SETUP, 1
.include "lap.inc"
    .equ SOURCE, 0x200000
    .equ TARGET, 0x220000
    .equ WORDS, 16384
setup:
    mov rCX, WORDS
    mov eax, 1
1:
    imul eax, eax, 1103515245
    add eax, 12345
    mov [SOURCE+rCX*4-4], eax
    dec rCX
    jnz 1b
    ret

lap:
    mov edx, 4
1:
    mov rCX, WORDS
    mov esi, SOURCE
    mov edi, TARGET
2:
    mov eax, [rSI]
    mov [rDI], eax
    add rSI, 4
    add rDI, 4
    dec rCX
    jnz 2b
    dec edx
    jnz 1b
    xor eax, eax
    mov rCX, WORDS
3:
    add eax, [TARGET+rCX*4-4]
    dec rCX
    jnz 3b
    ret
