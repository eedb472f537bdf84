# INIT, then a start-up IPI: how a processor begins.
#
# After INIT it waits; the start-up vector, 8 bits, is the number of the 4 KiB page where it begins in real mode.
#
# kvm: >=4.19   vcpus: 3   mode: long64   aps: wait-for-sipi   vendor: both
# expect: memory[alive].u16 = 0xcafe
# expect: vcpu[1].mp = halted
# expect: vcpu[2].mp = uninitialized
# expect: vcpu[1].sipi = none
# expect: exits.wrmsr = 2
.include "pvipi.inc"

    .balign 4096, 0
    .code16
trampoline:
    mov word ptr cs:[alive-trampoline], 0xcafe
    hlt
    .balign 4, 0
alive:  .long 0

    .code64
_start:
    write_icr ICR_INIT|ICR_ASSERT, 1
    lea eax, [rip+trampoline]
    shr eax, 12
    or eax, ICR_STARTUP|ICR_ASSERT
    wrmsr                           # ECX and EDX are still ICR and destination
1:
    pause
    cmp word ptr [rip+alive], 0xcafe
    jne 1b
    hlt
