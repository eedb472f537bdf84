# With PV features enforced, each PV MSR whose CPUID bit is clear raises #GP, on reads and on writes.
#
# This VMM shows no feature at all. Without enforcement, and before v5.10 without the capability itself, KVM lets a
# guest use what CPUID hides. MSRs that a version does not have yet raise #GP anyway.
#
# kvm: >=4.19   mode: long64   pv-features: 0   enforce-pv: yes
# expect: reports = [0, 10, 10]
# expect[kvm>=5.10-rc1]: memory[read_faults].u64 = 10
# expect[kvm>=5.10-rc1]: memory[write_faults].u64 = 10
# expect[kvm>=5.8-rc1 <5.10-rc1]: memory[read_faults].u64 = 0
# expect[kvm>=5.3-rc1 <5.8-rc1]: memory[read_faults].u64 = 2
# expect[kvm<5.3-rc1]: memory[write_faults].u64 = 3
# expect: end = halted
.include "pv.inc"
.include "report.inc"

msrs:   .long MSR_KVM_WALL_CLOCK, MSR_KVM_SYSTEM_TIME, MSR_KVM_WALL_CLOCK_NEW, MSR_KVM_SYSTEM_TIME_NEW
        .long MSR_KVM_ASYNC_PF_EN, MSR_KVM_STEAL_TIME, MSR_KVM_PV_EOI_EN, MSR_KVM_POLL_CONTROL
        .long MSR_KVM_ASYNC_PF_INT, MSR_KVM_ASYNC_PF_ACK
    .equ MSRS, 10
read_faults:    .quad 0
write_faults:   .quad 0

    .code64
_start:
    catch GP
    load_idt
    mov eax, KVM_CPUID_FEATURES
    cpuid
    report eax
    xor ebp, ebp
1:  lea rsi, [rip+msrs]
    mov ecx, [rsi+rbp*4]
    resume_at 2f
    rdmsr
2:  inc ebp
    cmp ebp, MSRS
    jb 1b
    mov rax, [rip+caught_count]
    mov [rip+read_faults], rax
    report ebp
    xor ebp, ebp
3:  lea rsi, [rip+msrs]
    mov ecx, [rsi+rbp*4]
    xor eax, eax                    # "off" is valid everywhere
    xor edx, edx
    resume_at 4f
    wrmsr
4:  inc ebp
    cmp ebp, MSRS
    jb 3b
    mov rax, [rip+caught_count]
    sub rax, [rip+read_faults]
    mov [rip+write_faults], rax
    report ebp
    hlt
