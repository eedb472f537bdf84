# KVM_HC_KICK_CPU ends the HLT of a processor that sleeps with interrupts disabled.
#
# This is how a released paravirtual spinlock wakes its next owner. No interrupt is delivered. If the kick comes before
# the HLT it is remembered, and the HLT ends at once: so no wake-up gets lost.
#
# kvm: >=4.19   vcpus: 3   mode: long64   aps: run
# expect: reports = [0, 0]
# expect: memory[woken].u64 = 1
# expect: vcpu[1..2].irr = {}
# expect: vcpu[1].rbx = 1
# expect: vcpu[2].rbx = 0
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
    xor ebx, ebx                    # flags, unused
    mov ecx, 1                      # APIC ID
    vmcall
    report eax
    mov eax, KVM_HC_KICK_CPU
    mov ecx, 77                     # nobody: still 0
    vmcall
    report eax
    wait_for woken, 1
    hlt

sleeper:
    xor ebx, ebx
    cli
    hlt                             # processor 2 stays here
    inc ebx
    lock inc qword ptr [rip+woken]
    hlt
