# How an operating system turns on XSAVE: CPUID follows CR4.OSXSAVE, and XSETBV always leaves the guest.
#
# kvm: >=4.19   mode: long64   vendor: both
# expect: reports = [0, 1, 1, 3, 3]
# expect: exits.cpuid = 2
# expect: exits.xsetbv = 1
.include "report.inc"

    .code64
_start:
    call osxsave
    mov rax, cr4
    or eax, CR4_OSFXSR | CR4_OSXSAVE
    mov cr4, rax
    call osxsave
    xor ecx, ecx
    xgetbv                          # after RESET only x87 state is enabled
    report eax
    mov eax, XCR0_X87 | XCR0_SSE
    xsetbv                          # KVM checks the value
    xgetbv
    report eax
    pcmpeqb xmm0, xmm0
    xsave64 [area]
    mov eax, [area + XSTATE_BV]     # both are in use: RESET is not FNINIT
    report eax
    hlt

# Reports whether CPUID shows that XSAVE is turned on.
osxsave:
    mov eax, 1
    cpuid
    shr ecx, 27
    and ecx, 1
    report ecx
    ret

    .balign 64
area:
    .zero 576
