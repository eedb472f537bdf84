# The date: kvmclock's wall clock tells what time it was when kvmclock was 0.
#
# Every machine here begins on 2020-01-01 at 00:00 UTC (`wallClock` of the library). The host writes the record once for
# each write of the MSR, and the version counts.
#
# kvm: >=4.19   mode: long64   vendor: both
# expect: memory[0x40000].u32 = 4
# expect: memory[0x40004].u32 = 1577836800
# expect: memory[0x40008].u32 = 0
# expect: end = halted
.include "pv.inc"

    .equ WALL, 0x40000              # version, seconds, nanoseconds

    .code64
_start:
    write_msr MSR_KVM_WALL_CLOCK_NEW, WALL
    write_msr MSR_KVM_WALL_CLOCK, WALL  # the old number: the same
    hlt
