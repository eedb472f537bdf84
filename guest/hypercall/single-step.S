# With RFLAGS.TF set a #DB follows the hypercall, as it would any instruction.
#
# The processor never finished the instruction, KVM did by moving RIP, so KVM must raise the trap itself.
#
# kvm: >=4.19   mode: long64
# expect: rax = 0
# expect: memory[caught_vector].u64 = 1
# expect: memory[caught_rip].u64 = behind
# expect: memory[caught_count].u64 = 1
# expect: dr6 = 0xffff4ff0
.include "idt.inc"

    .code64
_start:
    catch DB
    load_idt
    mov eax, KVM_HC_VAPIC_POLL_IRQ
    pushfq
    or dword ptr [rsp], RFLAGS_TF
    popfq                               # the next instruction is stepped
    vmcall
behind:
    hlt
