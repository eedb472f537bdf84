# KVM_POLL_CONTROL: a guest that polls itself before HLT tells the host not to poll as well. Only bit 0 exists.
#
# kvm: >=5.3   mode: long64   vendor: both
# expect: reports = [1, 0, 0]
# expect: memory[caught_count].u64 = 1
# expect: end = halted
.include "pv.inc"
.include "report.inc"

    .code64
_start:
    catch GP
    load_idt
    read_msr MSR_KVM_POLL_CONTROL
    report eax                      # the host may poll
    write_msr MSR_KVM_POLL_CONTROL, 0
    read_msr MSR_KVM_POLL_CONTROL
    report eax
    try_write_msr MSR_KVM_POLL_CONTROL, 2
    read_msr MSR_KVM_POLL_CONTROL
    report eax
    hlt
