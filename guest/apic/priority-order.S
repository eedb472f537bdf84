# Three interrupts wait; the highest vector is delivered first, and each EOI lets the next one in.
#
# kvm: >=4.19   mode: long64   vendor: both
# expect: reports = [0x52, 0x41, 0x31]
# expect: vcpu[0].irr = {}
# expect: vcpu[0].isr = {}
# expect: counters.irq_injections = 3
.include "ipi.inc"
.include "report.inc"

.macro reporting_handler vector
handler_\vector:
    report \vector
    write_x2apic X2APIC_EOI, 0
    iretq
.endm
    reporting_handler 0x31
    reporting_handler 0x41
    reporting_handler 0x52

    .code64
_start:
    set_gate 0x31, handler_0x31
    set_gate 0x41, handler_0x41
    set_gate 0x52, handler_0x52
    load_idt
    write_x2apic X2APIC_SELF_IPI, 0x31
    write_x2apic X2APIC_SELF_IPI, 0x52
    write_x2apic X2APIC_SELF_IPI, 0x41
    sti
    nop
    cli
    hlt
