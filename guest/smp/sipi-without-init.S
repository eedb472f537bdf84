# A start-up IPI means nothing to a processor that is not waiting for one.
#
# Processor 1 is running when it arrives; it is counted as accepted, and forgotten.
#
# kvm: >=4.19   vcpus: 2   mode: long64   aps: run
# expect: reports = [1]
# expect: vcpu[1].sipi = none
# expect: vcpu[1].rbx = 0x1234
# expect: vcpu[1].mp = halted
# expect: end = halted
.include "ipi.inc"
.include "report.inc"

ready:  .quad 0
sent:   .quad 0

    .code64
_start:
    read_x2apic_id
    test eax, eax
    jnz other
    wait_for ready, 1
    send_ipi 0b10, 0, 0, ICR_STARTUP|0x99
    report eax
    inc qword ptr [rip+sent]
    hlt
other:
    lock inc qword ptr [rip+ready]
    wait_for sent, 1
    mov ebx, 0x1234                 # still here
    hlt
