# A handler that allows interrupts is interrupted by a higher priority class only.
#
# The handler of 0x41 sends itself 0x4f, the same class, and 0x52, a higher one, and sets IF. 0x52 comes at once,
# 0x4f after the EOI of 0x41. The reports are the vectors at the start of each handler, and 0xe0 when 0x41 gets to
# its end.
#
# kvm: >=4.19   mode: long64   vendor: both
# expect: reports = [0x41, 0x52, 0xe0, 0x4f]
# expect: vcpu[0].irr = {}
# expect: vcpu[0].isr = {}
.include "ipi.inc"
.include "report.inc"

simple_52:
    report 0x52
    write_x2apic X2APIC_EOI, 0
    iretq
simple_4f:
    report 0x4f
    write_x2apic X2APIC_EOI, 0
    iretq
nesting_41:
    report 0x41
    write_x2apic X2APIC_SELF_IPI, 0x4f
    write_x2apic X2APIC_SELF_IPI, 0x52
    sti
    nop
    cli
    report 0xe0
    write_x2apic X2APIC_EOI, 0
    iretq

    .code64
_start:
    set_gate 0x41, nesting_41
    set_gate 0x4f, simple_4f
    set_gate 0x52, simple_52
    load_idt
    write_x2apic X2APIC_SELF_IPI, 0x41
    sti
    nop
    cli
    hlt
