# In xAPIC mode the ID register is writable, and destinations are the IDs as they are now.
#
# kvm: >=4.19   vcpus: 2   mode: long64   apic: xapic
# expect: reports = [0, 1]
# expect: vcpu[0].irr = {0x41}
# expect: vcpu[1].irr = {}
.include "pvipi.inc"
.include "report.inc"

    .code64
_start:
    mov ebp, XAPIC_ID
    mov dword ptr [rbp], 9 << 24    # was 0
    send_ipi 1, 0, 0, 0x40          # nobody has the old ID any more
    report eax
    send_ipi 1, 0, 9, 0x41
    report eax
    hlt
