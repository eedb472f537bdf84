# KVM_HC_MAP_GPA_RANGE with a VMM that asked for it: KVM checks the arguments, user space answers.
#
# An encrypted guest tells its VMM by this call which pages are shared. User space answers what the header says. What
# KVM itself refuses never gets there.
#
# kvm: >=5.14   mode: long64   exit-hypercalls: 0x1000   hypercall-returns: 0, -7
# expect: reports = [0, 0xfffffff9, 0xffffffea, 0xffffffea, 0xffffffea]
# expect: events.kvm_userspace_exit = 7
# expect: counters.hypercalls = 5
# expect: end = halted
.include "report.inc"

.macro map_gpa_range address, pages
    mov eax, KVM_HC_MAP_GPA_RANGE
    mov rbx, \address
    mov rcx, \pages
    mov edx, 0x10                   # encrypted
    vmcall
    report eax
.endm

    .code64
_start:
    map_gpa_range 0x100000, 1
    map_gpa_range 0x100000, 0x10    # -KVM_E2BIG is user space's
    map_gpa_range 0x100800, 1       # not aligned to 4 KiB
    map_gpa_range 0x100000, 0       # no pages
    map_gpa_range 0x100000, -1      # the range wraps
    hlt
