# A 32-bit caller gets its error number in EAX; the upper half of RAX is zero.
#
# kvm: >=4.19   vcpus: 2   mode: prot32
# expect: rax = 0xffffffea
.include "constants.inc"

    .code32
_start:
    mov eax, KVM_HC_SEND_IPI
    mov ebx, 0b11
    xor ecx, ecx
    xor edx, edx
    mov esi, ICR_LOGICAL|0xd1
    vmcall
    hlt
