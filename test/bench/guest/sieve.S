# The sieve of Eratosthenes in bytes: stores with a stride, and a sum over all of them.
.include "lap.inc"
    .equ FLAGS, 0x200000
    .equ LIMIT, 32768
lap:
    mov edi, FLAGS
    mov ecx, LIMIT/4
    mov eax, 0x01010101
    rep stosd
    mov rSI, 2
candidate:
    cmp byte ptr [FLAGS+rSI], 0
    je 2f
    lea rDI, [rSI+rSI]
1:
    mov byte ptr [FLAGS+rDI], 0
    add rDI, rSI
    cmp rDI, LIMIT
    jb 1b
2:
    inc rSI
    cmp rSI, 181                            # the square root of LIMIT
    jbe candidate
    xor eax, eax
    mov rSI, 2
3:
    movzx edx, byte ptr [FLAGS+rSI]
    add eax, edx
    inc rSI
    cmp rSI, LIMIT
    jb 3b
    ret                                     # 3512 primes
