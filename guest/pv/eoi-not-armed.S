# PV EOI is not offered while another interrupt waits: its injection needs the host at the end of the first one.
#
# Both vectors are requested before interrupts are enabled. The higher one is injected first, with the lower one still
# in IRR, so it must be ended through the register. The lower one is the last and gets the byte.
#
# kvm: >=4.19   mode: long64   vendor: both
# expect: reports = [0x50, 0, 0x40, 1]
# expect: events.kvm_pv_eoi = 1
# expect: isr = {}
# expect: end = halted
.include "pv.inc"
.include "report.inc"

eoi_byte:   .long 0

.macro handler vector
handler_\vector:
    push rax
    push rcx
    push rdx
    mov r8d, [rip+eoi_byte]         # first of all: any exit takes the offer back
    pv_eoi eoi_byte
    report \vector
    report r8d
    pop rdx
    pop rcx
    pop rax
    iretq
.endm

    .code64
handler 0x40
handler 0x50

_start:
    set_gate 0x40, handler_0x40
    set_gate 0x50, handler_0x50
    load_idt
    lea rbx, [rip+eoi_byte]
    or rbx, KVM_MSR_ENABLED
    write_msr MSR_KVM_PV_EOI_EN, rbx
    write_icr 0x40
    write_icr 0x50
    sti
    nop
    cli
    hlt
