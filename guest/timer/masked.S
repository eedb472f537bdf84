# A masked LVT holds the timer's interrupt back; unmasking it afterwards lets the interrupt through.
#
# KVM remembers an expiry that it could not deliver (the pending count of the timer) until the timer is started again.
# The processor leaves the guest for it all the same.
#
# kvm: >=4.19   vcpus: 1   mode: long64   vendor: both
# expect: reports = [0, 1, 1]
# expect[vendor=intel]: exits.preemption_timer = 2
# expect[vendor=amd]: exits.interrupt = 2
# expect: counters.irq_injections = 1
# expect: irr = {}
# expect: end = halted
.include "report.inc"
.include "timer.inc"

# Lets 6,000 ns pass.
.macro spin
    mov esi, 3000
9:  dec esi
    jnz 9b
.endm

    .code64
_start:
    set_gate 0x40, count_interrupt
    load_idt
    write_x2apic X2APIC_TDCR, TDCR_DIVIDE_BY_1
    write_x2apic X2APIC_LVTT, LVT_MASKED|0x40
    write_x2apic X2APIC_TMICT, 1000
    sti
    spin
    report [rip+received]           # expired, held back
    write_x2apic X2APIC_LVTT, 0x40
    report [rip+received]           # here it is
    write_x2apic X2APIC_LVTT, LVT_MASKED|0x40
    write_x2apic X2APIC_TMICT, 1000
    spin
    write_x2apic X2APIC_TMICT, 0    # forgotten
    write_x2apic X2APIC_LVTT, 0x40
    report [rip+received]
    cli
    hlt
