# What Linux does to interrupt 79 of 80 processors: one hypercall, where the x2APIC would take 79 or 5 writes.
#
# kvm: >=4.19   vcpus: 80   mode: long64
# expect: r13 = 79
# expect: reports = [1, 79]
# expect: vcpu[0].irr = {}
# expect: vcpu[1..79].irr = {0xfb}
# expect: exits.vmcall = 1
# expect: exits.wrmsr = 0
.include "linux-mask.inc"

all_but_self:
    .set id, 1
    .rept 79
    .long id
    .set id, id+1
    .endr

    .code64
_start:
    lea rdi, [rip+all_but_self]
    mov ebp, 79
    mov r12d, 0xfb                  # CALL_FUNCTION_SINGLE_VECTOR
    call send_ipi_mask
    hlt
