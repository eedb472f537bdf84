# Bring up three processors to long mode with INIT and start-up IPIs, then interrupt them with one hypercall.
#
# kvm: >=4.19   vcpus: 4   mode: long64   aps: wait-for-sipi
# expect: memory[ap_ready].u64 = 3
# expect: reports = [3]
# expect: memory[received].u64 = 3
# expect: vcpu[1].rbp = 1
# expect: vcpu[3].rbp = 3
# expect: vcpu[1..3].cs = 8
# expect: end = halted
.include "ap.inc"
.include "report.inc"

    .code64
_start:
    set_gate 0xd1, count_interrupt
    load_idt
    start_aps 3
    send_ipi 0b1110, 0, 0, 0xd1
    report eax
    wait_for received, 3
    hlt

ap_main:                            # each of the three arrives here
    sti
1:
    hlt
    jmp 1b
