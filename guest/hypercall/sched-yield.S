# KVM_HC_SCHED_YIELD gives the rest of the time slice to another processor; 0 whether or not there is one.
#
# kvm: >=4.19   vcpus: 2   mode: long64
# expect[kvm>=5.3]: reports = [0, 0]
# expect[kvm<5.3]: reports = [0xfffffc18, 0xfffffc18]
.include "report.inc"

    .code64
_start:
    mov eax, KVM_HC_SCHED_YIELD
    mov ebx, 1                      # APIC ID
    vmcall
    report eax
    mov eax, KVM_HC_SCHED_YIELD
    mov ebx, 500                    # nobody
    vmcall
    report eax
    hlt
