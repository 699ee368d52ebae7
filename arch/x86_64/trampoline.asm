; SPDX-License-Identifier: Apache-2.0
;
; Code that runs below 1 MiB: an application processor's way from real mode into the kernel, and the boot
; processor's way out of 5-level paging, which must pass through 32-bit mode. smp.c copies it to the trampoline
; pages and fills in the parameters; all addresses in here are offsets from trampoline_start.
;
; The application part has no stack and writes nothing: all CPUs may run it at once.

%define CR0_PE 1
%define CR0_PG (1 << 31)
%define CR4_PAE (1 << 5)
%define CR4_LA57 (1 << 12)
%define MSR_MISC_ENABLE 0x1a0
%define MSR_EFER 0xc0000080
%define CODE32 0x08
%define DATA32 0x10
%define CODE64 0x18

%define at(label) (label - trampoline_start)

section .rodata progbits alloc noexec nowrite align=16
global trampoline_start
global trampoline_end
global trampoline_parameters
global trampoline_leave

bits 16
trampoline_start:
	cli
	cld
	mov ax, cs
	mov ds, ax
	xor ebx, ebx            ; EBX = base, from here on
	mov bx, cs
	shl ebx, 4
	o32 lgdt [at(gdt_pointer)]
	mov eax, cr0
	and eax, 0x1fffffff     ; caches on: INIT leaves CD and NW set
	or al, CR0_PE
	mov cr0, eax
	o32 jmp far [at(far_protected)]

bits 32
trampoline_protected:
	mov ax, DATA32
	mov ds, ax
	mov ss, ax
	mov eax, cr4
	or eax, CR4_PAE
	mov cr4, eax
	mov eax, [ebx + at(root)]
	mov cr3, eax
	cmp byte [ebx + at(xd_off)], 0
	je .efer                ; else EFER.NXE would be a #GP
	mov ecx, MSR_MISC_ENABLE
	rdmsr
	and edx, ~(1 << 2)      ; bit 34, XD disable
	wrmsr
.efer:
	mov ecx, MSR_EFER
	rdmsr
	or eax, [ebx + at(efer)]
	wrmsr
	mov eax, cr0
	or eax, CR0_PG
	mov cr0, eax
	jmp far [ebx + at(far_long)]

bits 64
trampoline_long:
	mov rax, [rbx + at(kernel_root)]
	mov rcx, [rbx + at(entry)]
	jmp rcx                 ; into the kernel's half, which both tables map; RAX = its root

; trampoline_leave: entered with RBX = base, in 64-bit mode with 5-level tables that map this page here. RSP and
; the return address are kept in the page because 32-bit mode may lose the upper halves of the registers.
trampoline_leave:
	mov [rbx + at(saved_stack)], rsp
	lgdt [rbx + at(gdt_pointer)]
	push CODE32
	lea rax, [rbx + at(leave_32)]
	push rax
	retfq
bits 32
leave_32:
	mov ax, DATA32
	mov ds, ax
	mov ss, ax
	mov eax, cr0
	and eax, ~CR0_PG
	mov cr0, eax
	mov eax, cr4
	and eax, ~CR4_LA57
	mov cr4, eax
	mov eax, [ebx + at(root)]
	mov cr3, eax
	mov eax, cr0
	or eax, CR0_PG
	mov cr0, eax
	jmp far [ebx + at(far_left)]
bits 64
leave_64:
	mov ebx, ebx
	mov rsp, [rbx + at(saved_stack)]
	mov rax, [rbx + at(kernel_root)]
	ret                     ; to the kernel's half

align 8
trampoline_gdt:
	dq 0
	dq 0x00cf9b000000ffff   ; 32-bit code
	dq 0x00cf93000000ffff   ; data
	dq 0x00209b0000000000   ; 64-bit code
gdt_end:

; struct trampoline_parameters of smp.c
align 8
trampoline_parameters:
gdt_pointer:
	dw gdt_end - trampoline_gdt - 1
	dq at(trampoline_gdt)   ; + base
	dw 0
far_protected:
	dd at(trampoline_protected)
	dw CODE32
	dw 0
far_long:
	dd at(trampoline_long)
	dw CODE64
	dw 0
far_left:
	dd at(leave_64)
	dw CODE64
	dw 0
root:
	dd 0
efer:
	dd 0
kernel_root:
	dq 0
entry:
	dq 0
saved_stack:
	dq 0
xd_off:
	dq 0
trampoline_end:
