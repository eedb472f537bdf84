# The first kvmclock had MSRs 0x11 and 0x12, numbers that are not KVM's. KVM still takes them.
#
# But if the bootstrap processor uses them KVM gives up the clock that all processors share: the record holds the time
# of its own update, and flag bit 0 is clear. Both numbers name the same register, so that 0x4b564d01 reads back as
# 0x12.
#
# kvm: >=4.19   mode: long64   vendor: both
# expect: reports = [0x40001, 0x40001, 0x1, 0x0]
# expect: memory[0x40000].u32 = 4
# expect: memory[0x40008].u64 > 0
# expect: end = halted
.include "pv.inc"
.include "report.inc"

    .equ CLOCK, 0x40000

    .code64
_start:
    write_msr MSR_KVM_SYSTEM_TIME_NEW, CLOCK+KVM_MSR_ENABLED
    report eax
    movzx ebx, byte ptr [CLOCK+PVCLOCK_FLAGS]
    write_msr MSR_KVM_SYSTEM_TIME, CLOCK+KVM_MSR_ENABLED
    read_msr MSR_KVM_SYSTEM_TIME_NEW
    report eax
    report ebx
    movzx ebx, byte ptr [CLOCK+PVCLOCK_FLAGS]
    report ebx
    hlt
