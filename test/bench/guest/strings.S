# String instructions: fills, copies, searches and comparisons, long ones and short ones.
.include "lap.inc"
    .equ FROM, 0x200000
    .equ TO, 0x210000
    .equ LONG_BYTES, 16384
lap:
    xor ebx, ebx
    mov edi, FROM                           # fill
    mov ecx, LONG_BYTES
    mov al, 0x5a
    rep stosb
    mov byte ptr [FROM+LONG_BYTES-1], 0xff
    mov esi, FROM                           # copy
    mov edi, TO
    mov ecx, LONG_BYTES/4
    rep movsd
    mov edi, TO                             # search
    mov ecx, LONG_BYTES
    mov al, 0xff
    repne scasb
    add ebx, edi
    mov esi, FROM                           # compare
    mov edi, TO
    mov ecx, LONG_BYTES
    repe cmpsb
    add ebx, esi
    mov edx, 1000
1:
    lea rSI, [FROM+rDX*8]                   # a short copy at changing addresses
    lea rDI, [TO+rDX*8+4]
    mov ecx, 24
    rep movsb
    add rBX, rDI
    dec edx
    jnz 1b
    mov eax, ebx
    ret
