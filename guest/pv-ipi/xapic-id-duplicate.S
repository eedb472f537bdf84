# Two processors with the same xAPIC ID: since v6.3 KVM then has no ID table, and every call fails with -95.
#
# Before, the first processor with the ID got it. -95 is -EOPNOTSUPP, a number Linux guests only warn about.
#
# kvm: >=4.19   vcpus: 2   mode: long64   apic: xapic
# expect[kvm>=6.3]: rax = -95
# expect[kvm>=6.3]: vcpu[0].irr = {}
# expect[kvm<6.3]: rax = 1
# expect[kvm<6.3]: vcpu[0].irr = {0x40}
# expect: vcpu[1].irr = {}
.include "pvipi.inc"

    .code64
_start:
    mov ebp, XAPIC_ID
    mov dword ptr [rbp], 1 << 24    # the ID of processor 1
    send_ipi 0b10, 0, 0, 0x40
    hlt
