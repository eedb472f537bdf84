# At CPL 3 every hypercall returns -KVM_EPERM, known number or not.
#
# VMCALL exits at any privilege level; it is KVM that refuses. No exception: RIP moves on. The privilege is checked
# before the number, so even an unknown one gets -1.
#
# kvm: >=4.19   vcpus: 2   mode: long64   cpl: 3
# expect: rcx = -1
# expect: rax = 0
# expect: reports = [0xffffffff, 0xffffffff]
# expect: vcpu[*].irr = {}
# expect: counters.hypercalls = 2
# expect: preserved rbx, rcx, rdx, rsi, rdi, rbp, rsp, r8-r15, rflags
# expect: end = exit 0
.include "report.inc"

    .code64
_start:
    mov eax, KVM_HC_SEND_IPI
    mov ebx, 0b11
    xor ecx, ecx
    xor edx, edx
    mov esi, 0xd1
    vmcall
    report eax                      # IOPL is 3, so user mode may use ports
    mov eax, 12345
    vmcall
    out REPORT_PORT, eax
    mov rcx, rax                    # all 64 bits are set
    xor eax, eax
    finish
