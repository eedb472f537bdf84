# Whether the destination of an x2APIC IPI is still there when the APIC is an xAPIC again.
#
# KVM keeps the x2APIC's ICR as two 32-bit registers, the second of which is the xAPIC's ICR2, or as one of 64 bits beside ICR2. Which it is
# goes by version and vendor: two before v5.18 (a57a31684d7b), then one, and since v6.12 two again on AMD (73b42dc69be8).
#
# kvm: >=4.19   mode: long64   vendor: both
# expect[kvm<5.18-rc1]: rax = 0x12000000
# expect[kvm>=5.18-rc1 kvm<6.12-rc1]: rax = 0
# expect[kvm>=6.12-rc1 vendor=intel]: rax = 0
# expect[kvm>=6.12-rc1 vendor=amd]: rax = 0x12000000
# expect: vcpu[0].apic = xapic
.include "pvipi.inc"

.macro set_apic_mode bits
    mov ecx, IA32_APIC_BASE
    mov eax, XAPIC|APIC_BASE_BSP|\bits
    xor edx, edx
    wrmsr
.endm

    .code64
_start:                                     # starts in x2APIC mode
    write_icr 0x40, 0x12000000              # to nobody
    set_apic_mode 0
    set_apic_mode APIC_BASE_EN
    mov ebx, XAPIC
    mov eax, [rbx+0x310]
    hlt
