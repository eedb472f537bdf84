# The LAPIC timer in one-shot mode: it counts down once and interrupts once.
#
# TMICT starts it: 1000 counts of 16 bus cycles (TDCR = 3). One instruction is one nanosecond and one bus cycle here, so that
# the interrupt comes 16,000 instructions later: on Intel through the VMX preemption timer, on AMD through an interrupt of
# the host. A second wait of the same length brings nothing more.
#
# kvm: >=4.19   vcpus: 1   mode: long64   vendor: both
# expect: memory[received].u64 = 1
# expect: memory[left_at_half].u64 > 300
# expect: memory[left_at_half].u64 < 1000
# expect: memory[left_at_end].u64 = 0
# expect: irr = {}
# expect: isr = {}
# expect[vendor=intel]: exits.preemption_timer = 1
# expect[vendor=amd]: exits.interrupt = 1
# expect[vendor=amd]: counters.irq_exits = 1
# expect: counters.irq_injections = 1
# expect: end = halted
.include "timer.inc"

left_at_half:   .quad 0
left_at_end:    .quad 0

    .code64
_start:
    set_gate 0x40, count_interrupt
    load_idt
    write_x2apic X2APIC_TDCR, TDCR_DIVIDE_BY_16
    write_x2apic X2APIC_LVTT, LVTT_ONE_SHOT|0x40
    write_x2apic X2APIC_TMICT, 1000
    sti
    mov esi, 2000                   # two instructions a turn
1:  dec esi
    jnz 1b
    mov ecx, X2APIC_TMCCT
    rdmsr
    mov [rip+left_at_half], eax
    wait_for received, 1
    mov esi, 20000
1:  dec esi
    jnz 1b
    mov ecx, X2APIC_TMCCT
    rdmsr
    mov [rip+left_at_end], eax
    cli
    hlt
