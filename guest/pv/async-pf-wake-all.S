# When a guest turns asynchronous page faults on, KVM tells it to wake all tasks that may wait: token 0xffffffff.
#
# Since v5.8 "ready" is an interrupt. The token stands in the record; the guest clears it and acknowledges by an MSR.
# Before v5.8 it was a #PF with the token in CR2 and reason 2 in the record.
#
# kvm: >=4.19   mode: long64   vendor: both
# expect[kvm>=5.8-rc1]: memory[token].u32 = 0xffffffff
# expect[kvm>=5.8-rc1]: accepted = [0xec]
# expect[kvm>=5.8-rc1]: memory[caught_vector].u64 = 0
# expect[kvm<5.8-rc1]: memory[caught_vector].u64 = 14
# expect[kvm<5.8-rc1]: cr2 = 0xffffffff
# expect[kvm<5.8-rc1]: memory[0x40000].u32 = 2
# expect: events.kvm_async_pf_ready = 1
# expect: end = halted
.include "pv.inc"

    .equ RECORD, 0x40000
token:  .quad 0

ready:
    push rax
    push rcx
    push rdx
    mov eax, [RECORD+APF_TOKEN]
    mov [rip+token], eax
    mov dword ptr [RECORD+APF_TOKEN], 0
    write_msr MSR_KVM_ASYNC_PF_ACK, 1
    write_x2apic X2APIC_EOI, 0
    pop rdx
    pop rcx
    pop rax
    iretq

    .code64
_start:
    set_gate 0xec, ready
    catch PF
    catch GP
    load_idt
    sti
    try_write_msr MSR_KVM_ASYNC_PF_INT, 0xec            # #GP before v5.8, where it is not needed
    mov qword ptr [rip+caught_vector], 0
    mov qword ptr [rip+caught_resume], 0
    try_write_msr MSR_KVM_ASYNC_PF_EN, RECORD+KVM_ASYNC_PF_DELIVERY_AS_INT+KVM_ASYNC_PF_SEND_ALWAYS+KVM_MSR_ENABLED
    cmp qword ptr [rip+caught_vector], GP_VECTOR
    jne 1f
    mov qword ptr [rip+caught_vector], 0                # bit 3 is reserved: without it
    mov qword ptr [rip+caught_resume], 0
    write_msr MSR_KVM_ASYNC_PF_EN, RECORD+KVM_ASYNC_PF_SEND_ALWAYS+KVM_MSR_ENABLED
1:  nop
    cli
    hlt
