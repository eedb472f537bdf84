# With the patching quirk disabled (KVM_X86_QUIRK_FIX_HYPERCALL_INSN) the wrong instruction is a plain #UD.
#
# The guest's handler catches it and its code stays as it is. The quirk can be disabled since v5.19.
#
# kvm: >=5.19   mode: long64   quirks-off: 0x20
# expect: memory[caught_vector].u64 = 6
# expect: memory[caught_rip].u64 = instruction
# expect: memory[instruction].u32 = 0x90d9010f
# expect: exits.vmcall = 0
# expect: counters.hypercalls = 0
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
