# More than a vector in MSR 0x83f: #GP since v6.3, ignored before.
#
# kvm: >=4.19   mode: long64   vendor: both
# expect[kvm>=6.3]: memory[caught_vector].u64 = 13
# expect[kvm>=6.3]: vcpu[0].irr = {}
# expect[kvm<6.3]: memory[caught_count].u64 = 0
# expect[kvm<6.3]: vcpu[0].irr = {0x40}
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
