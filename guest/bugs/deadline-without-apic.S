# The TSC deadline could be armed while the local APIC was globally disabled.
#
# A disabled APIC has no timer. Since v5.8 (d2286ba7d574) the write is ignored; before, the deadline reads back
# and the timer runs.
#
# kvm: >=4.19   mode: long64   vendor: both
# expect[kvm<5.8-rc1]: rax = 0xfffffff0
# expect[kvm>=5.8-rc1]: rax = 0
# expect: apic = disabled
.include "pvipi.inc"

    .code64
_start:
    write_x2apic X2APIC_LVTT, LVTT_TSC_DEADLINE|LVT_MASKED|0x40
    mov ecx, IA32_APIC_BASE
    rdmsr
    and eax, ~(APIC_BASE_EN|APIC_BASE_EXTD)
    wrmsr
    mov ecx, IA32_TSC_DEADLINE
    mov eax, 0xfffffff0
    xor edx, edx
    wrmsr
    rdmsr
    mov ebx, eax
    xor eax, eax
    wrmsr                           # disarmed again
    mov eax, ebx
    hlt
