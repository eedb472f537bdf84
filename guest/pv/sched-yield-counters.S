# KVM_HC_SCHED_YIELD answers 0 in any case; the host's statistics tell what came of it.
#
# A yield is attempted for every call, and succeeds if the target is another processor that could run now.
#
# kvm: >=5.3   vcpus: 3   mode: long64   aps: run
# expect: vcpu[0].reports = [0, 0, 0, 0]
# expect[kvm>=5.15-rc1]: vcpu[0].counters.directed_yield_attempted = 4
# expect[kvm>=5.15-rc1]: vcpu[0].counters.directed_yield_successful = 1
# expect: end = halted
.include "ipi.inc"
.include "report.inc"

asleep: .quad 0
done:   .quad 0

.macro yield_to id
    mov eax, KVM_HC_SCHED_YIELD
    mov ebx, \id
    vmcall
    report eax
.endm

    .code64
_start:
    read_x2apic_id
    cmp eax, 1
    je spinner
    ja sleeper
    wait_for asleep, 1
    mov ecx, 50000                  # until processor 2 has come to its HLT
1:  pause
    dec ecx
    jnz 1b
    yield_to 1                      # runs
    yield_to 0                      # the caller itself
    yield_to 2                      # sleeps
    yield_to 77                     # nobody
    lock inc qword ptr [rip+done]
    hlt
spinner:
    wait_for done, 1
    hlt
sleeper:
    lock inc qword ptr [rip+asleep]
    cli
    hlt
