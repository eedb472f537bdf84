# KVM_HC_CLOCK_PAIRING: the wall-clock time and the guest's TSC of the same moment, in one record of 64 bytes.
#
# The calls that fail: a clock other than the wall clock (0), and an address without memory.
#
# kvm: >=4.19   mode: long64
# expect: reports = [0, 0xffffffa1, 0xfffffff2]
# expect: memory[0x40000].u64 = 1577836800
# expect: memory[0x40008].u64 > 0
# expect: memory[0x40008].u64 < 100
# expect: memory[0x40010].u64 > 0
# expect: memory[0x40018].u64 = 0
# expect: memory[0x40038].u64 = 0
# expect: rbp = 0
# expect: end = halted
.include "constants.inc"
.include "report.inc"

    .equ RECORD, 0x40000            # seconds, nanoseconds, TSC, flags, 36 bytes of padding

.macro clock_pairing address, clock
    mov eax, KVM_HC_CLOCK_PAIRING
    mov rbx, \address
    mov ecx, \clock
    vmcall
    report eax
.endm

    .code64
_start:
    mov edi, RECORD
    mov ecx, 64
    mov al, 0xff
    rep stosb
    clock_pairing RECORD, 0
    clock_pairing RECORD, 1
    movabs rsi, 0x100000000000
    clock_pairing rsi, 0
    mov rbp, [RECORD+8]             # time and TSC began together, and a cycle is a nanosecond
    sub rbp, [RECORD+16]
    hlt
