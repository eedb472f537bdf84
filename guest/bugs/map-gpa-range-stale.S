# A VMM that forgets to set the result of MAP_GPA_RANGE: until v6.13 the guest got the result of the call before.
#
# Since v6.14 (commit 9a1dfeff4414) KVM clears the field before it leaves, so that forgetting means success.
#
# kvm: >=5.14   mode: long64   exit-hypercalls: 0x1000   hypercall-returns: -7, untouched
# expect[kvm<6.14-rc1]: reports = [0xfffffff9, 0xfffffff9]
# expect[kvm>=6.14-rc1]: reports = [0xfffffff9, 0]
# expect: end = halted
.include "report.inc"

    .code64
_start:
    mov ebp, 2
1:  mov eax, KVM_HC_MAP_GPA_RANGE
    mov ebx, 0x100000
    mov ecx, 1
    mov edx, 0x10
    vmcall
    report eax
    dec ebp
    jnz 1b
    hlt
