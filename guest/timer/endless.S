# A periodic timer and a HLT loop never end of themselves: the budget ends them.
#
# Time jumps from one period to the next, and each jump and each exit costs some of the budget.
#
# kvm: >=4.19   vcpus: 1   mode: long64   vendor: both   budget: 20000
# expect: end = budget
# expect: memory[received].u64 > 20
# expect: memory[received].u64 < 200
.include "timer.inc"

    .code64
_start:
    set_gate 0x40, count_interrupt
    load_idt
    write_x2apic X2APIC_LVTT, LVTT_PERIODIC|0x40
    write_x2apic X2APIC_TMICT, 1000000
1:  sti
    hlt
    jmp 1b
