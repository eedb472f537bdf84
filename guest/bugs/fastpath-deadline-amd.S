# On AMD the TSC deadline was written the slow way: its fastpath hung on Intel's preemption timer.
#
# It does not need that timer. Since v6.18 (0a94b2042419) every WRMSR of the deadline is handled on the fastpath.
#
# kvm: >=5.8   mode: long64   vendor: amd
# expect[kvm<6.18-rc1]: fastpath = 0
# expect[kvm<6.18-rc1]: fastpath.reason = "MSR has no fastpath"
# expect[kvm>=6.18-rc1]: fastpath = 1
# expect[kvm>=6.18-rc1]: fastpath.completion = REENTER_GUEST
# expect: counters.exits = 3
.include "pvipi.inc"

    .code64
_start:
    write_x2apic X2APIC_LVTT, LVTT_TSC_DEADLINE|LVT_MASKED|0x40
    xor eax, eax
    mov ecx, IA32_TSC_DEADLINE
    wrmsr
    hlt
