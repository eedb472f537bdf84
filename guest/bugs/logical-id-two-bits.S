# A processor with two bits in its logical APIC ID could not be reached by the second one.
#
# In the flat model every bit of LDR counts, but KVM's table entered a processor under its lowest bit only. Since v6.3
# (2970052481b9) such an ID turns the logical table off, and every APIC is asked.
#
# kvm: >=4.19   vcpus: 2   mode: long64   apic: xapic   vendor: both
# expect[kvm<6.3-rc1]: vcpu[0].irr = {0x41}
# expect[kvm>=6.3-rc1]: vcpu[0].irr = {0x40, 0x41}
# expect: vcpu[1].irr = {}
.include "pvipi.inc"

    .equ XAPIC_LDR, XAPIC+0xd0

    .code64
_start:
    mov ebp, XAPIC_LDR
    mov dword ptr [rbp], 3 << 24
    mov ebp, XAPIC_ICR2
    mov esi, XAPIC_ICR
    mov dword ptr [rbp], 2 << 24    # the second bit
    mov dword ptr [rsi], ICR_LOGICAL|0x40
    mov dword ptr [rbp], 1 << 24    # the first one
    mov dword ptr [rsi], ICR_LOGICAL|0x41
    hlt
