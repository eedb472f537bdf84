# Unknown and never implemented numbers return -KVM_ENOSYS, which is -1000 and no Linux errno.
#
# kvm: >=4.19   mode: long64
# expect: rax = -1000
# expect: reports = [0xfffffc18, 0xfffffc18, 0xfffffc18, 0xfffffc18]
# expect: counters.hypercalls = 4
# expect: preserved rbx, rcx, rdx, rsi, rdi, rbp, rsp, r8-r15, rflags
.include "report.inc"

    .code64
_start:
    mov eax, KVM_HC_MMU_OP          # removed long ago
    vmcall
    report eax
    mov eax, KVM_HC_FEATURES        # PowerPC only
    vmcall
    report eax
    mov eax, 13                     # not assigned
    vmcall
    report eax
    mov rax, -1
    vmcall
    out REPORT_PORT, eax            # report would cut RAX to 32 bits
    hlt
