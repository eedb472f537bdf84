# A guest could use every PV feature, whatever the CPUID its VMM gave it says.
#
# The VMM hides bit 11 (PV_SEND_IPI) and asks for enforcement. Before v5.10 nobody listened: the IPI is sent. Since
# 66570e966dd9, "kvm: x86: only provide PV features if enabled in guest's CPUID", the call is unknown: -1000 (ENOSYS).
#
# kvm: >=4.19   vcpus: 2   mode: long64   pv-features: 0x80   enforce-pv: true   vendor: both
# expect[kvm<5.10]: rax = 1
# expect[kvm<5.10]: vcpu[1].irr = {0x40}
# expect[kvm>=5.10]: rax = -1000
# expect[kvm>=5.10]: vcpu[1].irr = {}
.include "pvipi.inc"

    .code64
_start:
    send_ipi 0b10, 0, 0, 0x40
    hlt
