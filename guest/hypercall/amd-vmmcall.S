# On AMD the instruction is VMMCALL; the registers are the same.
#
# kvm: >=4.19   vcpus: 4   mode: long64   vendor: amd
# expect: rax = 3
# expect: vcpu[1..3].irr = {0xd1}
# expect: exits.vmmcall = 1
# expect: preserved rbx, rcx, rdx, rsi, rdi, rbp, rsp, r8-r15, rflags
.include "constants.inc"

    .code64
_start:
    mov eax, KVM_HC_SEND_IPI
    mov ebx, 0b1110
    xor ecx, ecx
    xor edx, edx
    mov esi, 0xd1
    vmmcall
    hlt
