# A local APIC with SVR bit 8 clear takes no Fixed interrupt, but still takes an NMI.
#
# The sender disables its own and sends to itself. The NMI arrives as soon as the hypercall is over.
#
# kvm: >=4.19   vcpus: 1   mode: long64
# expect: reports = [0, 1]
# expect: memory[nmi_received].u64 = 1
# expect: vcpu[0].irr = {}
# expect: counters.nmi_injections = 1
.include "ipi.inc"
.include "report.inc"

    .code64
_start:
    set_gate NMI_VECTOR, count_nmi
    load_idt
    write_x2apic X2APIC_SVR, 0xff
    send_ipi 1, 0, 0, ICR_FIXED|0xf0
    report eax
    send_ipi 1, 0, 0, ICR_NMI
    report eax
    hlt
