# RDX counts as a 32-bit number: its upper half is ignored.
#
# kvm: >=4.19   vcpus: 4   mode: long64
# expect: rax = 1
# expect: vcpu[3].irr = {0xf0}
# expect: vcpu[0..2].irr = {}
# expect: rdx = 0x100000003
.include "constants.inc"

    .code64
_start:
    mov eax, KVM_HC_SEND_IPI
    mov ebx, 1
    xor ecx, ecx
    movabs rdx, 0x100000003
    mov esi, 0xf0
    vmcall
    hlt
