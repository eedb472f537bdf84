# The LAPIC timer in periodic mode wakes a processor from HLT again and again.
#
# While every vCPU sleeps, virtual time jumps to the next deadline. Ten periods of 300 us take at least 3 ms by the TSC,
# whatever the handlers cost; then the guest stops the timer with TMICT = 0 and the machine ends halted.
#
# kvm: >=4.19   vcpus: 1   mode: long64   vendor: both
# expect: memory[received].u64 = 10
# expect: memory[elapsed].u64 >= 3000000
# expect: memory[elapsed].u64 < 3001000
# expect: exits.hlt = 11
# expect: exits.preemption_timer = 0
# expect: counters.halt_wakeup = 10
# expect: counters.irq_injections = 10
# expect: end = halted
.include "timer.inc"

elapsed:    .quad 0

    .code64
_start:
    set_gate 0x40, count_interrupt
    load_idt
    read_tsc
    mov rbx, rax
    write_x2apic X2APIC_TDCR, TDCR_DIVIDE_BY_1
    write_x2apic X2APIC_LVTT, LVTT_PERIODIC|0x40
    write_x2apic X2APIC_TMICT, 300000
1:  sti
    hlt                             # the handler returns to behind this
    cli
    cmp qword ptr [rip+received], 10
    jb 1b
    read_tsc
    sub rax, rbx
    mov [rip+elapsed], rax
    write_x2apic X2APIC_TMICT, 0
    hlt
