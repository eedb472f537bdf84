# Two processors send each other an IPI in turn; each one is awakened by the other.
#
# kvm: >=4.19   vcpus: 2   mode: long64   aps: run   vendor: both
# expect: vcpu[0].rbx = 20
# expect: vcpu[1].rbx = 20
# expect: memory[received].u64 = 40
# expect[kvm>=5.6-rc1]: fastpath = 40
# expect: end = halted
.include "ipi.inc"

    .code64
_start:
    set_gate 0x40, count_interrupt
    load_idt
    read_x2apic_id
    mov ebp, eax
    xor ebp, 1                      # the other one's ID
    xor ebx, ebx
    test eax, eax
    jnz 2f
1:
    write_icr 0x40, ebp             # serve
2:
    sti
    hlt                             # an interrupt that came before waits until here: IF was 0
    cli
    inc ebx
    cmp ebx, 20
    jb 1b
    cmp ebp, 1
    je 3f
    write_icr 0x40, ebp             # the receiver of the first answers the last
3:
    hlt
