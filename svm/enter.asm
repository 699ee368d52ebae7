; SPDX-License-Identifier: Apache-2.0
;
; The world switch: void svm_enter(struct hv_vcpu *vcpu, uint64_t guest_vmcb, uint64_t host_vmcb)
;
; VMRUN and #VMEXIT exchange RIP, RSP, RAX, RFLAGS, CR0/3/4, EFER, ES/CS/SS/DS, GDTR and IDTR by themselves; VMLOAD
; and VMSAVE the rest that the host has of its own (FS, GS, TR, LDTR, syscall and sysenter MSRs). What remains is the
; general registers. AMD APM vol. 2 sections 15.5, 15.5.2, 15.6, 15.17.
;
; From CLGI to STGI nothing can interrupt, not even an NMI, so nobody sees half of a switch. STI within it lets physical
; interrupts end the guest (V_INTR_MASKING: the host's IF decides); CLI before STGI keeps them out of this function: an
; interrupt or NMI that ended the guest is still pending. The NMI is taken at STGI, the interrupt when the caller opens
; interrupts. An order that serves real processors, QEMU and Bochs alike. STI stands well before VMRUN: entered right
; behind it, the guest could inherit STI's interrupt shadow.
;
; An exit that svm_answer() has the answer to goes back at once, within CLGI and STGI: what VMLOAD brought, and what a C function
; preserves (RBX, RBP, R12 to R15), has never left the processor. An interrupt or NMI that waits ends the guest right again.
; All other exits need VMSAVE and both VMLOADs: whatever is interrupted behind STGI needs the host's GS and TR, and neither these
; nor the guest's can be exchanged in less than the one instruction (WRMSR, and LTR with a descriptor made available again).
;
; VMLOAD, VMRUN and VMSAVE take the VMCB in RAX.

bits 64
default rel

; indices into hv_vcpu.gpr (enum gpr)
RCX_AT equ 1 * 8
RDX_AT equ 2 * 8
RBX_AT equ 3 * 8
RBP_AT equ 5 * 8
RSI_AT equ 6 * 8
RDI_AT equ 7 * 8
R8_AT  equ 8 * 8
R9_AT  equ 9 * 8
R10_AT equ 10 * 8
R11_AT equ 11 * 8
R12_AT equ 12 * 8
R13_AT equ 13 * 8
R14_AT equ 14 * 8
R15_AT equ 15 * 8

; What C may change, RDI last, from [rdi].
%macro LOAD_SCRATCH 0
	mov	rcx, [rdi + RCX_AT]
	mov	rdx, [rdi + RDX_AT]
	mov	rsi, [rdi + RSI_AT]
	mov	r8, [rdi + R8_AT]
	mov	r9, [rdi + R9_AT]
	mov	r10, [rdi + R10_AT]
	mov	r11, [rdi + R11_AT]
	mov	rdi, [rdi + RDI_AT]
%endmacro

section .text

extern svm_answer
global svm_enter
svm_enter:
	push	rbp
	push	rbx
	push	r12
	push	r13
	push	r14
	push	r15
	push	rdx			; host VMCB
	push	rsi			; guest VMCB
	push	rdi			; vcpu, that is gpr[]; now RSP is a multiple of 16, as a call wants it

	mov	rax, rsi		; guest VMCB: RAX holds it through VMLOAD, VMRUN and VMSAVE
	clgi
	sti
	vmload
	mov	rbx, [rdi + RBX_AT]
	mov	rbp, [rdi + RBP_AT]
	mov	r12, [rdi + R12_AT]
	mov	r13, [rdi + R13_AT]
	mov	r14, [rdi + R14_AT]
	mov	r15, [rdi + R15_AT]
.enter:
	LOAD_SCRATCH

	vmrun			; RAX and RSP are the host's again behind it
global svm_left
svm_left:
	push	rdi
	mov	rdi, [rsp + 8]		; gpr[]
	mov	[rdi + RCX_AT], rcx
	mov	[rdi + RDX_AT], rdx
	mov	[rdi + RSI_AT], rsi
	mov	[rdi + R8_AT], r8
	mov	[rdi + R9_AT], r9
	mov	[rdi + R10_AT], r10
	mov	[rdi + R11_AT], r11
	pop	qword [rdi + RDI_AT]
	mov	[rdi + RBX_AT], rbx
	call	svm_answer
	test	al, al
	mov	rdi, [rsp]
	mov	rax, [rsp + 8]
	mov	rbx, [rdi + RBX_AT]	; a part of the answer
	jnz	svm_enter.enter

	vmsave
	mov	[rdi + RBP_AT], rbp
	mov	[rdi + R12_AT], r12
	mov	[rdi + R13_AT], r13
	mov	[rdi + R14_AT], r14
	mov	[rdi + R15_AT], r15
	mov	rax, [rsp + 16]		; host VMCB
	vmload
	cli
	stgi

	add	rsp, 24
	pop	r15
	pop	r14
	pop	r13
	pop	r12
	pop	rbx
	pop	rbp
	ret

; void svm_vmsave(uint64_t vmcb): the host's own FS, GS, TR, LDTR and MSRs into this page.
global svm_vmsave
svm_vmsave:
	mov	rax, rdi
	vmsave
	ret

; void svm_write_cr2(uint64_t value)
global svm_write_cr2
svm_write_cr2:
	mov	cr2, rdi
	ret

; void svm_read_breakpoints(uint64_t *dr), void svm_write_breakpoints(const uint64_t *dr): DR0-3.
global svm_read_breakpoints
svm_read_breakpoints:
%assign i 0
%rep 4
	mov	rax, dr %+ i
	mov	[rdi + i * 8], rax
%assign i i + 1
%endrep
	ret

global svm_write_breakpoints
svm_write_breakpoints:
%assign i 0
%rep 4
	mov	rax, [rdi + i * 8]
	mov	dr %+ i, rax
%assign i i + 1
%endrep
	ret

; void svm_write_dr7(uint64_t value)
global svm_write_dr7
svm_write_dr7:
	mov	dr7, rdi
	ret

section .note.GNU-stack noalloc noexec nowrite progbits
