# A hypercall in the shadow of STI: the call ends the shadow, and a waiting interrupt comes in right behind it.
#
# kvm: >=4.19   mode: long64
# expect: rax = 0
# expect: memory[received].u64 = 1
# expect: memory[interrupted_rip].u64 = behind
# expect: counters.hypercalls = 1
# expect: preserved rbx, rcx, rdx, rsi, rdi, rbp, rsp, r8-r15, rflags
.include "ipi.inc"

    .code64
_start:
    set_gate 0x40, count_interrupt
    load_idt
    write_x2apic X2APIC_SELF_IPI, 0x40  # waits: IF is 0
    mov eax, KVM_HC_VAPIC_POLL_IRQ
    sti                                 # allows interrupts behind the next instruction
    vmcall
behind:
    cli
    hlt
