; SPDX-License-Identifier: Apache-2.0
; What kvmtest.c runs as a guest: one round from real mode through protected mode to 64-bit mode, told by port writes.
; EBX: the round's number. Loaded at 0x1000; tables at 0x10000 and up, stack below 0x9000. Ports and values: kvmtest.c.
%define PML4 0x10000
%define PDPT 0x11000
%define PD_LOW 0x12000
%define PD_MMIO 0x13000
%define AREA 0x200000
%define PAGES 256
%define MMIO 0xd0000000
%define UNMAPPED 0x40001238

org 0x1000
bits 16
	xor ax, ax
	mov cx, 100
.sum:
	add ax, cx
	loop .sum
	mov dx, 0x10
	out dx, ax
	lgdt [gdt_pointer]
	mov eax, cr0
	or al, 1
	mov cr0, eax
	jmp dword 8:protected

bits 32
protected:
	mov ax, 16
	mov ds, ax
	mov es, ax
	mov ss, ax
	mov esp, 0x9000
	mov eax, 12345
	imul eax, ebx
	mov dx, 0x12
	out dx, eax
	cld
	mov edi, PML4
	mov ecx, 4 * 1024
	xor eax, eax
	rep stosd
	mov dword [PML4], PDPT + 7
	mov dword [PDPT], PD_LOW + 7
	mov dword [PDPT + 3 * 8], PD_MMIO + 7
	mov dword [PD_LOW], 0x87
	mov dword [PD_LOW + 8], AREA + 0x87
	mov dword [PD_MMIO + 128 * 8], MMIO + 0x87
	mov eax, cr4
	or eax, 0x620			; PAE, OSFXSR, OSXMMEXCPT
	mov cr4, eax
	mov eax, PML4
	mov cr3, eax
	mov ecx, 0xc0000080
	rdmsr
	or eax, 0x100
	wrmsr
	mov eax, cr0
	or eax, 0x80000002
	and al, ~4
	mov cr0, eax
	jmp 24:long_mode

bits 64
long_mode:
	mov esp, 0x9000
	mov ebp, ebx			; the round, from here on
	lidt [idt_pointer]
	call area
	call processor
	call devices
	call events
	cli
.end:	hlt
	jmp .end

; What stands in the area, then all of it written, then read back.
area:
	call sum_area
	mov dx, 0x14
	out dx, eax
	mov edi, AREA
	xor ecx, ecx
.write:
	lea rax, [rcx + rbp]
	mov edx, ecx
	and edx, 511
	mov [rdi + rdx * 8], rax
	add edi, 4096
	inc ecx
	cmp ecx, PAGES
	jb .write
	call sum_area
	mov dx, 0x14
	out dx, eax
	ret

sum_area:
	mov esi, AREA
	xor eax, eax
	xor ecx, ecx
.next:
	mov edx, ecx
	and edx, 511
	add rax, [rsi + rdx * 8]
	add esi, 4096
	inc ecx
	cmp ecx, PAGES
	jb .next
	ret

; CPUID, an MSR, and SSE registers over an exit.
processor:
	mov eax, 0
	xor ecx, ecx
	cpuid
	mov eax, ebx
	xor eax, ecx
	xor eax, edx
	mov dx, 0x16
	out dx, eax
	mov ecx, 0xc0000102		; KERNEL_GS_BASE
	mov eax, ebp
	mov edx, 0x1234
	wrmsr
	xor eax, eax
	xor edx, edx
	rdmsr
	shl edx, 16
	add eax, edx
	mov dx, 0x18
	out dx, eax
	movd xmm7, ebp
	mov dx, 0x1a
	out dx, eax
	movd eax, xmm7
	out dx, eax
	ret

; Ports in and out, one after another and in a string; a device's registers in memory.
devices:
	mov dx, 0x20
	in eax, dx
	out dx, eax
	mov esi, text
	mov ecx, text_end - text
	mov dx, 0x30
	rep outsb
	mov esi, MMIO
	mov eax, ebp
	shl rax, 32
	or rax, 0x77
	mov [rsi + 8], rax
	movzx eax, word [rsi + 0x10]
	add byte [rsi + 0x20], 3
	mov dx, 0x22
	out dx, eax
	ret

; Exceptions by the guest's own table, and an interrupt that is injected while it halts.
events:
	mov dword [count], 0
	ud2
	mov eax, [abs UNMAPPED]
	mov ebx, [count]
	mov rax, cr2
	add eax, ebx
	mov dx, 0x24
	out dx, eax
	sti
	hlt
	mov eax, [count]
	mov dx, 0x26
	out dx, eax
	int3
	mov eax, [count]
	out dx, eax
	ret

invalid_opcode:
	add dword [count], 1
	add qword [rsp], 2		; behind ud2
	iretq
page_fault:
	add dword [count], 0x10
	add qword [rsp + 8], 7		; behind the load
	add rsp, 8
	iretq
interrupt:
	add dword [count], 0x100
	iretq
breakpoint:
	add dword [count], 0x1000
	iretq

text:	db "a line by rep outsb", 10
text_end:

	align 8
gdt:
	dq 0, 0x00cf9b000000ffff, 0x00cf93000000ffff, 0x00af9b000000ffff
gdt_pointer:
	dw gdt_pointer - gdt - 1
	dd gdt

%macro gate 1
	dw %1 - $$ + 0x1000, 24, 0x8e00, 0
	dq 0
%endmacro
	align 16
idt:
	times 3 * 16 db 0
	gate breakpoint
	times 2 * 16 db 0
	gate invalid_opcode
	times 7 * 16 db 0
	gate page_fault
	times (0x40 - 15) * 16 db 0
	gate interrupt
idt_pointer:
	dw idt_pointer - idt - 1
	dq idt

	align 8
count:	dd 0
