# Exits that ended in the fastpath were missing from KVM's `exits` statistic.
#
# Three writes of the TSC deadline on Intel, where they have had a fastpath since v5.8 that goes straight back
# into the guest. v6.4, 8b703a49c9df "KVM: x86: Account fastpath-only VM-Exits in vCPU stats", counts them.
#
# kvm: >=5.8   mode: long64   vendor: intel
# expect: exits.wrmsr = 4
# expect[kvm<6.4-rc1]: counters.exits = 2
# expect[kvm>=6.4-rc1]: counters.exits = 5
# expect: fastpath = 3
# expect: fastpath.completion = REENTER_GUEST
.include "pvipi.inc"

    .code64
_start:
    write_x2apic X2APIC_LVTT, LVTT_TSC_DEADLINE|LVT_MASKED|0x40
    xor eax, eax                    # 0 disarms
    mov ecx, IA32_TSC_DEADLINE
    .rept 3
    wrmsr
    .endr
    hlt
