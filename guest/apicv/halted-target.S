# HLT still leaves the guest under APICv, and a posted interrupt wakes the sleeper like any other.
#
# kvm: >=4.19   vcpus: 2   mode: long64   aps: run   apicv: on
# expect: memory[received].u64 = 1
# expect: vcpu[0].exits.wrmsr = 1
# expect: vcpu[1].exits.hlt = 2
# expect: vcpu[1].exits = 2
# expect: vcpu[1].counters.irq_injections = 0
# expect: end = halted
.include "ipi.inc"

    .code64
_start:
    set_gate 0x40, count_interrupt
    load_idt
    read_x2apic_id
    test eax, eax
    jnz receiver
    write_icr 0x40, 1
    wait_for received, 1
    hlt
receiver:
    sti
    hlt
    cli
    hlt
