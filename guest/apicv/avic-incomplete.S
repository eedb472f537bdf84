# What x2AVIC does not complete: an NMI, a sleeping target, an absent one; and the EOI of a level-triggered interrupt.
#
# For a sleeper IRR is set already, and KVM only wakes it. An absent target among several stopped the others, too, until
# KVM sent such IPIs itself in v6.3 (5aede752a839).
#
# kvm: >=6.0   vcpus: 3   mode: long64   aps: wait-for-sipi   vendor: amd   avic: yes
# expect: exits.avic_incomplete_ipi = 4
# expect: exits.avic_unaccelerated_access = 1
# expect: exits.wrmsr = 0
# expect: memory[received].u64 = 1
# expect: vcpu[1].nmi = 1
# expect[kvm<6.3]: vcpu[1].irr = {0x41}
# expect[kvm>=6.3]: vcpu[1].irr = {0x41, 0x42}
# expect: vcpu[2].irr = {}
# expect: isr = {}
# expect: end = halted
.include "ipi.inc"

    .code64
_start:
    set_gate 0x40, count_interrupt
    load_idt
    write_icr ICR_NMI, 1
    write_icr 0x41, 1                       # it sleeps
    write_icr ICR_LOGICAL|0x42, 1 << 1 | 1 << 3     # 1 is there, 3 is not
    write_icr ICR_SELF|ICR_LEVEL|ICR_ASSERT|0x40    # level-triggered: KVM has to send it
    sti
    nop
    cli
    hlt
