# 255 processors need two hypercalls: a window holds 128.
#
# kvm: >=4.19   vcpus: 255   mode: long64
# expect: reports = [128, 127]
# expect: vcpu[*].irr = {0xf0}
# expect: exits.vmcall = 2
.include "pvipi.inc"
.include "report.inc"

    .code64
_start:
    send_ipi -1, -1, 0, ICR_FIXED|0xf0
    report eax
    movabs rcx, 0x7fffffffffffffff  # the last bit would be ID 255, which does not exist
    mov edx, 128
    mov eax, KVM_HC_SEND_IPI
    vmcall
    report eax
    hlt
