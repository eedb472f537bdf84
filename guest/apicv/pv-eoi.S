# PV EOI has nothing to save under APICv: KVM never sets the byte, and the EOI costs nothing as it is.
#
# kvm: >=4.19   mode: long64   apicv: on
# expect: memory[received].u64 = 3
# expect: exits.wrmsr = 1
# expect: events.kvm_pv_eoi = 0
# expect: events.kvm_eoi = 0
# expect: memory[eoi_byte].u32 = 0
# expect: end = halted
.include "pv.inc"

eoi_byte:   .long 0

handler:
    push rax
    push rcx
    push rdx
    lock inc qword ptr [rip+received]
    pv_eoi eoi_byte
    pop rdx
    pop rcx
    pop rax
    iretq

    .code64
_start:
    set_gate 0x40, handler
    load_idt
    lea rbx, [rip+eoi_byte]
    or rbx, KVM_MSR_ENABLED
    write_msr MSR_KVM_PV_EOI_EN, rbx        # the one exit besides HLT
    sti
    write_x2apic X2APIC_SELF_IPI, 0x40
    write_x2apic X2APIC_SELF_IPI, 0x40
    write_x2apic X2APIC_SELF_IPI, 0x40
    cli
    hlt
