# What IPI virtualization does not send: logical destinations, NMIs, absent targets; each is an APIC-write exit.
#
# Reserved bits are the processor's own affair: #GP in every version, where KVM began to care in v6.12 only.
#
# kvm: >=6.0   vcpus: 3   mode: long64   aps: wait-for-sipi   apicv: ipiv
# expect: vcpu[1].irr = {0x40, 0x41}
# expect: vcpu[2].irr = {0x42}
# expect: vcpu[2].nmi = 1
# expect: exits.apic_write = 4
# expect: exits.wrmsr = 0
# expect: memory[caught_count].u64 = 1
# expect: events.kvm_apic_ipi = 4
# expect: end = halted
.include "ipi.inc"

    .code64
_start:
    catch GP
    load_idt
    write_icr 0x40, 1                       # no exit
    write_icr ICR_LOGICAL|0x41, 1 << 1      # cluster 0, second member
    write_icr ICR_NMI, 2
    write_icr 0x43, 9                       # nobody there
    write_icr ICR_LOWEST_PRIORITY|0x42, 2
    resume_at 1f
    write_icr 1 << 13 | 0x44, 1
1:
    hlt
