# Real mode can make hypercalls too; it counts as a 32-bit caller.
#
# kvm: >=4.19   vcpus: 4   mode: real16
# expect: rax = 3
# expect: vcpu[1..3].irr = {0xd1}
.include "constants.inc"

    .code16
_start:
    mov eax, KVM_HC_SEND_IPI
    mov ebx, 0b1110
    xor ecx, ecx
    xor edx, edx
    mov esi, 0xd1
    vmcall
    hlt
