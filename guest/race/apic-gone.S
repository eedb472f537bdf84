# A local APIC that is disabled for good while somebody sends to it.
#
# Disabled by IA32_APIC_BASE it is out of KVM's table of APIC IDs: KVM_HC_SEND_IPI counts 1 before that and 0 behind it. The first version
# of the hypercall followed the empty slot: `kvmscope fuzz race guest/race/apic-gone.S --kvm 4.19-rc1` finds the order that crashes the
# host.
#
# kvm: >=4.19   vcpus: 2   aps: run   mode: long64
# expect: rax <= 1
# expect: vcpu[1].apic = disabled
# expect: end = halted
.include "race.inc"

    .code64
_start:
    race_begin target
    send_ipi 0b10, 0, 0, 0x40
    hlt
target:
    mov ecx, IA32_APIC_BASE
    rdmsr
    and eax, ~(APIC_BASE_EN|APIC_BASE_EXTD)
    wrmsr
    hlt
handler:
    iretq

    race_table handler, handler, handler
