# Every reserved bit of the x2APIC's ICR, one at a time: #GP since v6.12, sent before.
#
# Reserved are bits 13, 16, 17 and 20 to 31; bit 12 (busy) is not checked. The guest counts its own faults. A refused
# write leaves the old ICR.
#
# kvm: >=4.19   vcpus: 2   mode: long64   vendor: both
# expect[kvm>=6.12]: reports = [15]
# expect[kvm>=6.12]: vcpu[1].irr = {0x20}
# expect[kvm>=6.12]: vcpu[0].icr = 0x100000020
# expect[kvm<6.12]: reports = [0]
# expect[kvm<6.12]: vcpu[1].irr = {0x20, 0x30}
# expect[kvm<6.12]: vcpu[0].icr = 0x180000030
.include "idt.inc"
.include "pvipi.inc"
.include "report.inc"

    .code64
_start:
    catch GP
    load_idt
    write_icr 0x20, 1               # a good one first
    mov ebx, 0xfff32000             # the mask of reserved bits
next:
    bsf eax, ebx                    # the lowest bit still to try
    btr ebx, eax
    xor esi, esi
    bts esi, eax
    lea eax, [esi+0x30]
    resume_at tried
    wrmsr                           # ECX and EDX stay: ICR, destination 1
tried:
    test ebx, ebx
    jnz next
    report [rip+caught_count]
    hlt
