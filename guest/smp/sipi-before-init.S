# A start-up IPI that comes before INIT is lost.
#
# After power-on KVM has its application processors wait for INIT. Only after that they wait for a start-up IPI.
#
# kvm: >=4.19   vcpus: 2   mode: long64   aps: wait-for-sipi   vendor: both
# expect: memory[page_a].u32 = 0
# expect: memory[page_b].u32 = 1
# expect: vcpu[1].mp = halted
.include "pvipi.inc"

    .balign 4096, 0
    .code16
start_a:
    mov word ptr cs:[page_a-start_a], 1
    hlt
    .balign 4, 0
page_a: .long 0
    .balign 4096, 0
start_b:
    mov word ptr cs:[page_b-start_b], 1
    hlt
    .balign 4, 0
page_b: .long 0

    .code64
_start:
    lea ebx, [rip+start_a]
    shr ebx, 12
    or ebx, ICR_STARTUP
    write_icr ebx, 1                # lost
    write_icr ICR_INIT|ICR_ASSERT, 1
    inc ebx                         # the next page
    write_icr ebx, 1
1:
    pause
    cmp dword ptr [rip+page_b], 1
    jne 1b
    hlt
