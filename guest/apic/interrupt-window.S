# An interrupt that arrives while IF is 0: KVM asks for an interrupt-window exit and injects when the guest allows it.
#
# kvm: >=4.19   mode: long64   vendor: both
# expect: reports = [0, 1]
# expect: counters.irq_window_exits = 1
# expect: counters.irq_injections = 1
# expect[vendor=intel]: exits.interrupt_window = 1
# expect[vendor=amd]: exits.vintr = 1
.include "ipi.inc"
.include "report.inc"

    .code64
_start:
    set_gate 0x40, count_interrupt
    load_idt
    write_x2apic X2APIC_SELF_IPI, 0x40
    report [rip+received]
    sti
    nop                             # the window opens behind this instruction
    cli
    report [rip+received]
    hlt
