; SPDX-License-Identifier: Apache-2.0
; Where a guest begins, what exceptions and interrupts run through, and the catching of an exception.
;
; The first instructions store every register before anything changes it: the registers guest judges
; what the hypervisor gave.
bits 32

extern guest_start, trap, initial
global guest_entry, trap_stubs, catch_trap, catch_resume, load_tables

%define STUBS 64

section .multiboot
	align 4
	dd 0x1badb002, 3, -(0x1badb002 + 3)

section .text
guest_entry:
	mov [initial + 0], eax
	mov [initial + 4], ecx
	mov [initial + 8], edx
	mov [initial + 12], ebx
	mov [initial + 16], esp
	mov [initial + 20], ebp
	mov [initial + 24], esi
	mov [initial + 28], edi
	mov esp, stack_end
	pushfd
	pop dword [initial + 32]
	mov eax, cr0
	mov [initial + 36], eax
	mov eax, cr2
	mov [initial + 40], eax
	mov eax, cr3
	mov [initial + 44], eax
	mov eax, cr4
	mov [initial + 48], eax
	mov eax, dr0
	mov [initial + 52], eax
	mov eax, dr1
	mov [initial + 56], eax
	mov eax, dr2
	mov [initial + 60], eax
	mov eax, dr3
	mov [initial + 64], eax
	mov eax, dr6
	mov [initial + 68], eax
	mov eax, dr7
	mov [initial + 72], eax
	cld
	mov ebp, 0
	push dword [initial + 12]
	push dword [initial + 0]
	call guest_start
.never:
	cli
	hlt
	jmp .never

; load_tables(gdt pointer, idt pointer): selectors as in guest.h.
load_tables:
	mov eax, [esp + 4]
	lgdt [eax]
	mov eax, [esp + 8]
	lidt [eax]
	jmp 0x08:.reload
.reload:
	mov ax, 0x10
	mov ds, ax
	mov es, ax
	mov fs, ax
	mov gs, ax
	mov ss, ax
	ret

; One stub a vector, 16 bytes apart; those with an error code have it from the processor.
	align 16
trap_stubs:
%assign v 0
%rep STUBS
	align 16
	%if !(v == 8 || (v >= 10 && v <= 14) || v == 17 || v == 21)
	push dword 0
	%endif
	push dword v
	jmp near trap_common
	%assign v v + 1
%endrep

trap_common:
	pushad
	cld
	push esp
	call trap
	add esp, 4
	popad
	add esp, 8
	iretd

; catch_trap(function, argument): 1 if the function raised an exception, else 0.
catch_trap:
	push ebp
	push ebx
	push esi
	push edi
	mov [catch_stack], esp
	mov dword [catch_armed], 1
	mov eax, [esp + 20]
	push dword [esp + 24]
	call eax
	add esp, 4
	xor eax, eax
catch_done:
	mov dword [catch_armed], 0
	pop edi
	pop esi
	pop ebx
	pop ebp
	ret
; Where trap() lets the processor return to.
catch_resume:
	mov esp, [catch_stack]
	mov eax, 1
	jmp catch_done

section .bss
global catch_armed
catch_armed: resd 1
catch_stack: resd 1
	alignb 16
	resb 16384
stack_end:
