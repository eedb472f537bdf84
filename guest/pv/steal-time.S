# Steal time: the host counts how long a processor could have run while another one did.
#
# Both processors count to 100,000; they share one host processor, so each waits while the other runs. The version is
# even when the host is done, and grows by two each time the processor comes back.
#
# kvm: >=4.19   vcpus: 2   mode: long64   aps: run   vendor: both
# expect: vcpu[0..1].rbp = 1
# expect: vcpu[0..1].rbx = 0
# expect[kvm>=5.4-rc1]: events.kvm_pv_tlb_flush > 4
# expect[kvm<5.4-rc1]: events.kvm_pv_tlb_flush = 0
# expect[vendor=intel]: exits.external_interrupt > 2
# expect: end = halted
.include "pv.inc"

    .equ STEAL, 0x40000             # 64 bytes for each processor

    .code64
_start:
    read_x2apic_id
    shl eax, 6
    lea edi, [rax+STEAL]
    lea rbx, [rdi+KVM_MSR_ENABLED]
    write_msr MSR_KVM_STEAL_TIME, rbx
    mov ecx, 100000
1:  dec ecx
    jnz 1b
    xor ebp, ebp
    cmp qword ptr [rdi+STEAL_STEAL], 1000
    setae bpl                       # it did wait
    mov ebx, [rdi+STEAL_VERSION]
    and ebx, 1
    hlt
