# Arithmetic of x87: 80-bit registers on a stack, and an unmasked exception that waits for the next instruction to report it.
#
# kvm: >=4.19   mode: long64   vendor: both
# expect: st0 = 0x3fffb504f333f9de6484
# expect: st1 = 0x4000c90fdaa22168c235
# expect: fcw = 0x37b
# expect: fsw = 0x3000
# expect: memory[two].u64 = 0xffffffffffffffff
# expect: rbx = 0xa084
# expect: reports = [16]
# expect: end = halted
.include "report.inc"
.include "idt.inc"

    .code64
_start:
    set_gate 16, error
    load_idt
    fninit
    fldpi
    fild word ptr [rip+number]
    fsqrt                           # ST(0) = sqrt(2), inexact
    fld st(0)
    fmul st(0), st(0)
    fstp tbyte ptr [rip+two]        # a little less than 2
    fnclex
    fldcw word ptr [rip+unmasked]
    fld st(0)
    fldz
    fdivp st(1), st(0)              # ST(0) / 0: nothing happens yet
    fnstsw ax
    mov ebx, eax
    fwait                           # #MF
    hlt

error:
    report 16
    fnclex
    fstp st(0)                      # the dividend and ...
    fstp st(0)                      # ... the divisor are where they were
    hlt

    .data
number:
    .short 2
unmasked:
    .short 0x37b                    # all masked but division by zero
two:
    .skip 10
