# The xAPIC's page under APICv: the write to ICR leaves, after the instruction; ICR2, EOI, TPR and reads do not.
#
# Without it each of these accesses is an EPT violation, as in ../fastpath/xapic.S. PPR is not among the registers that the
# processor reads by itself.
#
# kvm: >=4.19   vcpus: 2   mode: long64   apic: xapic   apicv: on
# expect: memory[received].u64 = 1
# expect: vcpu[1].irr = {0xf0}
# expect: exits.ept_violation = 0
# expect: exits.apic_write = 1
# expect: exits.apic_access = 1
# expect: exits = 3
# expect: vcpu[0].isr = {}
# expect: rbx = 0
# expect: rsi = 0x20
# expect: end = halted
.include "ipi.inc"

handler:
    push rax
    lock inc qword ptr [rip+received]
    mov eax, XAPIC_EOI
    mov dword ptr [rax], 0
    pop rax
    iretq

    .code64
_start:
    set_gate 0x40, handler
    load_idt
    mov eax, XAPIC_ICR2
    mov dword ptr [rax], 1 << 24
    mov edi, XAPIC_ICR
    mov dword ptr [rdi], 0xf0               # APIC-write exit
    mov dword ptr [rdi], ICR_SELF|0x40      # a self-IPI: the processor sends it
    sti
    nop
    cli
    mov eax, XAPIC_ID
    mov ebx, [rax]
    mov eax, XAPIC_TPR
    mov dword ptr [rax], 0x20
    mov eax, XAPIC_PPR
    mov esi, [rax]                          # APIC-access exit
    hlt
