# Firmware of the machines that start in real mode: copies the program that lies at the start of this 64 KiB ROM to its address
# and enters it at `boot`. PROGRAM and BOOT are defined by whoever assembles it.
    .equ ROM_SEGMENT, 0xf000
    .equ ROM_PROGRAM_BYTES, 0xf000
    .code16
    .org 0xff000
copy:
    cli
    cld
    mov ax, ROM_SEGMENT
    mov ds, ax
    xor si, si
    xor ax, ax
    mov es, ax
    mov di, PROGRAM
    mov cx, ROM_PROGRAM_BYTES/2
    rep movsw
    jmp 0:BOOT

    .org 0xffff0
reset_vector:
    jmp ROM_SEGMENT:copy-0xf0000
    .org 0xfffff
    .byte 0
