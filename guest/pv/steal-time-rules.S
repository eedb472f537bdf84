# What KVM_STEAL_TIME takes: bit 0 enables, bits 5:1 are reserved, the record is 64-byte aligned.
#
# Until v5.5 the host looked for the memory at once; since then (a fix for CVE-2019-3016) it looks each time it writes
# the record, and an address without memory is accepted and useless.
#
# kvm: >=4.19   mode: long64   vendor: both
# expect[kvm<5.6-rc1]: memory[caught_count].u64 = 3
# expect[kvm>=5.6-rc1]: memory[caught_count].u64 = 2
# expect: reports = [0x40001]
# expect: end = halted
.include "pv.inc"
.include "report.inc"

    .code64
_start:
    catch GP
    load_idt
    movabs rbx, 0x100000000001
    try_write_msr MSR_KVM_STEAL_TIME, rbx
    write_msr MSR_KVM_STEAL_TIME, 0x40001
    try_write_msr MSR_KVM_STEAL_TIME, 0x40003
    try_write_msr MSR_KVM_STEAL_TIME, 0x40021
    read_msr MSR_KVM_STEAL_TIME
    report eax
    hlt
