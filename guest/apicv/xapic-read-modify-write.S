# One instruction may access the APIC's page twice, or often: what the processor does of it costs nothing, the rest one exit.
#
# OR of TPR is a load and a store, both the processor's. OR of LVTT traps after the store. REP STOSD writes TPR, and then,
# at the end of its stride of one slot, what no register is at.
#
# kvm: >=4.19   mode: long64   apic: xapic   apicv: on
# expect: tpr = 0x20
# expect: rbx = 0x20
# expect: rsi = 0x10041
# expect: exits.apic_write = 1
# expect: exits.apic_access = 1
# expect: rdi = 0xfee00088
# expect: rcx = 0
# expect: end = halted
.include "constants.inc"

    .code64
_start:
    mov edi, XAPIC_TPR
    or dword ptr [rdi], 0x30
    mov ebp, XAPIC_LVTT
    or dword ptr [rbp], 0x41                # APIC-write exit
    mov esi, [rbp]
    mov eax, 0x20
    mov ecx, 2
    rep stosd                               # TPR, and the reserved word behind it: APIC-access exit
    mov ebx, [rdi-8]
    hlt
