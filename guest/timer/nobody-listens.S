# A periodic timer that cannot wake anybody does not keep a machine alive.
#
# With interrupts disabled the first expiry sets the bit in IRR, the following ones find it set. The machine is halted.
#
# kvm: >=4.19   vcpus: 1   mode: long64   vendor: both
# expect: irr = {0x40}
# expect: exits.hlt = 1
# expect: counters.irq_injections = 0
# expect: end = halted
.include "timer.inc"

    .code64
_start:
    write_x2apic X2APIC_LVTT, LVTT_PERIODIC|0x40
    write_x2apic X2APIC_TMICT, 1000000
    cli
    hlt
