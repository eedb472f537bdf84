# KVM rewrote the other vendor's hypercall instruction in guest memory, and no VMM could say no.
#
# A guest that measures or protects its code does not like that. Since v5.19 KVM_X86_QUIRK_FIX_HYPERCALL_INSN can be
# disabled, as this VMM does: #UD, and the three bytes stay.
#
# kvm: >=4.19   mode: long64   quirks-off: 0x20
# expect[kvm<5.19-rc1]: memory[instruction].u32 = 0x90c1010f
# expect[kvm<5.19-rc1]: memory[caught_count].u64 = 0
# expect[kvm<5.19-rc1]: exits.vmcall = 1
# expect[kvm>=5.19-rc1]: memory[instruction].u32 = 0x90d9010f
# expect[kvm>=5.19-rc1]: memory[caught_vector].u64 = 6
# expect[kvm>=5.19-rc1]: exits.vmcall = 0
.include "idt.inc"

    .code64
_start:
    catch UD
    load_idt
    resume_at over
    mov eax, KVM_HC_VAPIC_POLL_IRQ
instruction:
    vmmcall
    nop
over:
    hlt
