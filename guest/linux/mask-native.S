# The same 79 processors without the hypercall: one ICR write each, and each an exit.
#
# This is what the physical x2APIC driver does, and what the fastpath makes cheaper.
#
# kvm: >=4.19   vcpus: 80   mode: long64   vendor: both
# expect: vcpu[1..79].irr = {0xfb}
# expect: exits.wrmsr = 79
# expect[kvm>=5.6-rc1]: fastpath = 79
.include "pvipi.inc"

    .code64
_start:
    mov ecx, X2APIC_ICR
    mov edx, 79
    mov eax, 0xfb
1:
    wrmsr
    dec edx
    jnz 1b
    hlt
