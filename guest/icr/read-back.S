# What a guest reads back from the ICR: what it wrote.
#
# Until v5.17 KVM kept two 32-bit registers, since v5.18 one of 64 bits, and on AMD two again since v6.12. The guest
# cannot tell.
#
# kvm: >=4.19   vcpus: 2   mode: long64   vendor: both
# expect: rax = 0xc4c5
# expect: rdx = 0x87654321
# expect: exits.rdmsr = 1
.include "pvipi.inc"

    .code64
_start:
    write_icr ICR_LEVEL|ICR_ASSERT|ICR_NMI|0xc5, 0x87654321
    xor eax, eax
    xor edx, edx
    rdmsr
    hlt
