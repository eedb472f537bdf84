# MSR 0x83f cannot be read.
#
# kvm: >=4.19   mode: long64   vendor: both
# expect: memory[caught_vector].u64 = 13
# expect: memory[caught_error].u64 = 0
.include "idt.inc"
.include "pvipi.inc"

    .code64
_start:
    catch GP
    load_idt
    resume_at over
    mov ecx, X2APIC_SELF_IPI
    rdmsr
over:
    hlt
