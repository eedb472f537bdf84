# A page is mapped to another frame, INVLPG, an access through the new mapping; every 64th time CR3 is loaded anew.
    .equ SETUP, 1
.include "lap.inc"
.include "paging.inc"
    .equ WINDOW, 0x400000
    .equ FRAMES, 0x500000
setup:
    enter_paging
    xor ecx, ecx
    mov edi, FRAMES
1:
    mov [rDI], ecx
    add edi, 4096
    inc ecx
    cmp ecx, 256
    jb 1b
    ret

lap:
    xor eax, eax
    xor ecx, ecx
    mov esi, WINDOW
1:
    mov edx, ecx
    and edx, 255
    shl edx, 12
    add edx, FRAMES+PTE_FLAGS
    mov [PAGE_TABLE+WINDOW/4096*PTE_BYTES], edx
    invlpg [rSI]
    add eax, [rSI]
    test cl, 63
    jnz 2f
    mov rDX, cr3
    mov cr3, rDX
2:
    inc ecx
    cmp ecx, 2048
    jb 1b
    ret
