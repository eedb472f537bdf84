# A sleeper that misses no wake-up: it looks with interrupts off, and STI takes effect behind HLT only.
#
# Processor 0 sets a flag and sends an interrupt. Wherever the interrupt comes, processor 1 finds the flag set or is awakened:
# between CLI and STI it waits in IRR, and behind STI it ends the HLT.
#
# kvm: >=4.19   vcpus: 2   aps: run   mode: long64
# expect: vcpu[1].rbx = 1
# expect: vcpu[*].mp = halted
# expect: end = halted
.include "race.inc"

    .balign 64, 0
flag:   .quad 0

    .code64
_start:
    race_begin sleeper
    mov qword ptr [rip+flag], 1
    write_icr 0x40, 1
    hlt
sleeper:
    xor ebx, ebx
1:
    cli
    cmp qword ptr [rip+flag], 0
    jne 2f
    sti
    hlt
    jmp 1b
2:
    mov ebx, 1
    cli
    hlt
handler:
    push rax
    push rcx
    push rdx
    end_of_interrupt
    pop rdx
    pop rcx
    pop rax
    iretq

    race_table handler, handler, handler
