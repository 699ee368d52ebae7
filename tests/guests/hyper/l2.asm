; SPDX-License-Identifier: Apache-2.0
; What L2 executes: pieces that end with HLT, and its exceptions. RDI: address, number or port; RAX: value in and out.
; An exception is written down in l2_seen and ends the piece; an interrupt (vectors 32 and up) is counted.
bits 64
global l2_seen, l2_interrupts, l2_flag, l2_stubs, l2_returns

%macro piece 1
	global %1
	align 16
%1:
%endmacro

section .text
piece l2_halt
	hlt
	jmp l2_halt
piece l2_read
	mov rax, [rdi]
	hlt
piece l2_read32
	mov eax, [rdi]
	hlt
piece l2_write32
	mov [rdi], eax
	hlt
piece l2_count				; and in RBX; resumed behind the HLT it goes on
	xor ebx, ebx
.again:
	add [rdi], rax
	add rbx, rax
	hlt
	jmp .again
piece l2_wait				; until [RAX] isn't 0; counts its rounds at [RAX + 8]
	mov rbx, [rdi]
	inc qword [rax + 8]
	pause
	cmp qword [rax], 0
	je l2_wait
	hlt
piece l2_write
	mov [rdi], rax
	hlt
piece l2_add
	add [rdi], rax
	hlt
piece l2_execute
	call rdi
	hlt
l2_returns:				; what a page that is executed holds
	ret
piece l2_cpuid
	mov ecx, edi
	cpuid
l2_cpuid_after:
	global l2_cpuid_after
	hlt
piece l2_call
	nop				; call.c puts the vendor's instruction here
	nop
	nop
	hlt
piece l2_out
	mov edx, edi
	out dx, eax
	hlt
piece l2_in
	mov edx, edi
	in eax, dx
	hlt
piece l2_rdmsr
	mov ecx, edi
	rdmsr
	shl rdx, 32
	or rax, rdx
	hlt
piece l2_wrmsr
	mov ecx, edi
	mov rdx, rax
	shr rdx, 32
	wrmsr
	hlt
piece l2_invalid
	ud2
	hlt
piece l2_int3
	int3
	hlt
piece l2_int
	int 0x30
	hlt
piece l2_rdtsc
	rdtsc
	shl rdx, 32
	or rax, rdx
	hlt
piece l2_invlpg
	invlpg [rdi]
	hlt
piece l2_write_cr3
	mov cr3, rdi
	hlt
piece l2_read_cr3
	mov rax, cr3
	hlt
; RAX pages from RDI on.
piece l2_touch
	mov rdx, [rdi]
	add rdi, 4096
	dec rax
	jnz l2_touch
	hlt
; RDX rounds over the RCX addresses that stand at RDI: RBX is the sum of what was read. l2_sweep adds RAX to each; both take as many
; instructions.
piece l2_sweep
	mov rsi, rdi
	mov r8, rcx
.page:
	mov r9, [rsi]
	add rbx, [r9]
	add [r9], rax
	add rsi, 8
	dec r8
	jnz .page
	dec rdx
	jnz l2_sweep
	hlt
piece l2_survey
	mov rsi, rdi
	mov r8, rcx
.page:
	mov r9, [rsi]
	add rbx, [r9]
	add rax, 0
	add rsi, 8
	dec r8
	jnz .page
	dec rdx
	jnz l2_survey
	hlt
piece l2_read_cr0
	mov rax, cr0
	hlt
piece l2_write_cr0
	mov cr0, rax
	hlt
piece l2_read_cr4
	mov rax, cr4
	hlt
piece l2_write_cr4
	mov cr4, rax
	hlt
piece l2_clts
	clts
	hlt
piece l2_cr8
	mov rax, cr8
	mov cr8, rdi
	hlt
piece l2_write_dr
	mov dr7, rax
	hlt
piece l2_pause
	pause
	hlt
; Until the flag is set, or an interrupt was counted.
piece l2_spin
	cmp qword [l2_flag], 0
	jne .out
	cmp qword [l2_interrupts], 0
	je l2_spin
.out:
	hlt
piece l2_sti_spin
	sti
	jmp l2_spin
piece l2_gates				; SVM: closes its GIF, CPUID, opens it again
	clgi
	sti
	nop
	mov eax, 1
	cpuid
	stgi
	jmp l2_spin
piece l2_gates_closed			; opens, and closes again, at last
	clgi
	stgi
	clgi
	sti
	jmp l2_spin
piece l2_sti_hlt
	sti
	hlt
	cli
	hlt
; Every register's value moves on by one register over an exit.
piece l2_registers
	cpuid
	inc rax
	inc rcx
	inc rdx
	inc rbx
	inc rbp
	inc rsi
	inc rdi
	inc r8
	inc r9
	inc r10
	inc r11
	inc r12
	inc r13
	inc r14
	inc r15
	hlt
piece l2_fpu
	movq xmm0, rax
	movq xmm15, rdi
	cpuid
	movq rax, xmm0
	movq rdi, xmm15
	hlt
piece l2_triple
	lidt [no_idt]
	ud2

	align 16
l2_stubs:
%assign v 0
%rep 64
	align 16
	%if !(v == 8 || (v >= 10 && v <= 14) || v == 17 || v == 21)
	push 0
	%endif
	push v
	jmp near l2_trap
	%assign v v + 1
%endrep

l2_trap:
	push rax
	mov rax, [rsp + 8]
	cmp rax, 32
	jae .interrupt
	inc rax
	mov [l2_seen], rax
	mov rax, [rsp + 16]
	mov [l2_seen + 8], rax
	mov rax, cr2
	mov [l2_seen + 16], rax
	mov rax, [rsp + 24]
	mov [l2_seen + 24], rax
	pop rax
	hlt
.interrupt:
	inc qword [l2_interrupts]
	mov al, 0x20			; the end of interrupt, wherever it goes
	out 0x20, al
	pop rax
	add rsp, 16
	iretq

section .data
no_idt:	dw 0
	dq 0
	align 8
l2_seen: dq 0, 0, 0, 0
l2_interrupts: dq 0
l2_flag: dq 0
