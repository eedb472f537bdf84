# TSC-deadline mode: the interrupt comes when the TSC reaches what was written to IA32_TSC_DEADLINE, not before.
#
# The MSR reads back the deadline while it is armed and 0 after it has fired. TMICT is out of use in this mode.
#
# kvm: >=4.19   vcpus: 1   mode: long64   vendor: both
# expect: memory[received].u64 = 1
# expect: memory[armed].u64 = 1
# expect: memory[fired].u64 = 0
# expect: memory[late].u64 < 100
# expect: memory[count].u64 = 0
# expect: counters.halt_wakeup = 1
# expect: end = halted
.include "timer.inc"

deadline:   .quad 0
armed:      .quad 0
fired:      .quad 1
late:       .quad -1
count:      .quad 1

    .code64
_start:
    set_gate 0x40, count_interrupt
    load_idt
    write_x2apic X2APIC_LVTT, LVTT_TSC_DEADLINE|0x40
    write_x2apic X2APIC_TMICT, 1000
    mov ecx, X2APIC_TMICT
    rdmsr
    mov [rip+count], eax
    read_tsc
    add rax, 1000000
    mov [rip+deadline], rax
    write_tsc_deadline
    read_tsc_deadline
    cmp rax, [rip+deadline]
    sete [rip+armed]
    sti
    hlt
    cli
    read_tsc
    sub rax, [rip+deadline]         # negative if the interrupt came too early
    mov [rip+late], rax
    read_tsc_deadline
    mov [rip+fired], rax
    hlt
