; SPDX-License-Identifier: Apache-2.0
; Into L2 and out again, on both processors. struct l2_regs: hyper.h.
bits 64
global vmx_enter, vmx_exit, svm_enter

%define HOST_RSP 0x6c14

%macro save_callee 0
	push rbp
	push rbx
	push r12
	push r13
	push r14
	push r15
%endmacro
%macro restore_callee 0
	pop r15
	pop r14
	pop r13
	pop r12
	pop rbx
	pop rbp
%endmacro
; All but RAX and RDI, from and to [rdi]. No flag is changed.
%macro load_others 0
	mov rcx, [rdi + 8]
	mov rdx, [rdi + 16]
	mov rbx, [rdi + 24]
	mov rbp, [rdi + 32]
	mov rsi, [rdi + 40]
	mov r8, [rdi + 56]
	mov r9, [rdi + 64]
	mov r10, [rdi + 72]
	mov r11, [rdi + 80]
	mov r12, [rdi + 88]
	mov r13, [rdi + 96]
	mov r14, [rdi + 104]
	mov r15, [rdi + 112]
%endmacro
%macro store_others 0
	mov [rdi + 8], rcx
	mov [rdi + 16], rdx
	mov [rdi + 24], rbx
	mov [rdi + 32], rbp
	mov [rdi + 40], rsi
	mov [rdi + 56], r8
	mov [rdi + 64], r9
	mov [rdi + 72], r10
	mov [rdi + 80], r11
	mov [rdi + 88], r12
	mov [rdi + 96], r13
	mov [rdi + 104], r14
	mov [rdi + 112], r15
%endmacro

section .text
; vmx_enter(regs, launched): 0 after an exit; 1 VMfailInvalid, 2 VMfailValid.
vmx_enter:
	save_callee
	push rdi
	mov rax, HOST_RSP
	vmwrite rax, rsp
	test esi, esi
	mov rax, [rdi]
	load_others
	mov rdi, [rdi + 48]
	jnz .resume
	vmlaunch
	jmp .failed
.resume:
	vmresume
.failed:
	mov eax, 1
	jc .out
	mov eax, 2
	jz .out
	mov eax, 3
.out:
	pop rdi
	restore_callee
	ret
vmx_exit:
	push rdi
	mov rdi, [rsp + 8]
	mov [rdi], rax
	store_others
	pop rax
	mov [rdi + 48], rax
	add rsp, 8
	restore_callee
	xor eax, eax
	ret

; svm_enter(regs, VMCB): RAX goes by the VMCB. Physical interrupts end L2 whatever its own flag says.
svm_enter:
	save_callee
	push rdi
	mov rax, rsi
	load_others
	mov rdi, [rdi + 48]
	clgi
	sti
	vmrun				; RAX
	cli
	stgi
	push rdi
	mov rdi, [rsp + 8]
	store_others
	pop rax
	mov [rdi + 48], rax
	add rsp, 8
	restore_callee
	ret
