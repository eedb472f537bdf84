# Busy, remote-read status, reserved bits and everything above bit 19 of RSI are ignored.
#
# Only bits 7:0 (vector), 10:8 (mode), 11 and 19:18 (refused), 14 and 15 (level, trigger) mean something.
# The x2APIC's ICR faults on some of these bits since v6.12; the hypercall never does.
#
# kvm: >=4.19   vcpus: 4   mode: long64
# expect: rax = 3
# expect: vcpu[1..3].irr = {0x61}
# expect: vcpu[1..3].tmr = {}
.include "constants.inc"

    .code64
_start:
    mov eax, KVM_HC_SEND_IPI
    mov ebx, 0b1110
    xor ecx, ecx
    xor edx, edx
    movabs rsi, 0xfffffffffff33000|0x61     # all of them at once: bits 12, 13, 16, 17, 20 to 63
    vmcall
    hlt
