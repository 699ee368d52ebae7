; SPDX-License-Identifier: Apache-2.0
;
; The 256 entry points of the IDT, the common save and restore around trap_handle(), and the few
; instructions that need a fixed place: MSR access that may fault, the IRET that unblocks NMIs,
; loading of descriptor tables.
;
; The kernel never runs below ring 0, so GS is always the kernel's and no swap is needed.

bits 64
default rel
%include "arch/x86_64/general.inc"

extern trap_handle
extern nmi_note

section .text progbits alloc exec nowrite align=16

; Layout on the stack afterwards: struct trap_frame of traps.h.
trap_common:
	PUSH_ALL GENERAL
	cld
	mov rdi, rsp
	call trap_handle
	POP_ALL GENERAL
	add rsp, 16
	iretq

; A #DB at trap_leftover_at: nothing but the stack is the host's there.
leftover:
	iretq

; The vectors whose error code the processor pushes itself: #DF #TS #NP #SS #GP #PF #AC #CP #VC #SX.
%macro stub 1
stub_%1:
%if %1 == 8 || (%1 >= 10 && %1 <= 14) || %1 == 17 || %1 == 21 || %1 == 29 || %1 == 30
%else
%if %1 == 1
	push rax
	mov rax, [rsp + 8]
	cmp rax, [trap_leftover_at]
	pop rax
	je leftover
%endif
	push 0
%endif
	push %1
	jmp trap_common
%endmacro

%assign vector 0
%rep 256
	stub vector
%assign vector vector + 1
%endrep

; bool rdmsr_safe(uint32_t msr, uint64_t *value): false when the processor answers with #GP.
global rdmsr_safe
global rdmsr_safe_instruction
global wrmsr_safe_instruction
global msr_safe_fault
rdmsr_safe:
	mov ecx, edi
rdmsr_safe_instruction:
	rdmsr
	shl rdx, 32
	or rax, rdx
	mov [rsi], rax
	mov eax, 1
	ret
; bool wrmsr_safe(uint32_t msr, uint64_t value)
global wrmsr_safe
wrmsr_safe:
	mov ecx, edi
	mov rax, rsi
	mov rdx, rsi
	shr rdx, 32
wrmsr_safe_instruction:
	wrmsr
	mov eax, 1
	ret
msr_safe_fault:
	xor eax, eax
	ret

; void host_take_nmi(void): the processor blocks NMIs from an NMI exit until the next IRET.
; Intel SDM vol. 3 sections 6.7.1 and 27.5.5.
global host_take_nmi
host_take_nmi:
	push rbp
	mov rbp, rsp
	call nmi_note
	mov ecx, ss
	mov rax, rsp
	push rcx
	push rax
	pushfq
	mov ecx, cs
	push rcx
	lea rax, [.unblocked]
	push rax
	iretq
.unblocked:
	pop rbp
	ret

; void load_gdt(const struct table_pointer *, uint16_t code, uint16_t stack): all data segments but SS become null.
global load_gdt
load_gdt:
	lgdt [rdi]
	mov ss, edx
	xor eax, eax
	mov ds, eax
	mov es, eax
	movzx esi, si
	pop rax
	push rsi
	push rax
	retfq

section .bss nobits alloc noexec write align=8
global trap_leftover_at
trap_leftover_at:
	resq 1

section .rodata progbits alloc noexec nowrite align=8
global trap_stubs
trap_stubs:
%assign vector 0
%rep 256
	dq stub_ %+ vector
%assign vector vector + 1
%endrep
