# A single-stepped IPI: the trap follows the fastpath, too.
#
# kvm: >=5.6   vcpus: 2   mode: long64   vendor: both
# expect: vcpu[1].irr = {0xf0}
# expect: fastpath = 1
# expect: memory[caught_vector].u64 = 1
# expect: memory[caught_rip].u64 = behind
.include "idt.inc"
.include "pvipi.inc"

    .code64
_start:
    catch DB
    load_idt
    mov ecx, X2APIC_ICR
    mov eax, 0xf0
    mov edx, 1
    pushfq
    or dword ptr [rsp], RFLAGS_TF
    popfq
    wrmsr
behind:
    hlt
