# Behind a running NMI handler one more NMI is remembered, not three.
#
# NMIs are blocked from delivery to IRETQ. The first handler sends three to its own processor:
# they make one second call.
#
# kvm: >=4.19   mode: long64   vendor: both
# expect: memory[calls].u64 = 2
# expect: counters.nmi_injections = 2
# expect: vcpu[0].nmi = 0
.include "idt.inc"
.include "pvipi.inc"

calls:  .quad 0

    .code64
_start:
    set_gate NMI_VECTOR, handler
    load_idt
    write_icr ICR_NMI, 0            # destination 0 is this processor
1:
    hlt
    jmp 1b

handler:
    inc qword ptr [rip+calls]
    cmp qword ptr [rip+calls], 1
    jne 1f
    write_icr ICR_NMI, 0
    wrmsr
    wrmsr
1:
    iretq
