# Arming the TSC deadline is the most frequent MSR write of a Linux guest, and has a fastpath of its own.
#
# On Intel since v5.8, through the VMX preemption timer; on AMD since v6.18. KVM goes straight back into the guest, and
# before v6.4 did not even count such an exit in `exits`. The deadline is far away and disarmed by the last write.
#
# kvm: >=4.19   vcpus: 1   mode: long64   vendor: both
# expect: exits.wrmsr = 5
# expect[kvm<5.8]: fastpath = 0
# expect[kvm>=5.8, vendor=intel]: fastpath = 4
# expect[kvm>=5.8, vendor=intel]: fastpath.reason = "taken"
# expect[kvm>=5.8 <6.18, vendor=amd]: fastpath = 0
# expect[kvm>=5.8 <6.18, vendor=amd]: fastpath.reason = "MSR has no fastpath"
# expect[kvm>=6.18, vendor=amd]: fastpath = 4
# expect[kvm<5.8]: counters.exits = 6
# expect[kvm>=5.8 <6.4, vendor=intel]: counters.exits = 2
# expect[kvm>=6.4]: counters.exits = 6
# expect[vendor=amd]: counters.exits = 6
# expect: end = halted
.include "timer.inc"

    .code64
_start:
    write_x2apic X2APIC_LVTT, LVTT_TSC_DEADLINE|0x40
    mov ebx, 3
1:  read_tsc
    add rax, 100000000
    write_tsc_deadline
    dec ebx
    jnz 1b
    xor eax, eax
    write_tsc_deadline
    hlt
