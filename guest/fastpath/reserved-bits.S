# Reserved ICR bits: ignored by the fastpath before v6.12, refused since, and then the slow path raises #GP.
#
# kvm: >=5.6-rc1   vcpus: 4   mode: long64   vendor: both
# expect[kvm<6.12]: vcpu[1].irr = {0xf0}
# expect[kvm<6.12]: fastpath = 1
# expect[kvm<6.12]: memory[caught_count].u64 = 0
# expect[kvm>=6.12]: vcpu[1].irr = {}
# expect[kvm>=6.12]: fastpath = 0
# expect[kvm>=6.12]: fastpath.reason = "reserved bits"
# expect[kvm>=6.12]: memory[caught_vector].u64 = 13
.include "idt.inc"
.include "pvipi.inc"

    .code64
_start:
    catch GP
    load_idt
    resume_at over
    write_icr (1<<20)|0xf0, 1
over:
    hlt
