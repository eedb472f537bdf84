# INIT and a start-up IPI while the target does something else: it begins at the start-up vector, wherever it was.
#
# The target counts up, sends itself an interrupt, sleeps. INIT takes it out of all of that, and KVM carries out INIT before the start-up
# IPI even if it has seen neither of them yet.
#
# kvm: >=4.19   vcpus: 2   aps: run   mode: long64
# expect: memory[started].u16 = 0xcafe
# expect: vcpu[1].mp = halted
# expect: vcpu[1].rip = 8
# expect: vcpu[1].irr = {}
# expect: vcpu[1].sipi = none
# expect: end = halted
.include "race.inc"

    .balign 4096, 0
    .code16
trampoline:
    mov word ptr cs:[started-trampoline], 0xcafe
    hlt
    .balign 4, 0
started: .long 0

    .balign 64, 0
    .code64
_start:
    race_begin target
    write_icr ICR_INIT|ICR_ASSERT, 1
    lea eax, [rip+trampoline]
    shr eax, 12
    or eax, ICR_STARTUP|ICR_ASSERT
    wrmsr                           # ECX and EDX are still ICR and destination
    hlt
target:
    mov ebx, 3
    write_icr 0x40, 1               # to itself
    dec ebx
    cli
    hlt
handler:
    iretq

    race_table handler, handler, handler
