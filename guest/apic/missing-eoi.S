# A handler that forgets its EOI blocks everything of its priority class and below.
#
# kvm: >=4.19   mode: long64   vendor: both
# expect: reports = [1, 1, 2]
# expect: vcpu[0].isr = {0x40}
# expect: vcpu[0].irr = {0x31, 0x45}
# expect: vcpu[0].ppr = 0x40
.include "ipi.inc"
.include "report.inc"

taken:  .long 0
no_eoi:
    inc dword ptr [rip+taken]
    iretq

    .code64
_start:
    set_gate 0x31, no_eoi
    set_gate 0x40, no_eoi
    set_gate 0x45, no_eoi
    set_gate 0x50, no_eoi
    load_idt
    sti
    write_x2apic X2APIC_SELF_IPI, 0x40
    nop
    report [rip+taken]
    write_x2apic X2APIC_SELF_IPI, 0x45  # same class
    write_x2apic X2APIC_SELF_IPI, 0x31  # lower class
    nop
    report [rip+taken]
    write_x2apic X2APIC_SELF_IPI, 0x50  # higher class: taken
    nop
    report [rip+taken]
    write_x2apic X2APIC_EOI, 0          # ends 0x50, the highest in service
    cli
    hlt
