# One hypercall to three running processors under APICv: one exit in all, whatever IPI virtualization could do.
#
# kvm: >=4.19   vcpus: 4   mode: long64   aps: run   apicv: on
# expect: rbp = 3
# expect: memory[received].u64 = 3
# expect: exits.vmcall = 1
# expect: exits.external_interrupt = 0
# expect: exits.wrmsr = 0
# expect: vcpu[*].exits.hlt = 1
# expect: end = halted
.include "ipi.inc"

listening:  .quad 0

    .code64
_start:
    set_gate 0xd1, count_interrupt
    load_idt
    read_x2apic_id
    test eax, eax
    jnz receiver
    wait_for listening, 3
    send_ipi 0b1110, 0, 0, 0xd1
    mov ebp, eax
    hlt
receiver:
    sti
    lock inc qword ptr [rip+listening]
    wait_for received, 3
    cli
    hlt
