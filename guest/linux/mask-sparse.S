# APIC IDs far apart in CPU order: the greedy window makes three calls where two would do.
#
# CPUs 0, 1, 2 have the APIC IDs 0, 200, 1. The window starts at 0, 200 does not fit, and neither does 1 afterwards.
#
# kvm: >=4.19   vcpus: 3   ids: 0,200,1   mode: long64
# expect: reports = [0, 1, 200, 1, 1, 1]
# expect: r13 = 3
# expect: vcpu[*].irr = {0xfb}
# expect: exits.vmcall = 3
.include "linux-mask.inc"

mask:
    .long 0, 200, 1

    .code64
_start:
    lea rdi, [rip+mask]
    mov ebp, 3
    mov r12d, 0xfb
    call send_ipi_mask
    hlt
