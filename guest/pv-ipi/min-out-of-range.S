# A window beyond every APIC ID reaches nobody; the first kernels read memory outside their table.
#
# As merged, min was a signed number without any check: 0xffffffff indexed the table at -1.
# Fixed two weeks later by bdf7ffc89922 (v4.19-rc3).
#
# kvm: >=4.19-rc1   vcpus: 4   mode: long64
# expect[kvm>=4.19]: rax = 0
# expect[kvm>=4.19]: vcpu[*].irr = {}
# expect[kvm>=4.19]: end = halted
# expect[kvm<4.19]: end = host-bug
.include "constants.inc"

    .code64
_start:
    mov eax, KVM_HC_SEND_IPI
    mov ebx, 0xffffffff
    xor ecx, ecx
    mov edx, 0xffffffff
    xor esi, esi
    vmcall
    hlt
