# AVIC in xAPIC mode: stores to ICR and EOI are the processor's; of the reads the timer's current count is not.
#
# kvm: >=4.19   vcpus: 2   mode: long64   aps: run   apic: xapic   vendor: amd   avic: yes
# expect: memory[received].u64 = 1
# expect: vcpu[1].exits = 1
# expect: vcpu[0].exits.avic_unaccelerated_access = 1
# expect: exits.npf = 0
# expect: vcpu[0].exits = 2
# expect: end = halted
.include "ipi.inc"

listening:  .quad 0

handler:
    push rax
    mov eax, XAPIC_EOI
    mov dword ptr [rax], 0
    lock inc qword ptr [rip+received]
    pop rax
    iretq

    .code64
_start:
    set_gate 0x40, handler
    load_idt
    mov eax, XAPIC_ID
    cmp dword ptr [rax], 0
    jne receiver
    wait_for listening, 1
    mov eax, XAPIC_ICR2
    mov dword ptr [rax], 1 << 24
    mov eax, XAPIC_ICR
    mov dword ptr [rax], 0x40
    wait_for received, 1
    mov eax, XAPIC_TMCCT
    mov ebx, [rax]
    hlt
receiver:
    sti
    mov qword ptr [rip+listening], 1
    wait_for received, 1
    cli
    hlt
