# PV TLB flush: a preempted processor gets no IPI but a flag, and the host flushes its TLB before it runs again.
#
# Processor 1 reads through a page whose mapping processor 0 changes. Its TLB keeps the old mapping, until the flag in
# the preempted byte makes KVM drop it. No IPI is sent: nobody is interrupted for a processor that does not run anyway.
#
# kvm: >=4.19   vcpus: 2   mode: long64   aps: run   vendor: both
# expect: vcpu[0].rbx = 1
# expect: vcpu[1].rbx = 2222
# expect: exits.wrmsr = 1
# expect[kvm>=5.4-rc1]: events.kvm_pv_tlb_flush > 1
# expect: end = halted
.include "pv.inc"

    .equ STEAL, 0x40000
    .equ WINDOW, 0x800000           # a page of 2 MiB, first mapped to itself
    .equ OTHER, 0xa00000
    .equ WINDOW_ENTRY, 0x72020      # its entry in the page directory of the machine's boot tables
looking:    .quad 0

    .code64
_start:
    read_x2apic_id
    test eax, eax
    jnz reader
    mov dword ptr [WINDOW], 1111
    mov dword ptr [OTHER], 2222
    wait_for looking, 1
    mov rax, [WINDOW_ENTRY]
    add rax, OTHER-WINDOW
    mov [WINDOW_ENTRY], rax         # processor 1 still reads 1111
1:  pause
    mov eax, KVM_VCPU_PREEMPTED
    mov edx, KVM_VCPU_PREEMPTED|KVM_VCPU_FLUSH_TLB
    lock cmpxchg [STEAL+STEAL_PREEMPTED], dl
    jne 1b                          # it runs: a real guest would send an IPI now
    mov ebx, 1
    hlt

reader:
    write_msr MSR_KVM_STEAL_TIME, STEAL+KVM_MSR_ENABLED
2:  pause
    mov ebx, [WINDOW]
    cmp ebx, 1111
    jb 2b                           # processor 0 has not begun
    mov qword ptr [rip+looking], 1
    cmp ebx, 1111
    je 2b
    hlt
