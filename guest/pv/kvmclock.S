# The time of the virtual machine, kvmclock: computed from the TSC and a record that the host keeps, without any exit.
#
# The record gives a TSC value, the time at that value, and how to turn cycles into nanoseconds. Here they are the same,
# by multiplier 2^31 and shift 1. All records of a VM agree, which flag bit 0 says.
#
# kvm: >=4.19   vcpus: 2   mode: long64   aps: run   vendor: both
# expect: vcpu[0].rbp = 1
# expect: vcpu[1].rbp = 1
# expect: vcpu[0..1].exits.wrmsr = 1
# expect: memory[0x40000].u32 = 2
# expect: memory[0x40018].u32 = 0x80000000
# expect: memory[0x4001c].u16 = 0x0101
# expect: memory[0x40020].u32 = 2
# expect: end = halted
.include "pv.inc"

    .equ CLOCK, 0x40000             # one record of 32 bytes for each processor

    .code64
_start:
    read_x2apic_id
    shl eax, 5
    lea edi, [rax+CLOCK]
    lea rbx, [rdi+KVM_MSR_ENABLED]
    write_msr MSR_KVM_SYSTEM_TIME_NEW, rbx
    call read_kvmclock
    mov rsi, rax
    mov ecx, 500
1:  dec ecx
    jnz 1b
    call read_kvmclock
    sub rax, rsi
    xor ebp, ebp
    cmp rax, 1000                   # 1,000 instructions have passed, on this processor alone
    setae bpl
    hlt
