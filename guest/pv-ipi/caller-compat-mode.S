# In compatibility mode only the low halves of the registers count, also when the upper halves hold garbage.
#
# 64-bit code fills the registers and jumps to a 32-bit segment of the same long mode. The upper halves survive that
# jump on most processors. KVM looks at CS.L, not at EFER.LMA alone, and cuts number and arguments to 32 bits.
#
# kvm: >=4.19   vcpus: 70   mode: long64
# expect: rax = 64
# expect: vcpu[0..1].irr = {}
# expect: vcpu[2..65].irr = {0xd1}
# expect: vcpu[66..69].irr = {}
# expect: preserved rbx, rcx, rdx, rsi, rdi, rbp, rsp, r8-r15, rflags
.include "constants.inc"

compat_target:
    .long compat
    .word CODE32

    .code64
_start:
    movabs rax, 0xdeadbeef00000000|KVM_HC_SEND_IPI
    mov rbx, -1
    mov rcx, -1
    movabs rdx, 0xdeadbeef00000002
    movabs rsi, 0xdeadbeef000000d1
    ljmp [rip+compat_target]

    .code32
compat:
    vmcall                          # two words of 32 bits: IDs 2 to 65
    hlt
