# A 64-bit caller reaches 128 processors at once: RBX covers min+0 to min+63, RCX min+64 to min+127.
#
# kvm: >=4.19   vcpus: 66   mode: long64
# expect: rax = 4
# expect: vcpu[1,63..65].irr = {0xd1}
# expect: vcpu[0,2..62].irr = {}
# expect: exits.vmcall = 1
# expect: preserved rbx, rcx, rdx, rsi, rdi, rbp, rsp, r8-r15, rflags
.include "constants.inc"

    .code64
_start:
    mov eax, KVM_HC_SEND_IPI
    movabs rbx, 0x8000000000000002  # APIC IDs 1 and 63
    mov ecx, 0b11                   # APIC IDs 64 and 65
    xor edx, edx
    mov esi, ICR_FIXED|0xd1
    vmcall
    hlt
