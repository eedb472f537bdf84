# From 64-bit code to a 32-bit segment and back, by far jumps inside long mode.
#
# kvm: >=4.19   mode: long64   vendor: both
# expect: reports = [64, 32, 64]
# expect: cs = 8
# expect: r15 = 0x1122334455667788
# expect: end = halted
.include "report.inc"

to_compat:
    .long compat
    .word CODE32

    .code64
_start:
    movabs r15, 0x1122334455667788  # 32-bit code cannot even name R15
    report 64
    ljmp [rip+to_compat]

    .code32
compat:
    report 32
    jmp CODE64:back

    .code64
back:
    report 64
    hlt
