# The upper half of an x2APIC register was ignored: WRMSR of 1 << 32 to the EOI register ended the interrupt.
#
# These registers are 32 bits wide, the rest is reserved. Since v6.3 (ab52be1b310b, "KVM: x86: Inject #GP on
# x2APIC WRMSR that sets reserved bits 63:32") the write faults and the interrupt stays in service. Only ICR has
# an upper half.
#
# kvm: >=4.19   mode: long64   vendor: both
# expect[kvm<6.3-rc1]: memory[caught_count].u64 = 0
# expect[kvm<6.3-rc1]: vcpu[0].isr = {}
# expect[kvm>=6.3-rc1]: memory[caught_vector].u64 = 13
# expect[kvm>=6.3-rc1]: vcpu[0].isr = {0x40}
# expect: counters.irq_injections = 1
.include "idt.inc"
.include "pvipi.inc"

end_of_interrupt:
    mov ecx, X2APIC_EOI
    xor eax, eax
    mov edx, 1
    resume_at over
    wrmsr
over:
    hlt

    .code64
_start:
    catch GP
    set_gate 0x40, end_of_interrupt
    load_idt
    sti
    write_x2apic X2APIC_SELF_IPI, 0x40
1:  jmp 1b
