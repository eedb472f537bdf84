# Two processors with one xAPIC ID: only the first heard an IPI to it.
#
# Hardware delivers to both. KVM's table has one place per ID, and the first one kept it. Since v6.3
# (5b84b0291702, "KVM: x86: Honor architectural behavior for aliased 8-bit APIC IDs") there is no table then:
# every APIC is asked, both receive, and the hypercall, which needs the table, fails with -95.
#
# kvm: >=4.19   vcpus: 3   mode: long64   apic: xapic   vendor: both
# expect[kvm<6.3-rc1]: vcpu[1].irr = {}
# expect[kvm<6.3-rc1]: vcpu[0].irr = {0x40, 0x41}
# expect[kvm<6.3-rc1]: rax = 1
# expect[kvm>=6.3-rc1]: vcpu[0..1].irr = {0x40}
# expect[kvm>=6.3-rc1]: rax = -95
# expect: vcpu[2].irr = {}
.include "pvipi.inc"

    .code64
_start:
    mov ebp, XAPIC_ID
    mov dword ptr [rbp], 1 << 24    # the ID of processor 1
    mov ebp, XAPIC_ICR2
    mov dword ptr [rbp], 1 << 24
    mov ebp, XAPIC_ICR
    mov dword ptr [rbp], 0x40
    send_ipi 0b10, 0, 0, 0x41
    hlt
