# A window at the end of the 32-bit ID space wraps around and hits low APIC IDs.
#
# min = 0xffffffc3 leaves the low word out of range; the high word starts at min + 64 = 3 modulo 2^32.
# Since each word has its own range check (v5.5), processor 3 gets an interrupt nobody meant for it.
# Before, an out-of-range min ended the call.
#
# kvm: >=4.19   vcpus: 4   mode: long64
# expect[kvm>=5.5]: rax = 1
# expect[kvm>=5.5]: vcpu[3].irr = {0xf0}
# expect[kvm<5.5]: rax = 0
# expect[kvm<5.5]: vcpu[3].irr = {}
# expect: vcpu[0..2].irr = {}
.include "pvipi.inc"

    .code64
_start:
    send_ipi 0, 1, 0xffffffc3, 0xf0
    hlt
