# The MSR does not exist in xAPIC mode: the fastpath declines and the slow path raises #GP.
#
# kvm: >=5.6-rc1   vcpus: 4   mode: long64   apic: xapic   vendor: both
# expect: memory[caught_vector].u64 = 13
# expect: memory[caught_error].u64 = 0
# expect: memory[caught_rip].u64 = instruction
# expect: vcpu[*].irr = {}
# expect: fastpath = 0
# expect: fastpath.reason = "not x2APIC"
.include "idt.inc"
.include "pvipi.inc"

    .code64
_start:
    catch GP
    load_idt
    resume_at over
    mov ecx, X2APIC_ICR
    mov eax, 0xf0
    mov edx, 1
instruction:
    wrmsr
over:
    hlt
