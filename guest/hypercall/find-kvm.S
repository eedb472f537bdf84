# How a guest finds out that it runs under KVM and may send IPIs by hypercall.
#
# kvm: >=4.19   mode: long64   vendor: both
# expect: console = "KVMKVMKVM"
# expect: reports = [0x40000001, 1]
# expect: exits.cpuid = 3
.include "report.inc"

    .code64
_start:
    mov eax, 1
    cpuid
    bt ecx, 31                      # a hypervisor is present
    jnc out
    mov eax, KVM_CPUID_SIGNATURE
    cpuid                           # EAX = last leaf; EBX, ECX, EDX = 12 characters, the last three are zero
    report eax
1:
    print bl
    shr ebx, 8
    jnz 1b
1:
    print cl
    shr ecx, 8
    jnz 1b
    print dl
    mov eax, KVM_CPUID_FEATURES
    cpuid
    shr eax, KVM_FEATURE_PV_SEND_IPI
    and eax, 1
    out REPORT_PORT, eax
out:
    hlt
