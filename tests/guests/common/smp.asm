; SPDX-License-Identifier: Apache-2.0
; Where a SIPI leads to (a copy at 0x8000), and from there to ap_entry(number) in the mode that the guest is in.
%define TRAMPOLINE 0x8000
%define CPUS_MAX 64
%define CPU_STACK 8192

extern ap_entry
global ap_trampoline, ap_trampoline_end, ap_gdt, ap_idt, ap_count, ap_stacks, ap_numbers

section .data
bits 16
ap_trampoline:
	cli
	xor ax, ax
	mov ds, ax
	o32 lgdt [TRAMPOLINE + ap_gdt - ap_trampoline]
	mov eax, cr0
	and eax, 0x9fffffff		; INIT leaves caches off
	or al, 1
	mov cr0, eax
	jmp dword 0x08:ap_protected
	align 4
ap_gdt:	dw 0
	dd 0
ap_trampoline_end:

section .text
bits 32
ap_protected:
	mov ax, 0x10
	mov ds, ax
	mov es, ax
	mov fs, ax
	mov gs, ax
	mov ss, ax
	mov eax, 1
	cpuid
	shr ebx, 24			; one that has been here keeps its number
	movzx ebx, byte [ap_numbers + ebx]
	test ebx, ebx
	jnz .known
	inc ebx
	lock xadd [ap_count], ebx
.known:
	cmp ebx, CPUS_MAX
	jae .too_many
	mov esp, ebx
	shl esp, 13
	add esp, ap_stacks
	cld
	xor ebp, ebp
%ifidn __OUTPUT_FORMAT__, elf64
extern page_root
	mov eax, cr4
	or eax, 0x620			; as in entry64.asm
	mov cr4, eax
	mov eax, [page_root]
	mov cr3, eax
	mov ecx, 0xc0000080
	rdmsr
	or eax, 0x900
	wrmsr
	mov eax, cr0
	or eax, 0x80000022
	and al, ~0xc
	mov cr0, eax
	jmp 0x28:.in_long
%else
	lidt [ap_idt]
	sub esp, 12
	push ebx
	call ap_entry
%endif
.too_many:
	cli
	hlt
	jmp .too_many
%ifidn __OUTPUT_FORMAT__, elf64
bits 64
.in_long:
	lidt [ap_idt]
	mov edi, ebx
	call ap_entry
%endif

section .data
	align 8
ap_count: dd 1
ap_numbers: times 256 db 0		; by APIC id
ap_idt:	times 10 db 0

section .bss
	alignb 4096
ap_stacks: resb CPU_STACK * (CPUS_MAX - 1)
