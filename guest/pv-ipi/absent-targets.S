# Bits for processors that do not exist are skipped and not counted; zero is a success.
#
# As merged (v4.19-rc1) the empty table slot was dereferenced in the host.
#
# kvm: >=4.19-rc1   vcpus: 4   mode: long64
# expect[kvm>=4.19]: reports = [1, 0, 0]
# expect[kvm>=4.19]: vcpu[3].irr = {0xf0}
# expect[kvm<4.19]: end = host-bug
.include "pvipi.inc"
.include "report.inc"

    .code64
_start:
    send_ipi 0b111, 0, 3, 0xf0      # IDs 3, 4, 5: one exists
    report eax
    send_ipi 1, 0, 4, 0xf0          # nobody
    report eax
    send_ipi 1, 0, 256, 0xf0        # beyond the largest ID of the table, which is 255 at least
    report eax
    hlt
