# One hypercall sends an interrupt to three processors.
#
# kvm: >=4.19   vcpus: 4   mode: long64
# expect: rax = 3
# expect: preserved rbx, rcx, rdx, rsi, rdi, rbp, rsp, r8-r15, rflags
# expect: vcpu[0].irr = {}
# expect: vcpu[1..3].irr = {0xd1}
# expect: vcpu[1..3].tmr = {}
# expect: exits.vmcall = 1
# expect: exits.msr_write = 0
# expect: counters.hypercalls = 1
# expect: end = halted
.include "constants.inc"

    .code64
_start:
    mov eax, KVM_HC_SEND_IPI        # the number of the hypercall
    mov ebx, 0b1110                 # destinations: bit i is the processor with APIC ID min + i
    xor ecx, ecx                    # a second bitmap word for APIC IDs min + 64 ...: nobody
    xor edx, edx                    # min: the APIC ID of bit 0
    mov esi, ICR_FIXED|0xd1         # what to send, in the format of the interrupt command register
    vmcall                          # one exit, whatever the number of destinations
    hlt                             # RAX is now the number of local APICs that accepted
