# With APICv a guest could read x2APIC registers that do not exist: RDMSR of 0x80e, the xAPIC's destination format.
#
# KVM let the processor answer for the whole range, and the processor reads its APIC page without asking what is a
# register. Since v6.3 (b223649576fc, "KVM: x86: Mark x2APIC DFR reg as non-existent for x2APIC") the read
# leaves the guest and faults, as it always has without APICv.
#
# kvm: >=4.19   mode: long64   apicv: on
# expect[kvm<6.3-rc1]: memory[caught_count].u64 = 0
# expect[kvm<6.3-rc1]: exits.rdmsr = 0
# expect[kvm<6.3-rc1]: rax = 0xffffffff
# expect[kvm>=6.3-rc1]: memory[caught_vector].u64 = 13
# expect[kvm>=6.3-rc1]: exits.rdmsr = 1
# expect[kvm>=6.3-rc1]: rax = 0
# expect: end = halted
.include "idt.inc"

    .equ XAPIC_DFR_AS_MSR, 0x80e

    .code64
_start:
    catch GP
    load_idt
    resume_at over
    xor eax, eax
    mov ecx, XAPIC_DFR_AS_MSR
    rdmsr
over:
    hlt
