# The first send-IPI hypercall indexed its table with a signed number nobody had checked.
#
# min = 0xffffffff is APIC ID -1. Any guest could so make the host read outside the table. Fixed in v4.19-rc3 by
# bdf7ffc89922, "KVM: LAPIC: Fix pv ipis out-of-bounds access": the number is unsigned and compared with the
# largest ID.
#
# kvm: >=4.19-rc1   vcpus: 2   mode: long64   vendor: both
# expect[kvm<4.19-rc3]: end = host-bug
# expect[kvm<4.19-rc3]: bug = pv-ipi-out-of-bounds
# expect[kvm<4.19-rc3]: events.kvm_apic_accept_irq = 0
# expect[kvm>=4.19-rc3]: rax = 0
# expect[kvm>=4.19-rc3]: vcpu[*].irr = {}
.include "pvipi.inc"

    .code64
_start:
    send_ipi 0xffffffff, 0, 0xffffffff, 0x40
    hlt
