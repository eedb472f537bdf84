# Two senders with a vector each, and one target: both arrive, in either order and even at once.
#
# Different vectors do not coalesce. Vector 0x41 is of the same priority class as 0x40: it never interrupts its handler.
#
# kvm: >=4.19   vcpus: 3   aps: run   mode: long64
# expect: vcpu[2].rbx = 0x11
# expect: vcpu[2].counters.irq_injections = 2
# expect: vcpu[2].irr = {}
# expect: vcpu[2].isr = {}
# expect: end = halted
.include "race.inc"

    .code64
_start:
    race_begin others
    write_icr 0x40, 2
    hlt
others:
    cmp eax, 2
    je target
    write_icr 0x41, 2
    hlt
target:
    sti
1:
    hlt
    cmp ebx, 0x11
    jne 1b                          # only one of the two has come
    cli
    hlt
first:
    add ebx, 0x10
    jmp 1f
second:
    inc ebx
1:
    end_of_interrupt                # the target uses none of RAX, RCX, RDX
    iretq

    race_table first, first, second
