; SPDX-License-Identifier: Apache-2.0
; The A20 guest in real mode and in 64-bit mode. a20_real() and a20_long() begin and end in flat protected mode with
; paging off, and touch pairs of addresses one MiB apart, with the gate open and closed.
;
; The image begins at 1 MiB, which a closed gate makes unreachable: so all of this runs from copies below 1 MiB.
;
; Manual: Intel SDM vol. 3 sections 9.9 (switching modes), 9.8.5 (IA-32e mode).

%define REAL_BASE 0x8000
%define RESULT 0x6000			; five dwords for a20.c
%define REAL(label) (label - real_begin + REAL_BASE)
%define LONG_BASE 0x9000
%define LONG(label) (label - long_begin + LONG_BASE)

section .text
bits 32
global a20_real, a20_long, a20_copied, a20_copied_end, a20_ins, a20_ins_end

; a20_real(): [RESULT] = word at ffff:0510 with the gate open, then closed; at 0:0500 after a closed write
a20_real:
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

; a20_long(cr3, linear address of an odd MiB): [RESULT] = its dword with the gate open, closed, open again
a20_long:
	pushad
	mov [saved_stack], esp
	mov ebx, [esp + 36]
	mov edx, [esp + 40]
	mov esi, long_begin
	mov edi, LONG_BASE
	mov ecx, long_end - long_begin
	rep movsb
	mov edi, edx
	mov eax, cr4
	mov [saved_cr4], eax
	or eax, 0x20
	mov cr4, eax
	mov cr3, ebx
	mov ecx, 0xc0000080
	rdmsr
	or eax, 0x100
	wrmsr
	mov eax, cr0
	or eax, 0x80000000
	mov cr0, eax
	jmp 0x28:LONG_BASE

back_from_long:
	mov eax, cr0
	and eax, 0x7fffffff
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
	popad
	ret

; Copied below 1 MiB and called there with paging on or off, interrupts off, flat segments:
; (odd address, value): closes the gate, reads the odd address, writes the value there, opens the gate; returns what it read.
a20_copied:
	push ebx
	mov ecx, [esp + 8]
	mov ebx, [esp + 12]
	in al, 0x92
	and al, 0xfd
	out 0x92, al
	mov eax, [ecx]
	mov [ecx], ebx
	mov edx, eax			; no push: the stack is not the stack now
	in al, 0x92
	or al, 2
	and al, 0xfe
	out 0x92, al
	mov eax, edx
	pop ebx
	ret
a20_copied_end:

; The same for what the hypervisor writes in the guest's stead: (odd address): closes the gate, has INSB put port 0x92 there, opens it.
a20_ins:
	push edi
	mov edi, [esp + 8]
	mov edx, 0x92
	in al, dx
	and al, 0xfd
	out dx, al
	cld
	insb
	in al, dx
	or al, 2
	and al, 0xfe
	out dx, al
	pop edi
	ret
a20_ins_end:

bits 16
real_begin:
	mov ax, 0x20
	mov ds, ax
	mov es, ax
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
	mov ax, 0xffff
	mov es, ax
	mov dword [0x500], 0x11112222
	mov dword [es:0x510], 0x33334444	; 0x100500
	mov eax, [0x500]
	mov [RESULT], eax
	in al, 0x92
	and al, 0xfd
	out 0x92, al
	mov eax, [es:0x510]		; wraps round, as on an 8086
	mov [RESULT + 4], eax
	mov dword [es:0x510], 0x55556666
	mov eax, [0x500]
	mov [RESULT + 8], eax
	in al, 0x92
	or al, 2
	and al, 0xfe
	out 0x92, al
	mov eax, [es:0x510]
	mov [RESULT + 12], eax
	mov eax, cr0
	or al, 1
	mov cr0, eax
	jmp dword 0x08:back_from_real
	align 4
real_idt:
	dw 0x3ff
	dd 0
real_end:

bits 64
long_begin:
	mov edi, edi
	mov eax, [rdi]
	mov [RESULT], eax
	in al, 0x92
	and al, 0xfd
	out 0x92, al
	mov eax, [rdi]
	mov [RESULT + 4], eax
	mov dword [rdi], 0x77778888
	in al, 0x92
	or al, 2
	and al, 0xfe
	out 0x92, al
	mov eax, [rdi]
	mov [RESULT + 8], eax
	mov rsp, 0x7c00
	push qword 0x08
	mov eax, back_from_long
	push rax
	retfq
long_end:

section .bss
	alignb 8
saved_stack: resd 1
saved_cr4: resd 1
saved_idt: resb 8
