# What KVM_PV_EOI_EN takes: bit 0 enables, the rest is the address of a 4-byte aligned word in memory.
#
# kvm: >=4.19   mode: long64   vendor: both
# expect: memory[caught_count].u64 = 3
# expect: reports = [0x40001, 0x40001, 0]
# expect: end = halted
.include "pv.inc"
.include "report.inc"

    .code64
_start:
    catch GP
    load_idt
    write_msr MSR_KVM_PV_EOI_EN, 0x40001
    report eax
    try_write_msr MSR_KVM_PV_EOI_EN, 0x40003            # bit 1 must be 0
    try_write_msr MSR_KVM_PV_EOI_EN, 0x40002            # also when it stays off
    movabs rbx, 0x100000000001
    try_write_msr MSR_KVM_PV_EOI_EN, rbx                # no memory there
    read_msr MSR_KVM_PV_EOI_EN
    report eax                                          # refused writes change nothing
    write_msr MSR_KVM_PV_EOI_EN, 0
    read_msr MSR_KVM_PV_EOI_EN
    report eax
    hlt
