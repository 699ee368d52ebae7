; SPDX-License-Identifier: Apache-2.0
; The two trips of the modes guest: into real mode and back, into 64-bit mode and back. Both begin and
; end in flat protected mode with paging off. What they find they leave for modes.c to judge.
;
; Manual: Intel SDM vol. 3 sections 9.9 (switching modes), 9.8.5 (IA-32e mode).

%define REAL_BASE 0x8000		; where the real-mode piece is copied
%define REAL_RESULT 0x6000		; struct real_result in modes.c
%define REAL(label) (label - real_begin + REAL_BASE)

section .text
bits 32
global real_trip, long_trip, long_fault

; real_trip()
real_trip:
	pushad
	mov [saved_stack], esp
	sidt [saved_idt]
	mov esi, real_begin
	mov edi, REAL_BASE
	mov ecx, real_end - real_begin
	rep movsb
	jmp 0x18:REAL_BASE

back_from_real:
	mov ax, 0x10
	mov ds, ax
	mov es, ax
	mov fs, ax
	mov gs, ax
	mov ss, ax
	mov esp, [saved_stack]
	lidt [saved_idt]
	popad
	ret

; long_trip(cr3, bits to set in CR4, struct long_probe *)
long_trip:
	pushad
	mov [saved_stack], esp
	mov ebx, [esp + 36]
	mov esi, [esp + 40]
	mov edi, [esp + 44]
	sidt [saved_idt]
	mov eax, cr4
	mov [saved_cr4], eax
	or eax, esi
	or eax, 0x20
	mov cr4, eax
	mov cr3, ebx
	mov ecx, 0xc0000080
	rdmsr
	or eax, 0x100
	wrmsr
	mov eax, cr0
	or eax, 0x80010000
	mov cr0, eax
	jmp 0x28:in_long

bits 64
in_long:
	mov edi, edi
	mov esp, esp
	mov eax, [rdi + 64]
	lidt [rax]
	mov r8, 0x1122334455667788
	mov r9, 0xfedcba9876543210
	mov r15, 0xffff800000001234
	mov eax, 0x40000000
	xor ecx, ecx
	cpuid				; an exit that must keep the high halves
	mov [rdi + 48], r8
	add [rdi + 48], r9
	add [rdi + 48], r15
	mov rax, [rdi]
	mov rdx, [rax]
	mov [rdi + 8], rdx
	mov rdx, [rdi + 16]
	mov [rax + 8], rdx
	mov rax, [rdi + 24]
	mov dword [rdi + 40], -1
	mov rdx, [rax]			; a page fault: long_fault comes back behind it
.behind:
	mov r13d, 0xfee00000
	mov r14, -1
	mov r14d, [r13 + 0x30]		; MMIO with registers that only 64-bit mode has
	mov [rdi + 56], r14
	push qword 0x08
	mov eax, back_from_long
	push rax
	retfq

; The page fault's handler: where, with what error code; the faulting instruction is left out.
long_fault:
	pop qword [rdi + 40]
	mov rdx, cr2
	mov [rdi + 32], rdx
	mov edx, in_long.behind
	mov [rsp], rdx
	iretq

bits 32
back_from_long:
	mov eax, cr0
	and eax, 0x7ffeffff
	mov cr0, eax
	mov ecx, 0xc0000080
	rdmsr
	and eax, ~0x100
	wrmsr
	mov eax, [saved_cr4]
	mov cr4, eax
	mov ax, 0x10
	mov ds, ax
	mov es, ax
	mov ss, ax
	mov esp, [saved_stack]
	lidt [saved_idt]
	popad
	ret

; Copied to REAL_BASE; runs there with CS = 0.
bits 16
real_begin:
	mov ax, 0x20
	mov ds, ax
	mov es, ax
	mov fs, ax
	mov gs, ax
	mov ss, ax
	lidt [REAL(real_idt)]
	mov eax, cr0
	and al, 0xfe
	mov cr0, eax
	jmp 0:REAL(.real)
.real:
	xor ax, ax
	mov ds, ax
	mov ss, ax
	mov sp, 0x7c00
	mov ax, 0x1234			; segment arithmetic: 0x12340 + 0x10
	mov es, ax
	mov word [es:0x10], 0xbeef
	mov ax, 0xffff			; the last segment reaches over 1 MiB: the guest's own header
	mov es, ax
	mov eax, [es:0x10]
	mov [REAL_RESULT + 0], eax
	mov word [0x40 * 4], REAL(real_int)
	mov word [0x40 * 4 + 2], 0
	mov word [0], REAL(real_divide)
	mov word [2], 0
	mov dword [REAL_RESULT + 4], 0
	mov dword [REAL_RESULT + 8], 0
	int 0x40
	xor bx, bx
	mov ax, 1
	div bl				; #DE through the real-mode vector table; two bytes
	mov eax, 0x40000000
	cpuid				; an exit in real mode
	mov [REAL_RESULT + 12], ebx
	in al, 0x21
	mov [REAL_RESULT + 16], al
	mov si, REAL(real_text)
	mov dx, 0xe9
	mov cx, real_text_end - real_text
	cld
	rep outsb			; a string exit with a segment
	mov [REAL_RESULT + 20], cx
	pushfd
	pop dword [REAL_RESULT + 24]
	mov eax, cr0
	mov [REAL_RESULT + 28], eax
	or al, 1
	mov cr0, eax
	jmp dword 0x08:back_from_real
real_int:
	inc dword [REAL_RESULT + 4]
	iret
real_divide:
	inc dword [REAL_RESULT + 8]
	push bp
	mov bp, sp
	add word [bp + 2], 2
	pop bp
	iret
	align 4
real_idt:
	dw 0x3ff
	dd 0
real_text:
	db "hello from real mode", 10
real_text_end:
real_end:

section .bss
	alignb 8
saved_stack: resd 1
saved_cr4: resd 1
saved_idt: resb 8
