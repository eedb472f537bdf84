# An interrupt to oneself costs no exit under APICv, and its EOI neither; a vector below 16 does, since the processor refuses it.
#
# The refused one is an APIC-write exit: it comes after the instruction, and KVM takes the value from the APIC page.
#
# kvm: >=4.19   mode: long64   apicv: on
# expect: memory[received].u64 = 2
# expect: exits.wrmsr = 0
# expect: exits.apic_write = 1
# expect: exits = 2
# expect: irr = {5}
# expect: isr = {}
# expect: counters.irq_injections = 0
# expect: end = halted
.include "ipi.inc"

    .code64
_start:
    set_gate 0x40, count_interrupt
    load_idt
    write_x2apic X2APIC_SELF_IPI, 0x40      # IF=0: it waits
    sti
    nop
    write_x2apic X2APIC_SELF_IPI, 0x40      # taken at once
    cli
    write_x2apic X2APIC_SELF_IPI, 5
    hlt
