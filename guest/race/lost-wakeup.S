# The classic lost wake-up: the sleeper looks with interrupts on, and the interrupt comes between the look and the HLT.
#
# Runs as a rule, and hangs in the one interleaving in which both the flag and the interrupt come behind the CMP and before the HLT.
# `kvmscope fuzz race guest/race/lost-wakeup.S` finds it; wakeup.S is how it should be.
#
# The expectations say what is meant, and hold under the schedule that every run begins with here.
#
# kvm: >=4.19   vcpus: 2   aps: run   mode: long64   schedule: 0*20
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
    sti
1:
    cmp qword ptr [rip+flag], 0
    jne 2f
    hlt                             # too late: the interrupt may have been taken already
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
