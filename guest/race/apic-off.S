# A local APIC that is switched off while somebody sends to it: the interrupt is there, or it is not, and the sender can tell.
#
# KVM_HC_SEND_IPI counts the APICs that accepted. What was accepted before the APIC went off waits in IRR and is taken when it is on again:
# the answer in RAX is the number of interrupts that processor 1 gets.
#
# kvm: >=4.19   vcpus: 2   aps: run   mode: long64
# expect: memory[agreed].u64 = 1
# expect: end = halted
.include "race.inc"

    .balign 64, 0
accepted: .quad 2                   # 0 or 1 is the answer
    .balign 64, 0
agreed: .quad 0

    .code64
_start:
    race_begin target
    send_ipi 0b10, 0, 0, 0x40
    mov [rip+accepted], rax
    hlt
target:
    write_x2apic X2APIC_SVR, 0xff   # off
    write_x2apic X2APIC_SVR, SVR_ENABLE|0xff
1:
    pause
    cmp qword ptr [rip+accepted], 2
    je 1b
    sti
    nop
    cli
    cmp [rip+accepted], rbx
    jne 2f
    mov qword ptr [rip+agreed], 1
2:
    hlt
handler:
    inc ebx
    end_of_interrupt
    iretq

    race_table handler, handler, handler
