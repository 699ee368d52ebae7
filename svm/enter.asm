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
%include "arch/x86_64/general.inc"

section .text

extern svm_answer
global svm_enter
svm_enter:
	PUSH_ALL KEPT_BY_C
	push	rdx			; host VMCB
	push	rsi			; guest VMCB
	push	rdi			; vcpu, that is gpr[]; now RSP is a multiple of 16, as a call wants it

	mov	rax, rsi		; guest VMCB: RAX holds it through VMLOAD, VMRUN and VMSAVE
	clgi
	sti
	vmload
	LOAD	KEPT
.enter:
	LOAD	SCRATCH, 7, rdi

	vmrun			; RAX and RSP are the host's again behind it
global svm_left
svm_left:
	push	rdi
	mov	rdi, [rsp + 8]		; gpr[]
	STORE	SCRATCH
	pop	qword [rdi + 8 * 7]
	mov	[rdi + 8 * 3], rbx
	call	svm_answer
	test	al, al
	mov	rdi, [rsp]
	mov	rax, [rsp + 8]
	mov	rbx, [rdi + 8 * 3]	; a part of the answer
	jnz	svm_enter.enter

	vmsave
	STORE	KEPT_BUT_RBX
	mov	rax, [rsp + 16]		; host VMCB
	vmload
	cli
	stgi

	add	rsp, 24
	POP_ALL KEPT_BY_C
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
