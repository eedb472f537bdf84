# In xAPIC mode the ICR is memory: two stores, two exits for emulation, and no fastpath at all.
#
# kvm: >=5.6-rc1   vcpus: 4   mode: long64   apic: xapic   vendor: both
# expect: vcpu[1].irr = {0xf0}
# expect[vendor=intel]: exits.ept_violation = 2
# expect[vendor=amd]: exits.npf = 2
# expect: exits.wrmsr = 0
# expect: fastpath = 0
.include "constants.inc"

    .code64
_start:
    mov ebx, XAPIC_ICR2
    mov dword ptr [rbx], 1 << 24    # destination: bits 31:24
    mov ebx, XAPIC_ICR
    mov dword ptr [rbx], 0xf0       # this store sends
    hlt
