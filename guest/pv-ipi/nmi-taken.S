# Halted processors with interrupts disabled still take an NMI.
#
# kvm: >=4.19   vcpus: 4   mode: long64   aps: run
# expect: memory[nmi_received].u64 = 3
# expect: reports = [3]
# expect: counters.nmi_injections = 3
# expect: end = halted
.include "ipi.inc"
.include "report.inc"

ready:  .quad 0

    .code64
_start:                                     # every processor starts here
    set_gate NMI_VECTOR, count_nmi          # all write the same gate, so the order does not matter
    load_idt
    read_x2apic_id
    test eax, eax
    jnz receiver
    wait_for ready, 3
    send_ipi 0b1110, 0, 0, ICR_NMI
    report eax
    wait_for nmi_received, 3
    hlt

receiver:
    lock inc qword ptr [rip+ready]
    hlt                                     # IF is 0: only NMI, SMI, INIT or a kick ends this
    hlt
