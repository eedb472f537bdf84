# Bits above the vector in a self IPI were ignored: 0x140 sent vector 0x40.
#
# The SDM has them reserved; hardware raises #GP. So does KVM since v6.3: ba5838abb053, "KVM: x86: Inject #GP if
# WRMSR sets reserved bits in APIC Self-IPI".
#
# kvm: >=4.19   mode: long64   vendor: both
# expect[kvm<6.3-rc1]: memory[caught_count].u64 = 0
# expect[kvm<6.3-rc1]: vcpu[0].irr = {0x40}
# expect[kvm>=6.3-rc1]: memory[caught_vector].u64 = 13
# expect[kvm>=6.3-rc1]: memory[caught_error].u64 = 0
# expect[kvm>=6.3-rc1]: vcpu[0].irr = {}
.include "idt.inc"
.include "pvipi.inc"

    .code64
_start:
    catch GP
    load_idt
    resume_at over
    write_x2apic X2APIC_SELF_IPI, 0x140
over:
    hlt
