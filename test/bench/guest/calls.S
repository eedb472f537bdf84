# Fibonacci numbers by recursion: calls, returns, pushes and pops.
.include "lap.inc"
lap:
    mov edi, 20
fib:
    cmp edi, 2
    jb 1f
    push rDI
    dec edi
    call fib
    pop rDI
    push rAX
    sub edi, 2
    call fib
    pop rDX
    add eax, edx
    ret
1:
    mov eax, edi
    ret                                     # 6765
