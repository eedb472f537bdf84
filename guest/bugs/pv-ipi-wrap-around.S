# A window at the end of the ID space reaches processors 0 and 2: since v5.6 the high bitmap word wraps around.
#
# min = 0xffffffc0 lies beyond every ID, and the first fix ended the call there. When each bitmap word got a
# helper of its own, min + 64 became 0 modulo 2^32, a good ID. It is still so in v7.1; and it was so as first
# merged, without any check.
#
# kvm: >=4.19-rc1   vcpus: 4   mode: long64   vendor: both
# expect[kvm>=4.19-rc3 <5.6-rc1]: rax = 0
# expect[kvm>=4.19-rc3 <5.6-rc1]: vcpu[*].irr = {}
# expect[kvm>=5.6-rc1]: rax = 2
# expect[kvm>=5.6-rc1]: vcpu[0,2].irr = {0x40}
# expect[kvm<4.19-rc3]: rax = 2
# expect: vcpu[1,3].irr = {}
.include "pvipi.inc"

    .code64
_start:
    send_ipi 0, 0b101, 0xffffffc0, 0x40
    hlt
