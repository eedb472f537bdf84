# From v6.9 to v6.13 user space never heard of a 32-bit MAP_GPA_RANGE call with garbage in RAX[63:32].
#
# KVM compared the number twice: once cut to 32 bits, as a 32-bit caller's number must be, and once whole. So it
# prepared the exit to user space and then did not take it, but returned 0. The guest believes that its pages are
# shared, and they are not.
#
# kvm: >=5.14   mode: long64   exit-hypercalls: 0x1000   hypercall-returns: -7
# expect[kvm<6.9-rc1]: rax = 0xfffffff9
# expect[kvm>=6.9-rc1 <6.14-rc1]: rax = 0
# expect[kvm>=6.14-rc1]: rax = 0xfffffff9
# expect[kvm>=6.9-rc1 <6.14-rc1]: events.kvm_userspace_exit = 0
# expect[kvm>=6.14-rc1]: events.kvm_userspace_exit = 1
# expect: end = halted
.include "constants.inc"

compat_target:
    .long compat
    .word CODE32

    .code64
_start:
    movabs rax, 0xdeadbeef00000000|KVM_HC_MAP_GPA_RANGE
    mov ebx, 0x100000
    mov ecx, 1
    mov edx, 0x10
    ljmp [rip+compat_target]

    .code32
compat:
    vmcall
    hlt
