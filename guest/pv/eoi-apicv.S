# PV EOI is never offered where the hardware performs EOIs: the guest's write of the register is no exit there anyway.
#
# The same guest as eoi.S, under APICv. KVM keeps the byte 0, so that the handler writes the register each time.
#
# kvm: >=4.19   mode: long64   apicv: on
# expect: memory[received].u64 = 3
# expect: memory[offered].u64 = 0
# expect: events.kvm_pv_eoi = 0
# expect: isr = {}
# expect: end = halted
.include "pv.inc"

eoi_byte:   .long 0
offered:    .quad 0

handler:
    push rax
    push rcx
    push rdx
    lock inc qword ptr [rip+received]
    bt dword ptr [rip+eoi_byte], 0
    adc qword ptr [rip+offered], 0
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
    write_msr MSR_KVM_PV_EOI_EN, rbx
    sti
    write_icr 0x40
    write_icr 0x40
    write_icr 0x40
    cli
    hlt
