# A periodic timer interrupts a processor that never sleeps: one exit for each period.
#
# The guest only counts, and each 200 us the timer takes it out of the guest and injects a vector. KVM allows no shorter
# period (module parameter min_timer_period_us): the 1000 counts asked for become 200,000.
#
# kvm: >=4.19   vcpus: 1   mode: long64   vendor: both
# expect: memory[received].u64 = 5
# expect: memory[elapsed].u64 >= 1000000
# expect: memory[elapsed].u64 < 1001000
# expect[vendor=intel]: exits.preemption_timer = 5
# expect[vendor=intel]: counters.irq_exits = 0
# expect[vendor=amd]: exits.interrupt = 5
# expect[vendor=amd]: counters.irq_exits = 5
# expect: counters.irq_injections = 5
# expect: exits.hlt = 1
# expect: end = halted
.include "timer.inc"

elapsed:    .quad 0

    .code64
_start:
    set_gate 0x40, count_interrupt
    load_idt
    write_x2apic X2APIC_TDCR, TDCR_DIVIDE_BY_1
    write_x2apic X2APIC_LVTT, LVTT_PERIODIC|0x40
    read_tsc
    mov rbx, rax
    write_x2apic X2APIC_TMICT, 1000
    sti
1:  cmp qword ptr [rip+received], 5
    jb 1b
    cli
    read_tsc
    sub rax, rbx
    mov [rip+elapsed], rax
    write_x2apic X2APIC_TMICT, 0
    hlt
