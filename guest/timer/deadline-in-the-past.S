# A deadline that has passed already fires at once: the interrupt comes behind the WRMSR itself.
#
# So even where the write has a fastpath KVM cannot go straight back into the guest: it has something to inject. No
# preemption timer is involved.
#
# kvm: >=4.19   vcpus: 1   mode: long64   vendor: both
# expect: memory[received].u64 = 1
# expect: memory[came_at].u64 = 1
# expect: memory[fired].u64 = 0
# expect: exits.wrmsr = 3
# expect: counters.exits = 5
# expect: counters.irq_injections = 1
# expect[vendor=intel]: exits.preemption_timer = 0
# expect[kvm>=5.8, vendor=intel]: fastpath = 1
# expect: end = halted
.include "timer.inc"

came_at:    .quad 0
fired:      .quad 1

    .code64
_start:
    set_gate 0x40, count_interrupt
    load_idt
    write_x2apic X2APIC_LVTT, LVTT_TSC_DEADLINE|0x40
    sti
    mov eax, 1
    write_tsc_deadline
behind:
    cli
    lea rax, [rip+behind]
    cmp [rip+interrupted_rip], rax
    sete [rip+came_at]
    read_tsc_deadline
    mov [rip+fired], rax
    hlt
