# Functions that lie in pages of their own: calls by their names, calls and jumps through a table.
.include "lap.inc"
lap:
    mov ecx, 4000
    mov eax, 1
1:
    call add                                # by name
    mov edx, ecx
    and edx, 1
    call [rDX*8 + functions]                # one of two
    dec ecx
    jnz 1b
    ret

    .balign 4096
add:
    add eax, ecx
    rol eax, 5
    jmp mix

    .balign 4096
mix:
    xor eax, 0x5a5a5a5a
    mov edx, eax
    shr edx, 7
    add eax, edx
    ret

    .balign 4096
even:
    lea eax, [rAX + rAX*4]
    test eax, 0x400
    jz 1f
    call mix
1:
    ret

    .balign 4096
odd:
    mov edx, eax
    shr edx, 30
    jmp [rDX*8 + ends]                      # one of four
    .balign 4096
end0:
    add eax, 3
    ret
end1:
    sub eax, 5
    ret
    .balign 4096
end2:
    not eax
    ret
end3:
    xor eax, ecx
    ret

    .balign 8
functions:
    .quad even, odd
ends:
    .quad end0, end1, end2, end3
