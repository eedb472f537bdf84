# A window at the end of the 32-bit ID space wraps around and hits low APIC IDs.
#
# min = 0xffffffc3 leaves the low word out of range; the high word starts at min + 64 = 3 modulo 2^32.
# Since each word has its own range check (v5.6), processor 3 gets an interrupt nobody meant for it. Before, an
# out-of-range min ended the call, and as merged, without any range check, the sum was just as good as a small number.
#
# kvm: >=4.19-rc1   vcpus: 4   mode: long64
# expect[kvm>=5.6-rc1]: rax = 1
# expect[kvm>=5.6-rc1]: vcpu[3].irr = {0xf0}
# expect[kvm>=4.19 <5.6-rc1]: rax = 0
# expect[kvm>=4.19 <5.6-rc1]: vcpu[3].irr = {}
# expect[kvm<4.19]: rax = 1
# expect[kvm<4.19]: vcpu[3].irr = {0xf0}
# expect: vcpu[0..2].irr = {}
.include "pvipi.inc"

    .code64
_start:
    send_ipi 0, 1, 0xffffffc3, 0xf0
    hlt
