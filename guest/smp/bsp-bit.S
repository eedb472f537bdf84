# Who is the bootstrap processor after an INIT goes by the BSP bit of IA32_APIC_BASE, which is the guest's to write.
#
# With the bit, an INIT ends at the reset vector; without it, the processor waits for a start-up IPI.
#
# kvm: >=4.19   mode: long64   vendor: both
# expect: vcpu[0].mp = init-received
# expect: end = halted
.include "pvipi.inc"

    .code64
_start:
    mov ecx, IA32_APIC_BASE
    mov eax, XAPIC|APIC_BASE_EN|APIC_BASE_EXTD      # as before, but for the BSP bit
    xor edx, edx
    wrmsr
    write_icr ICR_INIT|ICR_ASSERT|ICR_SELF, 0
    ud2                                             # never reached
