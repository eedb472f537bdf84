# A 64-bit caller's number is all of RAX: 0x10000000a is no hypercall, although EAX is 10.
#
# kvm: >=4.19   vcpus: 2   mode: long64
# expect: rax = -1000
# expect: vcpu[1].irr = {}
.include "constants.inc"

    .code64
_start:
    movabs rax, 0x100000000|KVM_HC_SEND_IPI
    mov ebx, 0b10
    xor ecx, ecx
    xor edx, edx
    mov esi, 0xd1
    vmcall
    hlt
