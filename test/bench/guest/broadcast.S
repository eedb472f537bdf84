# An interrupt to TARGETS processors, 50 times; each takes it, writes EOI and halts again, and the sender waits until all have.
# VCPUS in all; the ones behind the targets sleep. MODE 0: one hypercall for all (up to 128 ids); 1: one ICR write for each target; 2: one ICR
# write with the shorthand "all but self", which reaches all VCPUS - 1.
    .equ SETUP, 1
.include "lap.inc"
.include "ipi.inc"
    .equ VECTOR, 0xf0
    .equ ROUNDS, 50
    .equ HAND_OUT, 0x200000                 # stacks by APIC id
awake:  .long 0

setup:
    load_idt
    read_x2apic_id
    test eax, eax
    jz 2f
    shl eax, 12
    lea esp, [rax+HAND_OUT]
    lock inc dword ptr [rip+awake]
    sti
1:
    hlt
    jmp 1b
2:
    set_gate VECTOR, count_interrupt
3:
    pause
    cmp dword ptr [rip+awake], VCPUS-1
    jb 3b
    ret

lap:
    mov ebp, ROUNDS
1:
    mov rdi, [rip+received]
    add rdi, TARGETS
    .if MODE == 0
    send_ipi BITMAP_LOW, BITMAP_HIGH, 1, VECTOR
    .elseif MODE == 1
    mov ecx, X2APIC_ICR
    mov eax, VECTOR
    mov edx, TARGETS
2:
    wrmsr
    dec edx
    jnz 2b
    .else
    write_icr ICR_ALL_BUT_SELF|VECTOR
    .endif
3:
    pause
    cmp [rip+received], rdi
    jb 3b
    dec ebp
    jnz 1b
    mov eax, ROUNDS
    ret
