# APIC ID 0xff in KVM_HC_KICK_CPU kicks everybody.
#
# The kick has no sending APIC, so the 8-bit broadcast ID counts even though all processors are in x2APIC mode
# (a quirk user space can switch off).
#
# kvm: >=4.19   vcpus: 4   mode: long64   aps: run
# expect: reports = [0]
# expect: memory[woken].u64 = 3
# expect: end = halted
.include "ipi.inc"
.include "report.inc"

woken:  .quad 0

    .code64
_start:
    read_x2apic_id
    test eax, eax
    jnz sleeper
    mov eax, KVM_HC_KICK_CPU
    xor ebx, ebx
    mov ecx, 0xff
    vmcall
    report eax
    wait_for woken, 3
    hlt

sleeper:
    cli
    hlt
    lock inc qword ptr [rip+woken]
1:
    hlt
    jmp 1b
