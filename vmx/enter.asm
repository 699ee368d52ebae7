; SPDX-License-Identifier: Apache-2.0
;
; The world switch. The only code that runs with a guest's general registers in the processor; called
; by vmx/run.c with the VMCS current, complete, and interrupts off.
;
; The processor switches RIP, RSP, RFLAGS, control and segment registers by the VMCS; here go the other fifteen.

bits 64
default rel
section .text

%define VMCS_HOST_RSP 0x6c14
%define ENTRY_HOST_RSP 0	; struct vmx_entry
%define ENTRY_LAUNCHED 8

%macro LEAVE_TO_CALLER 0
	pop	rdi
	pop	r15
	pop	r14
	pop	r13
	pop	r12
	pop	rbx
	pop	rbp
	ret
%endmacro

global vmx_enter
global vmx_exit_point

; unsigned vmx_enter(uint64_t gpr[16], struct vmx_entry *entry)
; gpr is numbered as the processor encodes registers; RSP's place is left alone. entry->host_rsp is what the VMCS holds
; as HOST_RSP: it is written only when the stack stands elsewhere. Returns 0 after an exit, 1 when the entry failed without
; a current VMCS, 2 when it failed with an error number in it.
vmx_enter:
	push	rbp
	push	rbx
	push	r12
	push	r13
	push	r14
	push	r15
	push	rdi
	cmp	rsp, [rsi + ENTRY_HOST_RSP]
	jne	.write_host_rsp
.load:
	cmp	byte [rsi + ENTRY_LAUNCHED], 0	; MOV leaves the flags as they are
	mov	rax, [rdi + 8 * 0]
	mov	rcx, [rdi + 8 * 1]
	mov	rdx, [rdi + 8 * 2]
	mov	rbx, [rdi + 8 * 3]
	mov	rbp, [rdi + 8 * 5]
	mov	rsi, [rdi + 8 * 6]
	mov	r8, [rdi + 8 * 8]
	mov	r9, [rdi + 8 * 9]
	mov	r10, [rdi + 8 * 10]
	mov	r11, [rdi + 8 * 11]
	mov	r12, [rdi + 8 * 12]
	mov	r13, [rdi + 8 * 13]
	mov	r14, [rdi + 8 * 14]
	mov	r15, [rdi + 8 * 15]
	mov	rdi, [rdi + 8 * 7]
	je	.launch
	vmresume
	jmp	.failed
.launch:
	vmlaunch
.failed:				; the guest's registers in memory are still right
	mov	eax, 1
	jc	.leave
	mov	eax, 2
.leave:
	LEAVE_TO_CALLER

.write_host_rsp:
	mov	eax, VMCS_HOST_RSP
	vmwrite	rax, rsp
	jbe	.failed
	mov	[rsi + ENTRY_HOST_RSP], rsp
	jmp	.load

; HOST_RIP: the guest's registers, and the stack as vmx_enter left it.
vmx_exit_point:
	push	rdi
	mov	rdi, [rsp + 8]
	mov	[rdi + 8 * 0], rax
	mov	[rdi + 8 * 1], rcx
	mov	[rdi + 8 * 2], rdx
	mov	[rdi + 8 * 3], rbx
	mov	[rdi + 8 * 5], rbp
	mov	[rdi + 8 * 6], rsi
	mov	[rdi + 8 * 8], r8
	mov	[rdi + 8 * 9], r9
	mov	[rdi + 8 * 10], r10
	mov	[rdi + 8 * 11], r11
	mov	[rdi + 8 * 12], r12
	mov	[rdi + 8 * 13], r13
	mov	[rdi + 8 * 14], r14
	mov	[rdi + 8 * 15], r15
	pop	qword [rdi + 8 * 7]
	xor	eax, eax
	LEAVE_TO_CALLER
