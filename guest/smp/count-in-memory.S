# Three receivers count interrupts in memory: ten rounds of one hypercall each, one interrupt per receiver and round.
#
# The sender waits for each round to be complete, since IPIs of the same vector would coalesce.
#
# kvm: >=4.19   vcpus: 4   mode: long64   aps: run
# expect: memory[received].u64 = 30
# expect: rbp = 30
# expect: counters.hypercalls = 10
# expect: vcpu[1].counters.irq_injections = 10
# expect: vcpu[2].counters.irq_injections = 10
# expect: vcpu[3].counters.irq_injections = 10
# expect: vcpu[*].irr = {}
# expect: vcpu[*].isr = {}
# expect: end = halted
.include "ipi.inc"

    .code64
_start:
    set_gate 0xd1, count_interrupt
    load_idt
    read_x2apic_id
    test eax, eax
    jnz receiver
    xor ebp, ebp                    # accepted so far = to be received
1:
    send_ipi 0b1110, 0, 0, 0xd1
    add ebp, eax
2:
    pause
    cmp [rip+received], rbp
    jb 2b
    cmp ebp, 30
    jb 1b
    hlt
receiver:
    sti
1:
    hlt
    jmp 1b
