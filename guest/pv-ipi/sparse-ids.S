# Bits are APIC IDs, not vCPU numbers; holes in the window are skipped and not counted.
#
# The window is 128 IDs wide and starts at min = 5, so its last bit is ID 132. Every bit is set, and
# those vCPUs whose ID lies inside receive: all but the first, whose ID 0 is below, and the last, whose ID 133 is above.
#
# kvm: >=4.19   vcpus: 11   ids: 0,5,64-70,132,133   mode: long64
# expect: rax = 9
# expect: vcpu[0,10].irr = {}
# expect: vcpu[1..9].irr = {0x55}
.include "constants.inc"

    .code64
_start:
    mov eax, KVM_HC_SEND_IPI
    mov rbx, -1
    mov rcx, -1
    mov edx, 5
    mov esi, ICR_FIXED|0x55
    vmcall
    hlt
