# The IRR has one bit per vector: ten IPIs of one vector before the first is taken are one interrupt.
#
# The hypercall counts each as accepted all the same.
#
# kvm: >=4.19   mode: long64
# expect: rbp = 10
# expect: memory[received].u64 = 1
# expect: counters.irq_injections = 1
.include "ipi.inc"

    .code64
_start:
    set_gate 0x40, count_interrupt
    load_idt
    xor ebp, ebp
    mov edi, 10
1:
    send_ipi 1, 0, 0, 0x40
    add ebp, eax
    dec edi
    jnz 1b
    sti
    nop
    cli
    hlt
