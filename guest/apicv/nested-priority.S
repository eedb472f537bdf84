# The processor keeps the priorities: TPR holds a vector back, a higher one interrupts the handler of a lower one.
#
# kvm: >=4.19   mode: long64   apicv: on
# expect: reports = [0x71, 0x52, 0x41]
# expect: exits.wrmsr = 0
# expect: exits.tpr_below_threshold = 0
# expect: exits.interrupt_window = 0
# expect: irr = {}
# expect: isr = {}
# expect: tpr = 0
# expect: end = halted
.include "ipi.inc"
.include "report.inc"

low:
    sti
    write_x2apic X2APIC_SELF_IPI, 0x52      # this priority class is above the one in service
    report 0x41
    write_x2apic X2APIC_EOI, 0
    iretq
middle:
    report 0x52
    write_x2apic X2APIC_EOI, 0
    iretq
high:
    report 0x71
    write_x2apic X2APIC_EOI, 0
    iretq

    .code64
_start:
    set_gate 0x41, low
    set_gate 0x52, middle
    set_gate 0x71, high
    load_idt
    mov eax, 6
    mov cr8, rax
    sti
    write_x2apic X2APIC_SELF_IPI, 0x41      # class 4 is not above TPR
    write_x2apic X2APIC_SELF_IPI, 0x71
    xor eax, eax
    mov cr8, rax
    nop
    cli
    hlt
