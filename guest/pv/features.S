# The paravirtual features that KVM offers, version by version: CPUID leaf 0x40000001.
#
# A VMM may show less. Bits 15 to 17 come from the VMM only: it has to do something for them.
#
# kvm: >=4.19   mode: long64   vendor: both
# expect[kvm<5.3-rc1]: rax = 0x01000efb
# expect[kvm>=5.3-rc1 <5.8-rc1]: rax = 0x01003efb
# expect[kvm>=5.8-rc1]: rax = 0x01007efb
# expect: rbx = 0
# expect: rcx = 0
# expect: rdx = 0
# expect: end = halted
.include "constants.inc"

    .code64
_start:
    mov eax, KVM_CPUID_FEATURES
    xor ecx, ecx
    cpuid                           # EDX would hold hints, for example that vCPUs are never preempted
    hlt
