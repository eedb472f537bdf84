# The same boot from the reset vector: 16 bytes below 1 MiB, in real mode, with every APIC as it is after power-on.
#
# kvm: >=4.19   vcpus: 4   mode: reset   vendor: both
# expect: reports = [3]
# expect: memory[received].u64 = 3
# expect: vcpu[*].apic = x2apic
# expect: vcpu[0].apicbase = 0xfee00d00
# expect: vcpu[1..3].apicbase = 0xfee00c00
# expect: vcpu[*].efer = 0x500
# expect: end = exit 0
    .org 0x1000
.include "boot.inc"
.include "ap.inc"
.include "report.inc"

    .code16
_start:
    enter_protected_mode protected
protected:
    enter_long_mode long
    .code64
long:
    mov esp, 0x90000
    enable_x2apic
    set_gate 0xd1, count_interrupt
    load_idt
    start_aps 3
    write_icr ICR_ALL_BUT_SELF|0xd1
    wait_for received, 3
    report [rip+received]
    finish

ap_main:
    sti
1:
    hlt
    jmp 1b

    .org 0xffff0
    .code16
reset_vector:
    jmp 0:_start
