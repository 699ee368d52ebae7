; SPDX-License-Identifier: Apache-2.0
;
; The world switch. The only code that runs with a guest's general registers in the processor; called
; by vmx/run.c with the VMCS current, complete, and interrupts off.
;
; The processor switches RIP, RSP, RFLAGS, control and segment registers by the VMCS; here go the other fifteen.
; A CPUID or an access to a port that vmx_answer_...() can do goes back at once: then what a C function preserves (RBX, RBP, R12
; to R15) has never left the processor.

bits 64
default rel
%include "arch/x86_64/general.inc"
section .text

%define VMCS_HOST_RSP 0x6c14
%define VMCS_EXIT_REASON 0x4402
%define REASON_CPUID 10
%define REASON_IO 30
%define ENTRY_HOST_RSP 0	; struct vmx_entry
%define ENTRY_LAUNCHED 8
%define CPU_NMI_CAME 21		; struct cpu

%macro LEAVE_TO_CALLER 0
	pop	rdi
	POP_ALL KEPT_BY_C
	ret
%endmacro

global vmx_enter
global vmx_exit_point
global vmx_detours
extern vmx_answer_cpuid
extern vmx_answer_port

; uint64_t vmx_enter(struct hv_vcpu *vcpu, struct vmx_entry *entry)
; vcpu begins with gpr[16], numbered as the processor encodes registers; RSP's place is left alone. entry->host_rsp is what the
; VMCS holds as HOST_RSP: it is written only when the stack stands elsewhere. Returns the exit reason; VMX_FAILED_PLAINLY when
; the entry failed without a current VMCS, VMX_FAILED_NUMBER when it failed with an error number in it; or VMX_DONE.
vmx_enter:
	PUSH_ALL KEPT_BY_C
	push	rdi			; now RSP is a multiple of 16, as a call wants it
	cmp	rsp, [rsi + ENTRY_HOST_RSP]
	jne	.write_host_rsp
.load:
	cmp	byte [gs:CPU_NMI_CAME], 0
	jne	.abandon
.too_late:
	cmp	byte [rsi + ENTRY_LAUNCHED], 0	; MOV leaves the flags as they are
	LOAD	KEPT
	LOAD	0, rax, SCRATCH, 7, rdi
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
	shl	rax, 32
	LEAVE_TO_CALLER

; A kick by NMI that came after the last look at the requests: no entry, for what the models (tests/models/wake.pml, flush.pml) have wait
; between CHECK and ENTER is gone with the NMI. Cleared before the next look.
.abandon:
	mov	byte [gs:CPU_NMI_CAME], 0
	mov	eax, 8
	jmp	.leave

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
	STORE	0, rax, SCRATCH
	pop	qword [rdi + 8 * 7]
	mov	eax, VMCS_EXIT_REASON
	vmread	rax, rax
	cmp	eax, REASON_CPUID
	je	.cpuid
	cmp	eax, REASON_IO
	je	.port
.out:
	STORE	KEPT
	LEAVE_TO_CALLER

.port:
	call	vmx_answer_port
	mov	rdi, [rsp]
	test	rax, rax
	jz	.again
	jmp	.out
.cpuid:
	call	vmx_answer_cpuid
	mov	rdi, [rsp]
	test	rax, rax
	jnz	.out
	mov	rbx, [rdi + 8 * 3]	; a part of the answer
.again:
	cmp	byte [gs:CPU_NMI_CAME], 0
	jne	.abandon
.too_late:
	LOAD	0, rax, SCRATCH, 7, rdi
.resume:
	vmresume
	mov	rdi, [rsp]		; refused: vmx_enter's .failed, with the registers that are still here put away
	STORE	KEPT
	jmp	vmx_enter.failed
.abandon:
	mov	rdi, [rsp]
	STORE	KEPT
	jmp	vmx_enter.abandon

section .rodata
align 8
vmx_detours:				; struct nmi_detour: VMLAUNCH and VMRESUME are the last to be kept from
	dq	vmx_enter.too_late, vmx_enter.launch, vmx_enter.abandon
	dq	vmx_exit_point.too_late, vmx_exit_point.resume, vmx_exit_point.abandon
