# Software-disabling the APIC masks every LVT entry, and the timer's interrupt is lost.
#
# SVR bit 8 = 0 sets all mask bits, and while it is 0 they cannot be cleared. Enabling the APIC again does not bring the
# old values back.
#
# kvm: >=4.19   vcpus: 1   mode: long64   vendor: both
# expect: reports = [0x10040, 0x10041, 0x10041, 0x42, 0]
# expect: irr = {}
# expect: counters.irq_injections = 0
# expect: end = halted
.include "report.inc"
.include "timer.inc"

.macro report_lvtt
    mov ecx, X2APIC_LVTT
    rdmsr
    out REPORT_PORT, eax
.endm

    .code64
_start:
    set_gate 0x40, count_interrupt
    set_gate 0x42, count_interrupt
    load_idt
    write_x2apic X2APIC_TDCR, TDCR_DIVIDE_BY_1
    write_x2apic X2APIC_LVTT, 0x40
    write_x2apic X2APIC_TMICT, 1000
    write_x2apic X2APIC_SVR, 0xff
    report_lvtt                     # masked
    write_x2apic X2APIC_LVTT, 0x41
    report_lvtt                     # still masked
    sti
    mov esi, 3000
1:  dec esi
    jnz 1b
    write_x2apic X2APIC_SVR, SVR_ENABLE|0xff
    report_lvtt
    write_x2apic X2APIC_TMICT, 0
    write_x2apic X2APIC_LVTT, 0x42
    report_lvtt
    report [rip+received]
    cli
    hlt
