# PV EOI. The host sets a byte when the end of an interrupt needs nothing from it, and the guest saves an exit.
#
# Three interrupts are ended through the byte. KVM notices after the next exit that the byte has been cleared, and only
# then takes the vector out of service. Each interrupt costs its ICR write and no more.
#
# kvm: >=4.19   mode: long64   vendor: both
# expect: memory[received].u64 = 3
# expect: memory[saved].u64 = 3
# expect: exits.wrmsr = 4
# expect: isr = {}
# expect: memory[eoi_byte].u32 = 0
# expect: events.kvm_pv_eoi = 3
# expect: end = halted
.include "pv.inc"

eoi_byte:   .long 0
saved:  .quad 0

handler:
    push rax
    push rcx
    push rdx
    lock inc qword ptr [rip+received]
    bt dword ptr [rip+eoi_byte], 0
    adc qword ptr [rip+saved], 0
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
    hlt                             # no EOI is left behind: this exit performs the last one
    hlt
