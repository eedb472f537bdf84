# INIT and a start-up IPI by hypercall start a processor.
#
# An INIT takes any processor to wait-for-SIPI; the vector of the start-up IPI is the 4 KiB page of its first
# instruction.
#
# kvm: >=4.19   vcpus: 2   mode: long64   aps: wait-for-sipi
# expect: reports = [1, 1]
# expect: memory[started].u32 = 1
# expect: vcpu[1].mp = halted
# expect: exits.vmcall = 2
.include "pvipi.inc"
.include "report.inc"

    .balign 4096, 0
    .code16
trampoline:                         # CS = page << 8, IP = 0, real mode
    mov word ptr cs:[started-trampoline], 1
    hlt
    .balign 4, 0
started: .long 0

    .code64
_start:
    send_ipi 0b10, 0, 0, ICR_INIT
    report eax
    lea esi, [rip+trampoline]
    shr esi, 12
    or esi, ICR_STARTUP
    mov eax, KVM_HC_SEND_IPI
    vmcall
    report eax
1:
    pause
    cmp dword ptr [rip+started], 1
    jne 1b
    hlt
