# Two processors send an NMI to a third: it takes one or two, never none and never three.
#
# An NMI that comes while another one is in service is remembered, and so is one that comes before the first was taken: KVM keeps two
# of them. Which of it happens depends on who comes when. Nothing holds an NMI back until there is a handler, so the senders wait for that.
#
# kvm: >=4.19   vcpus: 3   aps: run   mode: long64
# expect: vcpu[2].rbx >= 1
# expect: vcpu[2].rbx <= 2
# expect: vcpu[2].counters.nmi_injections <= 2
# expect: vcpu[*].nmi = 0
# expect: end = halted
.include "race.inc"

    .balign 64, 0
ready:  .quad 0

    .code64
_start:
    race_begin others
1:
    pause
    cmp qword ptr [rip+ready], 0
    je 1b
    write_icr ICR_NMI, 2
    hlt
others:
    cmp eax, 2
    jne 1b
    cli
    mov qword ptr [rip+ready], 1
1:
    hlt                             # an NMI ends it, whatever IF says
    jmp 1b
handler:
    inc ebx                         # only this processor uses it, and it started as 0
    iretq

    race_table handler, handler, handler
