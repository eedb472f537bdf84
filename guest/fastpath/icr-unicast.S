# One write to the x2APIC's ICR, the unicast IPI that KVM handles on its fastpath.
#
# Fixed delivery, physical destination, no shorthand, one target: since v5.6 KVM handles this WRMSR right at the exit,
# before anything else of the exit path runs.
#
# kvm: >=4.19   vcpus: 4   mode: long64   vendor: both
# expect: vcpu[1].irr = {0xf0}
# expect: vcpu[0,2,3].irr = {}
# expect: vcpu[0].icr = 0x1000000f0
# expect: exits.wrmsr = 1
# expect: rax = 0xf0
# expect: rcx = 0x830
# expect: rdx = 1
# expect[kvm>=5.6-rc1]: fastpath = 1
# expect[kvm>=5.6-rc1]: fastpath.reason = "taken"
# expect[kvm<5.6-rc1]: fastpath = 0
.include "constants.inc"

    .code64
_start:
    mov ecx, X2APIC_ICR
    mov edx, 1                      # bits 63:32: the destination, an APIC ID
    mov eax, ICR_FIXED|0xf0         # bits 31:0: everything else
    wrmsr
    hlt
