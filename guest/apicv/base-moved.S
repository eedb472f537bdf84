# A guest that moves its APIC page loses APICv for good, since v6.0.
#
# kvm: >=6.0   mode: long64   apic: xapic   apicv: on
# expect: exits.wrmsr = 2
# expect: exits.ept_violation = 1
# expect: end = halted
.include "constants.inc"

    .code64
_start:
    mov edi, XAPIC_EOI
    mov dword ptr [rdi], 0                  # no exit
    mov ecx, IA32_APIC_BASE
    rdmsr
    mov ebx, eax
    xor eax, 0x10000
    wrmsr
    mov eax, ebx
    wrmsr
    mov dword ptr [rdi], 0                  # back at its place, but it is an exit now
    hlt
