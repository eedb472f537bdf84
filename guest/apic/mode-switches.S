# Which changes of the APIC mode are allowed: x2APIC cannot go back to xAPIC without passing through disabled.
#
# kvm: >=4.19   mode: long64   vendor: both
# expect: reports = [1, 1, 2]
# expect: vcpu[0].apic = xapic
.include "idt.inc"
.include "pvipi.inc"
.include "report.inc"

.macro set_apic_mode bits
    mov ecx, IA32_APIC_BASE
    mov eax, XAPIC|APIC_BASE_BSP|\bits
    xor edx, edx
    wrmsr
.endm

    .code64
_start:                                     # starts in x2APIC mode
    catch GP
    load_idt
    resume_at 1f
    set_apic_mode APIC_BASE_EN              # x2APIC to xAPIC: #GP
1:
    report [rip+caught_count]
    set_apic_mode 0                         # x2APIC to disabled: fine
    report [rip+caught_count]
    resume_at 1f
    set_apic_mode APIC_BASE_EN|APIC_BASE_EXTD   # disabled to x2APIC: #GP
1:
    report [rip+caught_count]
    set_apic_mode APIC_BASE_EN              # disabled to xAPIC: fine
    hlt
