# What KVM wrote to ICR and what an x2AVIC processor read from it were two things: KVM stored the upper half elsewhere.
#
# AMD keeps the x2APIC's ICR as two 32-bit registers, Intel as one of 64 bits. Since v5.18 KVM kept it Intel's way on
# both. Since v6.12 (73b42dc69be8, "KVM: x86: Re-split x2APIC ICR into ICR+ICR2 for AMD (x2AVIC)") each gets its own.
#
# The processor finds its own writes. For KVM to write ICR, AVIC must be off for a while: as long as the other processor,
# which stays in xAPIC mode, has a wrong APIC ID. Since v6.3 AVIC comes back when the ID is right again.
#
# kvm: >=6.3   vcpus: 2   mode: long64   aps: run   apic: xapic   vendor: amd   avic: yes
# expect: rbx = 1
# expect[kvm<6.12-rc1]: rdx = 1
# expect[kvm>=6.12-rc1]: rdx = 0
# expect: rax = 0x41
# expect: vcpu[0].exits.wrmsr = 2
# expect: vcpu[0].exits.rdmsr = 1
# expect: end = halted
.include "ipi.inc"

turn:       .quad 0

    .code64
_start:
    mov ebp, XAPIC_ID
    cmp dword ptr [rbp], 0
    jne other
    enable_x2apic
    write_icr 0x40, 1               # by the processor
    rdmsr                           # ECX is still the ICR
    mov ebx, edx
    inc qword ptr [rip+turn]
    wait_for turn, 2
    write_icr 0x41, 0               # by KVM
    inc qword ptr [rip+turn]
    wait_for turn, 4
    rdmsr                           # by the processor
    hlt
other:
    wait_for turn, 1
    mov dword ptr [rbp], 5 << 24    # AVIC is off
    inc qword ptr [rip+turn]
    wait_for turn, 3
    mov dword ptr [rbp], 1 << 24    # AVIC is on again
    inc qword ptr [rip+turn]
    hlt
