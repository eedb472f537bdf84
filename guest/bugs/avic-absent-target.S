# One absent processor among the targets of an IPI, and with AVIC the others did not get it either.
#
# The processor sends such an IPI to nobody and leaves the guest: incomplete IPI, invalid target. KVM took that for
# an IPI that has no target at all. Since v6.3 (5aede752a839, "KVM: SVM: Process ICR on AVIC IPI delivery failure
# due to invalid target") it sends the IPI itself.
#
# kvm: >=4.19   vcpus: 2   mode: long64   aps: run   apic: xapic   vendor: amd   avic: yes
# expect[kvm<6.3-rc1]: vcpu[*].irr = {0x41}
# expect[kvm>=6.3-rc1]: vcpu[*].irr = {0x40, 0x41}
# expect: vcpu[0].exits.avic_incomplete_ipi = 1
# expect: end = halted
.include "ipi.inc"

    .equ XAPIC_LDR, XAPIC+0xd0

ready:      .quad 0
sent:       .quad 0

    .code64
_start:
    mov ebp, XAPIC_LDR
    mov ebx, XAPIC_ID
    cmp dword ptr [rbx], 0
    jne receiver
    mov dword ptr [rbp], 1 << 24
    wait_for ready, 1
    mov ebp, XAPIC_ICR2
    mov esi, XAPIC_ICR
    mov dword ptr [rbp], 0b111 << 24        # both processors, and a third that is not there
    mov dword ptr [rsi], ICR_LOGICAL|0x40
    mov dword ptr [rbp], 0b011 << 24        # both processors: no exit
    mov dword ptr [rsi], ICR_LOGICAL|0x41
    inc qword ptr [rip+sent]
    hlt
receiver:
    mov dword ptr [rbp], 2 << 24
    inc qword ptr [rip+ready]
    wait_for sent, 1
    hlt
