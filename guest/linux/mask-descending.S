# IDs in descending order: the window moves down and its bits move up, still one call.
#
# 130 comes first, then 3: 127 apart, they just fit. 2 does not.
#
# kvm: >=4.19   vcpus: 4   ids: 0,130,3,2   mode: long64
# expect: reports = [3, 2, 2, 1]
# expect: vcpu[1..3].irr = {0xfb}
# expect: exits.vmcall = 2
.include "linux-mask.inc"

mask:
    .long 130, 3, 2

    .code64
_start:
    lea rdi, [rip+mask]
    mov ebp, 3
    mov r12d, 0xfb
    call send_ipi_mask
    hlt
