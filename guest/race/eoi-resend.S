# An interrupt that is sent again while its handler runs comes again, whether before or behind the EOI.
#
# While a vector is in service its bit in IRR is free: the second request waits there until the EOI. But two that come before the first is
# taken are one.
#
# kvm: >=4.19   vcpus: 2   aps: run   mode: long64
# expect: vcpu[1].rbx >= 1
# expect: vcpu[1].rbx <= 2
# expect: vcpu[1].irr = {}
# expect: vcpu[1].isr = {}
# expect: end = halted
.include "race.inc"

    .code64
_start:
    race_begin target
    write_icr 0x40, 1
    wrmsr                           # once more
    hlt
target:
    sti
1:
    hlt
    jmp 1b
handler:
    inc ebx
    end_of_interrupt
    iretq

    race_table handler, handler, handler
