# The task priority holds back its own class and those below.
#
# TPR = 0x35 blocks 0x31 as well as 0x3f: a vector's class must be greater than the whole TPR class. 0x40 passes.
#
# kvm: >=4.19   mode: long64   vendor: both
# expect: memory[received].u64 = 1
# expect: vcpu[0].irr = {0x31, 0x3f}
# expect: vcpu[0].tpr = 0x35
# expect: vcpu[0].ppr = 0x35
.include "ipi.inc"

    .code64
_start:
    set_gate 0x31, count_interrupt
    set_gate 0x3f, count_interrupt
    set_gate 0x40, count_interrupt
    load_idt
    write_x2apic X2APIC_TPR, 0x35
    write_x2apic X2APIC_SELF_IPI, 0x31
    write_x2apic X2APIC_SELF_IPI, 0x3f
    write_x2apic X2APIC_SELF_IPI, 0x40
    sti
    nop
    cli
    hlt
