# With PV features enforced, a hidden PV_SEND_IPI bit makes the hypercall unknown.
#
# The VMM shows CPUID leaf 0x40000001 without bit 11 and asks KVM to enforce that. Kernels before v5.10 cannot
# enforce anything and send, whatever CPUID says.
#
# kvm: >=4.19   vcpus: 2   mode: long64   pv-features: 0x80   enforce-pv: true
# expect[kvm>=5.10]: rax = -1000
# expect[kvm>=5.10]: vcpu[1].irr = {}
# expect[kvm<5.10]: rax = 1
# expect[kvm<5.10]: vcpu[1].irr = {0xf0}
# expect: reports = [0]
.include "pvipi.inc"
.include "report.inc"

    .code64
_start:
    mov eax, KVM_CPUID_FEATURES
    cpuid
    shr eax, KVM_FEATURE_PV_SEND_IPI
    and eax, 1
    report eax                      # what a well-behaved guest looks at first
    send_ipi 0b10, 0, 0, 0xf0
    hlt
