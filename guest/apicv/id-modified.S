# A guest that rewrites its xAPIC ID loses APICv, since v6.0; since v6.3 it comes back with the right ID (d471bd853d38).
#
# Three EOIs: with APICv, with the wrong ID, and with the right one again.
#
# kvm: >=6.0   mode: long64   apic: xapic   apicv: on
# expect[kvm<6.3]: exits.ept_violation = 3
# expect[kvm>=6.3]: exits.ept_violation = 2
# expect: exits.apic_write = 1
# expect: end = halted
.include "constants.inc"

    .code64
_start:
    mov eax, XAPIC_EOI
    mov edi, XAPIC_ID
    mov dword ptr [rax], 0                  # no exit
    mov dword ptr [rdi], 5 << 24            # APIC-write exit, and APICv is off
    mov dword ptr [rax], 0                  # EPT violation
    mov dword ptr [rdi], 0                  # EPT violation, and from v6.3 on APICv is on again
    mov dword ptr [rax], 0
    hlt
