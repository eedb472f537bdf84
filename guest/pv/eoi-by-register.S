# The same as eoi.S without PV EOI: every interrupt costs two exits, its ICR write and its EOI.
#
# kvm: >=4.19   mode: long64   vendor: both
# expect: memory[received].u64 = 3
# expect: exits.wrmsr = 6
# expect: events.kvm_pv_eoi = 0
# expect: events.kvm_eoi = 3
# expect: isr = {}
# expect: end = halted
.include "ipi.inc"

    .code64
_start:
    set_gate 0x40, count_interrupt
    load_idt
    sti
    write_icr 0x40
    write_icr 0x40
    write_icr 0x40
    cli
    hlt
