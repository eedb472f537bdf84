# An NMI that comes right behind STI, with a CLI to follow: on Intel it waits until interrupts are allowed again.
#
# NMIs have nothing to do with IF. But behind STI a processor of Intel would tell KVM of an open NMI window too early, so KVM waits for one for
# interrupts, and CLI closes that again. `missed` is 1 if the target looks and has not been called although the NMI has been sent;
# it is called in the end, by the second STI. On AMD KVM steps over the one instruction.
#
# kvm: >=4.19   vcpus: 2   aps: run   mode: long64   vendor: both
# expect: vcpu[1].rbx = 1
# expect[vendor=amd]: memory[missed].u64 = 0
# expect[vendor=intel]: memory[missed].u64 <= 1
# expect: end = halted
.include "race.inc"

    .balign 64, 0
ready:  .quad 0
    .balign 64, 0
sent:   .quad 0
    .balign 64, 0
missed: .quad 0

    .code64
_start:
    race_begin target
1:
    pause
    cmp qword ptr [rip+ready], 0
    je 1b
    write_icr ICR_NMI, 1
    mov qword ptr [rip+sent], 1
    hlt
target:
    mov qword ptr [rip+ready], 1
    sti
    cli
    cmp qword ptr [rip+sent], 0
    je 1f
    test ebx, ebx
    jnz 1f
    mov qword ptr [rip+missed], 1
1:
    sti
    nop
    cli
1:
    hlt
    jmp 1b
handler:
    inc ebx
    iretq

    race_table handler, handler, handler
