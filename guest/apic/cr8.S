# CR8 is the upper half of the task priority, and lowering it lets waiting interrupts in.
#
# kvm: >=4.19   mode: long64   vendor: both
# expect: reports = [0x30, 0, 1]
# expect: vcpu[0].tpr = 0
.include "ipi.inc"
.include "report.inc"

    .code64
_start:
    set_gate 0x35, count_interrupt
    load_idt
    mov eax, 3
    mov cr8, rax
    mov ecx, X2APIC_TPR
    rdmsr
    report eax
    write_x2apic X2APIC_SELF_IPI, 0x35
    sti
    nop
    report [rip+received]           # class 3 is held back
    xor eax, eax
    mov cr8, rax
    nop
    cli
    report [rip+received]
    hlt
