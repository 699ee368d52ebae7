; SPDX-License-Identifier: Apache-2.0
; A disk's first sector that starts a guest of tests/guests as a multiboot loader does, by a PC BIOS: for emulators without such a loader.
; The test puts in: the image's length in sectors, its entry, memory above 1 MiB in KiB, the command line. The image stands from
; sector 1 on, and goes to 1 MiB; what lies behind it in memory is zero in an emulator that has just begun.
%define LOW 0x10000
%define IMAGE 0x100000
%define CHUNK 64

org 0x7c00
bits 16
	jmp 0:start
	align 4
sectors: dd 0				; at offset 8
entry:	dd 0
memory:	dd 0
line_at: dd line

start:
	xor ax, ax
	mov ds, ax
	mov ss, ax
	mov sp, 0x7c00
	cld
	mov ax, 0x2401			; A20
	int 0x15
	mov cx, [sectors]
.more:
	mov ax, CHUNK
	cmp cx, ax
	jae .full
	mov ax, cx
.full:
	mov [packet_count], ax
	push cx
	push ax
	mov si, packet
	mov ah, 0x42
	mov dl, 0x80
	int 0x13
	pop ax
	pop cx
	jc .stop
	add [packet_sector], ax
	push ax
	shl ax, 5
	add [packet_segment], ax
	pop ax
	sub cx, ax
	jnz .more
	cli
	lgdt [gdt_pointer]
	mov eax, cr0
	or al, 1
	mov cr0, eax
	jmp 8:protected
.stop:
	hlt
	jmp .stop

bits 32
protected:
	mov ax, 16
	mov ds, ax
	mov es, ax
	mov fs, ax
	mov gs, ax
	mov ss, ax
	mov esi, LOW
	mov edi, IMAGE
	mov ecx, [sectors]
	shl ecx, 7
	rep movsd
	mov eax, [memory]
	mov [info + 8], eax
	mov eax, 0x2badb002
	mov ebx, info
	jmp [entry]

	align 8
gdt:	dq 0, 0x00cf9b000000ffff, 0x00cf93000000ffff
gdt_pointer:
	dw gdt_pointer - gdt - 1
	dd gdt
	align 4
packet:	db 16, 0
packet_count: dw 0
	dw 0
packet_segment: dw LOW >> 4
packet_sector: dd 1, 0
info:	dd 1 | 4, 639, 0, 0, line
line:	times 510 - ($ - $$) db 0
	dw 0xaa55
