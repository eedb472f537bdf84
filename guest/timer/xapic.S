# The timer through the xAPIC's page in memory: the same registers, four bytes each at a multiple of 16.
#
# The timer interrupts a loop that runs with interrupts disabled: the vector waits in IRR until STI opens the window.
#
# kvm: >=4.19   vcpus: 1   mode: long64   apic: xapic   vendor: both
# expect: memory[received].u64 = 1
# expect: memory[waiting].u64 = 1
# expect: memory[count].u64 = 0
# expect: isr = {}
# expect: irr = {}
# expect: counters.irq_window_exits = 1
# expect[vendor=intel]: exits.preemption_timer = 1
# expect[vendor=amd]: counters.irq_exits = 1
# expect: end = halted
.include "timer.inc"

waiting:    .quad 0
count:      .quad -1

# Like count_interrupt, with the EOI in memory.
count_in_page:
    push rbx
    lock inc qword ptr [rip+received]
    mov ebx, XAPIC
    mov dword ptr [rbx+XAPIC_EOI-XAPIC], 0
    pop rbx
    iretq

    .code64
_start:
    set_gate 0x40, count_in_page
    load_idt
    mov ebx, XAPIC
    mov dword ptr [rbx+XAPIC_TDCR-XAPIC], TDCR_DIVIDE_BY_1
    mov dword ptr [rbx+XAPIC_LVTT-XAPIC], LVTT_ONE_SHOT|0x40
    mov dword ptr [rbx+XAPIC_TMICT-XAPIC], 5000
    cli
    mov esi, 3000                   # two instructions a turn
1:  dec esi
    jnz 1b
    mov eax, [rbx+XAPIC_IRR2-XAPIC] # vectors 0x40 ... 0x5f
    mov [rip+waiting], eax
    sti
    nop
    nop
    cli
    mov eax, [rbx+XAPIC_TMCCT-XAPIC]
    mov [rip+count], rax
    hlt
