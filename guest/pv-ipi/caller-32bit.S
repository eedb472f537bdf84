# A 32-bit caller has two words of 32 bits: 64 destinations at most.
#
# kvm: >=4.19   vcpus: 70   mode: prot32
# expect: rax = 64
# expect: vcpu[0,65..69].irr = {}
# expect: vcpu[1..64].irr = {0xd1}
# expect: preserved rbx, rcx, rdx, rsi, rdi, rbp, rsp, rflags
# expect: exits.vmcall = 1
.include "constants.inc"

    .code32
_start:
    mov eax, KVM_HC_SEND_IPI
    mov ebx, -1                     # IDs min + 0 to min + 31
    mov ecx, -1                     # IDs min + 32 to min + 63
    mov edx, 1
    mov esi, 0xd1
    vmcall
    hlt
