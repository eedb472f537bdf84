# KVM_HC_MAP_GPA_RANGE is for user space; a VMM that has not asked for it never sees it.
#
# kvm: >=4.19   mode: long64
# expect: rax = -1000
# expect: end = halted
.include "constants.inc"

    .code64
_start:
    mov eax, KVM_HC_MAP_GPA_RANGE
    mov ebx, 0x100000               # guest-physical address
    mov ecx, 1                      # number of 4 KiB pages
    mov edx, 0x10                   # encrypted
    vmcall
    hlt
