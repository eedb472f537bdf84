# Each processor has a timer of its own, and one clock rules them all.
#
# Processor 1 sleeps until its timer wakes it, while processor 0 works on: a timer of somebody else costs it no exit.
# Their TSCs agree, for time passes for a processor that sleeps or waits, too.
#
# kvm: >=4.19   vcpus: 2   mode: long64   aps: run   vendor: both
# expect: memory[received].u64 = 1
# expect: vcpu[1].counters.irq_injections = 1
# expect: vcpu[0].counters.irq_injections = 0
# expect: vcpu[1].counters.halt_wakeup = 1
# expect: vcpu[1].exits.hlt = 2
# expect[vendor=intel]: vcpu[0].exits.preemption_timer = 0
# expect[vendor=amd]: vcpu[0].exits.interrupt = 0
# expect: memory[slept].u64 >= 100000
# expect: memory[apart].u64 < 65536
# expect: end = halted
.include "timer.inc"

slept:      .quad 0
woke_at:    .quad 0
apart:      .quad -1

    .code64
_start:
    set_gate 0x40, count_interrupt
    load_idt
    read_x2apic_id
    test eax, eax
    jnz sleeper
1:  mov rbx, [rip+woke_at]          # polls without ever leaving the guest
    test rbx, rbx
    jz 1b
    read_tsc
    sub rax, rbx
    mov [rip+apart], rax            # what the scheduler took to come back, no more
    hlt
sleeper:
    write_x2apic X2APIC_TDCR, TDCR_DIVIDE_BY_1
    write_x2apic X2APIC_LVTT, 0x40
    read_tsc
    mov rbx, rax
    write_x2apic X2APIC_TMICT, 100000
    sti
    hlt
    cli
    read_tsc
    mov [rip+woke_at], rax
    sub rax, rbx
    mov [rip+slept], rax
    hlt
