# A processor sleeps in HLT with interrupts enabled; an IPI wakes it.
#
# STI takes effect behind the next instruction, so no interrupt can slip in between STI and HLT.
#
# kvm: >=4.19   vcpus: 2   mode: long64   aps: run   vendor: both
# expect: memory[received].u64 = 1
# expect: vcpu[1].rbx = 1
# expect: vcpu[1].counters.irq_injections = 1
# expect: vcpu[1].exits.hlt = 2
# expect: vcpu[1].isr = {}
# expect: end = halted
.include "ipi.inc"

awake:  .quad 0

    .code64
_start:
    set_gate 0x40, count_interrupt
    load_idt
    read_x2apic_id
    test eax, eax
    jnz sleeper
    write_icr 0x40, 1
    wait_for awake, 1
    hlt
sleeper:
    xor ebx, ebx
    sti
    hlt                             # the handler returns to behind this
    inc ebx
    lock inc qword ptr [rip+awake]
    cli
    hlt
