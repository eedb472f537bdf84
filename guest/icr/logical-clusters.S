# A logical x2APIC destination names a cluster of 16 in bits 31:16 and its members in bits 15:0.
#
# So one write reaches 16 processors at most, and 40 processors take three.
#
# kvm: >=4.19   vcpus: 40   mode: long64   vendor: both
# expect: vcpu[0..15].irr = {0x50}
# expect: vcpu[16..17].irr = {0x51}
# expect: vcpu[18..31].irr = {}
# expect: vcpu[32..39].irr = {0x52}
# expect: exits.wrmsr = 3
# expect: vcpu[33].ldr = 0x20002
.include "pvipi.inc"

    .code64
_start:
    write_icr ICR_LOGICAL|0x50, 0x0000ffff
    write_icr ICR_LOGICAL|0x51, 0x00010003
    write_icr ICR_LOGICAL|0x52, 0x0002ffff  # members 8 to 15 do not exist
    hlt
