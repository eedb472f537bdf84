# The first send-IPI hypercall followed the table's pointer for an APIC ID that no processor has.
#
# ID 1 gets its interrupt, then ID 2 stops the host: a NULL dereference. Since v4.19-rc3 (bdf7ffc89922, the fix of the
# out-of-bounds access) empty slots are skipped and not counted.
#
# kvm: >=4.19-rc1   vcpus: 2   mode: long64   vendor: both
# expect[kvm<4.19-rc3]: end = host-bug
# expect[kvm<4.19-rc3]: bug = pv-ipi-empty-slot
# expect[kvm>=4.19-rc3]: rax = 1
# expect: vcpu[1].irr = {0x40}
.include "pvipi.inc"

    .code64
_start:
    send_ipi 0b110, 0, 0, 0x40
    hlt
