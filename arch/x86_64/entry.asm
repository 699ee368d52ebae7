; SPDX-License-Identifier: Apache-2.0
;
; The first instructions of the kernel on the boot processor: own stack, the stack protector's
; value, GS at this CPU's record, then C. Also the 64-bit half of an application processor's start.
;
; Register use is that of the C calling convention; interrupts stay off.

bits 64
default rel
%include "arch/x86_64/general.inc"

%define MSR_GS_BASE 0xc0000101
%define STACK_TOP_OFFSET 0x9000  ; BOOT_STACK_TOP of cpu_local.h: guard page, then 32 KiB
%define SLOT_SIZE 32             ; struct smp_slot of smp.c
%define SLOT_WAITING 1
%define SLOT_ARRIVED 2

extern kernel_main
extern boot_cpu
extern boot_stacks
extern ap_start
extern smp_slots
extern smp_slot_count
extern apic_registers

section .text.entry progbits alloc exec nowrite align=16
global kernel_entry
kernel_entry:
	cli
	cld
	mov rbx, rdi
	mov rsp, boot_stacks + STACK_TOP_OFFSET
	call seed_stack_guard
	mov rax, boot_cpu
	mov [rax], rax          ; cpu->self, read through GS:0
	call set_gs
	xor ebp, ebp            ; a backtrace ends here
	mov rdi, rbx
	call kernel_main
.stop:
	cli
	hlt
	jmp .stop

; RAX becomes the base of GS. Changes RCX and RDX.
set_gs:
	mov ecx, MSR_GS_BASE
	mov rdx, rax
	shr rdx, 32
	wrmsr
	ret

; From RDRAND where there is one (ten tries, as its manual advises), always mixed with the TSC. The low byte is
; zero, so that a string that runs over the end can't write the right value.
seed_stack_guard:
	push rbx
	rdtsc
	shl rdx, 32
	or rax, rdx
	mov r8, 0x9e3779b97f4a7c15
	imul r8, rax
	mov eax, 1
	cpuid
	bt ecx, 30
	jnc .done
	mov ecx, 10
.again:
	rdrand rax
	jc .mix
	loop .again
	jmp .done
.mix:
	xor r8, rax
.done:
	and r8, -256
	mov [__stack_chk_guard], r8
	pop rbx
	ret

section .text progbits alloc exec nowrite align=16

; Jumped to by the trampoline in 64-bit mode, RAX = root of the kernel's page tables, without a stack. Finds this
; CPU's slot by its APIC id; a CPU that nobody waits for stops here for ever.
global ap_entry
ap_entry:
	cli
	cld
	mov cr3, rax
	mov rdi, apic_registers
	mov rdi, [rdi]
	test rdi, rdi
	jz .by_cpuid
	mov esi, [rdi + 0x20]   ; in xAPIC mode firmware may have changed it, and CPUID tells the one after reset
	shr esi, 24
	jmp .search
.by_cpuid:
	xor eax, eax
	cpuid
	cmp eax, 0xb
	jb .short_id
	mov eax, 0xb
	xor ecx, ecx
	cpuid
	test ebx, ebx
	jz .short_id
	mov esi, edx
	jmp .search
.short_id:
	mov eax, 1
	cpuid
	mov esi, ebx
	shr esi, 24
.search:
	mov rdi, smp_slots
	mov ecx, [smp_slot_count]
.next:
	test ecx, ecx
	jz .stop
	cmp [rdi], esi
	je .found
	add rdi, SLOT_SIZE
	dec ecx
	jmp .next
.found:
	mov eax, SLOT_WAITING
	mov edx, SLOT_ARRIVED
	lock cmpxchg [rdi + 4], edx
	jne .stop               ; given up on, or started twice
	mov rsp, [rdi + 8]
	mov r12, [rdi + 16]     ; struct cpu
	mov rax, r12
	mov [rax], rax
	call set_gs
	xor ebp, ebp
	mov rdi, r12
	call ap_start
.stop:
	cli
	hlt
	jmp .stop

; void trampoline_call(uint64_t base, uint64_t code): runs the trampoline's way out of 5-level paging. It comes
; back with
; RAX = root of the kernel's tables, the trampoline's segments, and nothing but RSP and RAX preserved.
global trampoline_call
trampoline_call:
	PUSH_ALL KEPT_BY_C
	mov rbx, rdi
	call rsi
	mov cr3, rax
	POP_ALL KEPT_BY_C
	ret

section .data
align 8
global __stack_chk_guard
__stack_chk_guard: dq 0
