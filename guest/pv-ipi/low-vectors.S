# Vectors 0 to 15 are accepted and counted, but can never be delivered.
#
# Their priority class is 0, and a class must exceed the processor priority. So the run ends with
# processor 1 halted, interrupts enabled, and both bits still in its IRR.
#
# kvm: >=4.19   vcpus: 2   mode: long64   aps: run
# expect: vcpu[1].irr = {0, 15}
# expect: vcpu[1].mp = halted
# expect: counters.irq_injections = 0
# expect: reports = [1, 1]
# expect: end = halted
.include "pvipi.inc"
.include "report.inc"

    .code64
_start:
    read_x2apic_id
    test eax, eax
    jnz receiver
    send_ipi 0b10, 0, 0, 0
    report eax
    send_ipi 0b10, 0, 0, 15
    report eax
    hlt

receiver:
    sti
    hlt
    ud2                             # not reached: nothing wakes it
