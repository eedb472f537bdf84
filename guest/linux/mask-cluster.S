# The same again with logical destinations: the cluster driver writes once for every 16 processors.
#
# Until v6.18 a logical destination never took the fastpath.
#
# kvm: >=5.6-rc1   vcpus: 80   mode: long64   vendor: both
# expect: vcpu[0].irr = {}
# expect: vcpu[1..79].irr = {0xfb}
# expect: exits.wrmsr = 5
# expect[kvm<6.18]: fastpath = 0
# expect[kvm>=6.18]: fastpath = 5
.include "pvipi.inc"

    .code64
_start:
    write_icr ICR_LOGICAL|0xfb, 0x0000fffe  # cluster 0 without processor 0
    mov edx, 0x0001ffff
    mov ebx, 4
1:
    wrmsr
    add edx, 0x00010000
    dec ebx
    jnz 1b
    hlt
