# What KVM_ASYNC_PF_EN takes, before and after the interrupt of v5.8.
#
# Bit 3 was reserved and became "ready events come as an interrupt". Since v5.8 the interface is active only with bits 0
# and 3 both set, and the vector stands in an MSR of its own, one byte. Before v5.8 that MSR does not exist.
#
# kvm: >=4.19   mode: long64   vendor: both
# expect[kvm<5.8-rc1]: reports = [0, 1, 1, 0, 0, 1, 1]
# expect[kvm>=5.8-rc1]: reports = [0, 1, 0, 0, 0, 0, 1]
# expect: end = halted
.include "pv.inc"
.include "report.inc"

# Reports 1 if the write raises #GP.
.macro faults msr, value
    mov qword ptr [rip+caught_count], 0
    try_write_msr \msr, \value
    mov rbx, [rip+caught_count]
    report ebx
.endm

    .code64
_start:
    catch GP
    load_idt
    faults MSR_KVM_ASYNC_PF_EN, 0x40000                 # off
    faults MSR_KVM_ASYNC_PF_EN, 0x40010                 # bit 4 is reserved
    faults MSR_KVM_ASYNC_PF_EN, 0x40008                 # bit 3
    faults MSR_KVM_ASYNC_PF_EN, 0x40007                 # bits 1 and 2: in the kernel too, as exit to a nested host
    faults MSR_KVM_ASYNC_PF_EN, 0x40000
    faults MSR_KVM_ASYNC_PF_INT, 0xec
    faults MSR_KVM_ASYNC_PF_INT, 0x100
    hlt
