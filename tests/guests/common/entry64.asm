; SPDX-License-Identifier: Apache-2.0
; Where a guest in 64-bit mode begins: 4 GiB mapped one to one by 2 MiB pages; then exceptions, and the catching of one, as in entry.asm.
bits 32

extern guest_start, trap, initial
global guest_entry, trap_stubs, catch_trap, catch_resume, load_tables, page_root

%define STUBS 64

section .multiboot
	align 4
	dd 0x1badb002, 3, -(0x1badb002 + 3)

section .text
guest_entry:
	mov esp, stack_end
	mov ebp, eax
	mov edi, page_tables + 8192	; four directories
	mov eax, 0x83
	mov ecx, 2048
.fill:
	mov [edi], eax
	add edi, 8
	add eax, 0x200000
	loop .fill
	mov dword [page_tables], page_tables + 4096 + 3
	mov edi, page_tables + 4096
	mov eax, page_tables + 8192 + 3
	mov cl, 4
.directories:
	mov [edi], eax
	add edi, 8
	add eax, 4096
	loop .directories
	mov eax, cr4
	or eax, 0x620			; PAE, OSFXSR, OSXMMEXCPT
	mov cr4, eax
	mov eax, page_tables
	mov cr3, eax
	mov ecx, 0xc0000080
	rdmsr
	or eax, 0x900			; LME, NXE
	wrmsr
	mov eax, cr0
	or eax, 0x80000022
	and al, ~0xc
	mov cr0, eax
	lgdt [start_gdt]
	jmp 0x08:in_long

bits 64
in_long:
	mov ax, 0x10
	mov ds, ax
	mov es, ax
	mov ss, ax
	xor eax, eax
	mov fs, ax
	mov gs, ax
	mov esp, esp
	mov edi, ebp
	mov esi, ebx
	cld
	xor ebp, ebp
	call guest_start
.never:
	cli
	hlt
	jmp .never

; load_tables(gdt pointer, idt pointer): selectors as in guest.h, 0x30 the task state.
load_tables:
	lgdt [rdi]
	lidt [rsi]
	mov ax, 0x30
	ltr ax
	mov ax, 0x10
	mov ds, ax
	mov es, ax
	mov ss, ax
	pop rax
	push 0x28
	push rax
	o64 retf

	align 16
trap_stubs:
%assign v 0
%rep STUBS
	align 16
	%if !(v == 8 || (v >= 10 && v <= 14) || v == 17 || v == 21)
	push 0
	%endif
	push v
	jmp near trap_common
	%assign v v + 1
%endrep

%macro each_saved 1
	%1 rax
	%1 rcx
	%1 rdx
	%1 rbx
	%1 rbp
	%1 rsi
	%1 rdi
	%1 r8
	%1 r9
	%1 r10
	%1 r11
	%1 r12
	%1 r13
	%1 r14
	%1 r15
%endmacro

trap_common:
	each_saved push
	cld
	mov rdi, rsp
	mov rbp, rsp
	and rsp, -16
	call trap
	mov rsp, rbp
	pop r15
	pop r14
	pop r13
	pop r12
	pop r11
	pop r10
	pop r9
	pop r8
	pop rdi
	pop rsi
	pop rbp
	pop rbx
	pop rdx
	pop rcx
	pop rax
	add rsp, 16
	iretq

; catch_trap(function, argument): 1 if the function raised an exception, else 0.
catch_trap:
	push rbp
	push rbx
	push r12
	push r13
	push r14
	push r15
	sub rsp, 8
	mov [catch_stack], rsp
	mov dword [catch_armed], 1
	mov rax, rdi
	mov rdi, rsi
	call rax
	xor eax, eax
catch_done:
	mov dword [catch_armed], 0
	add rsp, 8
	pop r15
	pop r14
	pop r13
	pop r12
	pop rbx
	pop rbp
	ret
; Where trap() lets the processor return to.
catch_resume:
	mov rsp, [catch_stack]
	mov eax, 1
	jmp catch_done

section .data
	align 8
start_gdt_entries:
	dq 0, 0x00af9b000000ffff, 0x00cf93000000ffff
start_gdt:
	dw $ - start_gdt_entries - 1
	dd start_gdt_entries
page_root: dq page_tables

section .bss
global catch_armed
catch_armed: resd 1
	alignb 8
catch_stack: resq 1
	alignb 4096
page_tables: resb 6 * 4096
	resb 16384
stack_end:
