# Is a sleeping processor "preempted"? Since v5.19 only one that could run and may not.
#
# A guest does not wait for the lock of a preempted processor, and yields to it. Until v5.18 KVM set the byte whenever a
# processor's thread left the host processor, also for HLT; since then only if a host interrupt took it off between two
# instructions of the guest.
#
# kvm: >=4.19   vcpus: 2   mode: long64   aps: run   vendor: both
# expect[kvm<5.19-rc1]: reports = [1]
# expect[kvm>=5.19-rc1]: reports = [0]
# expect: end = halted
.include "pv.inc"
.include "report.inc"

    .equ STEAL, 0x40000
ready:  .quad 0

    .code64
_start:
    read_x2apic_id
    test eax, eax
    jnz sleeper
    wait_for ready, 1
    mov ecx, 20000                  # let it come to its HLT
1:  pause
    dec ecx
    jnz 1b
    movzx ebx, byte ptr [STEAL+STEAL_PREEMPTED]
    report ebx
    hlt
sleeper:
    write_msr MSR_KVM_STEAL_TIME, STEAL+KVM_MSR_ENABLED
    lock inc qword ptr [rip+ready]
    cli
    hlt
