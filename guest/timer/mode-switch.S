# Entering or leaving TSC-deadline mode stops the timer; between one-shot and periodic it goes on.
#
# kvm: >=4.19   vcpus: 1   mode: long64   vendor: both
# expect: reports = [0, 0, 0, 1, 0]
# expect: counters.irq_injections = 0
# expect: irr = {}
# expect: end = halted
.include "report.inc"
.include "timer.inc"

    .code64
_start:
    write_x2apic X2APIC_TDCR, TDCR_DIVIDE_BY_1
    write_x2apic X2APIC_LVTT, LVTT_ONE_SHOT|0x40
    write_x2apic X2APIC_TMICT, 1000000
    write_x2apic X2APIC_LVTT, LVTT_TSC_DEADLINE|0x40
    mov ecx, X2APIC_TMICT
    rdmsr
    out REPORT_PORT, eax            # the count is gone
    mov ecx, X2APIC_TMCCT
    rdmsr
    out REPORT_PORT, eax
    mov eax, 100000000
    write_tsc_deadline
    write_x2apic X2APIC_LVTT, LVTT_ONE_SHOT|0x40
    read_tsc_deadline
    out REPORT_PORT, eax            # and so is the deadline
    write_x2apic X2APIC_TMICT, 1000000
    write_x2apic X2APIC_LVTT, LVTT_PERIODIC|0x40
    mov ecx, X2APIC_TMCCT
    rdmsr
    cmp eax, 999000
    seta al
    movzx eax, al
    out REPORT_PORT, eax            # counts on
    write_x2apic X2APIC_TMICT, 0
    mov ecx, X2APIC_TMCCT
    rdmsr
    out REPORT_PORT, eax
    hlt
