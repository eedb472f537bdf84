# A send-IPI hypercall in a VM without local APICs in the kernel crashed the host: CVE-2018-19406.
#
# The VMM has not asked KVM for local APICs, so no table of APIC IDs was ever built; the hypercall did not look
# whether there is one. Fixed in v4.20 by 38ab012f109c, "KVM: LAPIC: Fix pv ipis use-before-initialization": -95
# (EOPNOTSUPP).
#
# kvm: >=4.19-rc1   mode: long64   apic: none   vendor: both
# expect[kvm<4.20]: end = host-bug
# expect[kvm<4.20]: bug = CVE-2018-19406
# expect[kvm>=4.20]: rax = -95
# expect: apic = disabled
.include "pvipi.inc"

    .code64
_start:
    send_ipi 1, 0, 0, 0x40
    hlt
