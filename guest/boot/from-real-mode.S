# Boot from real mode to long mode, start three processors, and send them a hypercall IPI.
#
# Nothing is prepared here: GDT, page tables, x2APIC mode and IDT are the guest's own work.
#
# kvm: >=4.19   vcpus: 4   mode: real16   apic: reset   aps: wait-for-sipi
# expect: reports = [3]
# expect: memory[received].u64 = 3
# expect: memory[ap_ready].u64 = 3
# expect: vcpu[*].apic = x2apic
# expect: vcpu[*].cs = 8
# expect: cr3 = 0x100000
# expect: vcpu[1..3].cr3 = 0x100000
# expect: end = exit 0
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
    send_ipi 0b1110, 0, 0, 0xd1
    report eax
    wait_for received, 3
    finish

ap_main:
    sti
1:
    hlt
    jmp 1b
