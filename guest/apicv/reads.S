# Under APICv the guest reads its APIC without exits, except for the timer's current count.
#
# Until v6.2 the processor answered for every MSR of the range: 0x80e, which is no x2APIC register, gave what the xAPIC's
# destination format register held. Since v6.3 it raises #GP as without APICv (b223649576fc).
#
# kvm: >=4.19   mode: long64   apicv: on
# expect: rbx = 0
# expect: rsi = 0x1ff
# expect[kvm<6.3]: exits.rdmsr = 1
# expect[kvm<6.3]: memory[caught_count].u64 = 0
# expect[kvm<6.3]: rdi = 0xffffffff
# expect[kvm>=6.3]: exits.rdmsr = 2
# expect[kvm>=6.3]: memory[caught_count].u64 = 1
# expect: end = halted
.include "ipi.inc"

    .code64
_start:
    catch GP
    load_idt
    read_x2apic_id
    mov ebx, eax
    mov ecx, X2APIC_SVR
    rdmsr
    mov esi, eax
    mov ecx, X2APIC_PPR
    rdmsr
    mov ecx, X2APIC_TMCCT
    rdmsr
    resume_at 1f
    mov ecx, 0x80e
    rdmsr
    mov edi, eax
1:
    hlt
