# Two senders of the same vector: the target takes one interrupt or two, and answers for both.
#
# A request that finds its bit in IRR set is the same request. But what the sender wrote before it is there when the handler looks: so a
# handler must do all the work there is, not one piece for each interrupt.
#
# kvm: >=4.19   vcpus: 3   aps: run   mode: long64
# expect: memory[done].u64 = 3
# expect: vcpu[2].rbx >= 1
# expect: vcpu[2].rbx <= 2
# expect: end = halted
.include "race.inc"

    .balign 64, 0
work:   .quad 0
    .balign 64, 0
done:   .quad 0

    .code64
_start:
    race_begin others
    lock or qword ptr [rip+work], 1
    write_icr 0x40, 2
    hlt
others:
    cmp eax, 2
    je target
    lock or qword ptr [rip+work], 2
    write_icr 0x40, 2
    hlt
target:
    sti
1:
    hlt
    jmp 1b
handler:
    inc ebx
    end_of_interrupt                # first: what comes behind it is another interrupt
    mov rdx, [rip+work]
    mov [rip+done], rdx
    iretq

    race_table handler, handler, handler
