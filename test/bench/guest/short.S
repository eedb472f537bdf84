# Next to nothing: what a restored machine runs when the restoring is measured.
.include "lap.inc"
lap:
    mov ecx, 32
    xor eax, eax
1:
    add eax, ecx
    dec ecx
    jnz 1b
    ret
