# INIT takes a running processor back to wait-for-SIPI and clears its registers, but leaves it in x2APIC mode.
#
# kvm: >=4.19   vcpus: 2   mode: long64   aps: run   vendor: both
# expect: vcpu[1].mp = init-received
# expect: vcpu[1].rbx = 0
# expect: vcpu[1].rip = 0xfff0
# expect: vcpu[1].cr3 = 0
# expect: vcpu[1].apic = x2apic
# expect: vcpu[1].svr = 0xff
# expect: end = halted
.include "ipi.inc"

ready:  .quad 0

    .code64
_start:
    read_x2apic_id
    test eax, eax
    jnz other
    wait_for ready, 1
    write_icr ICR_INIT|ICR_ASSERT, 1
    hlt
other:
    mov ebx, 0x1234
    lock inc qword ptr [rip+ready]
1:
    pause
    jmp 1b
