; SPDX-License-Identifier: Apache-2.0
; The trip of the mmu guest: into a paging mode, a batch of cases there, and back. For each case the hypervisor is
; asked first what is going to happen; then CR3 is loaded and the access made, from CPL 0 or 3. Everything ends in an exception:
; an access that goes well in the INT3 behind it, a call in the INT3 that it finds.
;
; Manual: Intel SDM vol. 3 sections 9.8.5 (IA-32e mode), 4.1 (paging modes).

; struct mmu_case, struct mmu_trip in mmu.h
%define CR3 0
%define GVA 8
%define ACCESS 16
%define CPL 20
%define RFLAGS 24
%define VERDICT 28
%define GPA 40
%define VALUE 128
%define PKRU 132
%define VECTOR 136
%define ERROR 140
%define CR2 144
%define RESULT 152
%define LOADED 156
%define SKIPPED 160
%define LDT 232
%define CASE_SIZE 256

%define TRIP_CR0 0
%define TRIP_CR4 4
%define TRIP_EFER 8
%define TRIP_ROOT 12
%define TRIP_FLAGS 16
%define TRIP_COUNT 20
%define TRIP_CASES 24
%define LONG 1
%define KEYS 2
%define AMD 4

%define TEST_CALL_WALK 0x51570001
%define WINDOW 0x1000000		; where cases may write: 16 to 48 MiB
%define WINDOW_SIZE 0x2000000
%define TARGET 0x1234000		; where they may execute
%define TARGET_SIZE 0x8000
%define DATA 0x10
%define USER_CODE32 0x33
%define USER_DATA 0x3b
%define USER_CODE64 0x43
%define TSS32 0x48
%define TSS64 0x50
%define LDT_SELECTOR 0x60
%define IN_LDT 7			; its first descriptor
%define READ 1
%define WRITE 2
%define EXECUTE 4
%define SYSTEM 8

global mmu_trip, mmu_user_page, mmu_stubs32, mmu_stubs64, mmu_tss32, mmu_tss64, mmu_gdt

%macro stubs 1
	align 16
mmu_stubs%1:
%assign v 0
%rep 32
	align 16
	%if !(v == 8 || (v >= 10 && v <= 14) || v == 17 || v == 21)
	push 0
	%endif
	push v
	jmp near trapped%1
	%assign v v + 1
%endrep
%endmacro

; All cases of the trip, one after the other. %1: 32 or 64; %2 to %6: registers of that width.
%macro cases 6
cases%1:
	mov [trip_stack], esp
next%1:
	mov esp, [trip_stack]
	mov ebp, [current]
	test dword [flags], KEYS
	jz .no_keys%1
	mov eax, [ebp + PKRU]
	xor ecx, ecx
	xor edx, edx
	db 0x0f, 0x01, 0xef		; WRPKRU: nasm has it for 64-bit mode only
.no_keys%1:
	mov eax, TEST_CALL_WALK
	mov ebx, ebp
	test dword [flags], AMD
	jnz .amd%1
	vmcall
	jmp .told%1
.amd%1:
	vmmcall
.told%1:
	mov %2, [ebp + CR3]
	mov cr3, %2			; #GP: trapped, with LOADED still 0
	mov dword [ebp + LOADED], 1
	cmp dword [ebp + VERDICT], 0
	jne .go%1
	; It is going to succeed: only where it does no harm.
	test dword [ebp + ACCESS], READ
	jnz .go%1
	mov eax, [ebp + GPA]
	mov ecx, [ebp + GPA + 4]
	test dword [ebp + ACCESS], EXECUTE
	jnz .fetch%1
	test dword [ebp + ACCESS], SYSTEM
	jnz .low%1
	test ecx, ecx
	jnz .go%1
.low%1:
	test ecx, ecx
	jnz .skip%1
	sub eax, WINDOW
	cmp eax, WINDOW_SIZE
	jb .go%1
.skip%1:
	mov dword [ebp + SKIPPED], 1
	jmp advance%1
.fetch%1:
	test ecx, ecx
	jnz .skip%1
	sub eax, TARGET
	cmp eax, TARGET_SIZE
	jnb .skip%1
.go%1:
	mov eax, [ebp + LDT]
	mov [mmu_gdt + LDT_SELECTOR], eax
	mov eax, [ebp + LDT + 4]
	mov [mmu_gdt + LDT_SELECTOR + 4], eax
	mov eax, [ebp + LDT + 8]
	mov [mmu_gdt + LDT_SELECTOR + 8], eax
	xor eax, eax
	test dword [ebp + ACCESS], SYSTEM
	jz .no_ldt%1
	mov al, LDT_SELECTOR
.no_ldt%1:
	lldt ax
	mov ebx, [ebp + ACCESS]
	shr ebx, 1
	mov eax, [ebp + VALUE]
	mov %6, [ebp + GVA]
	mov edx, [ebp + RFLAGS]
	cmp dword [ebp + CPL], 3
	je .user%1
	mov ecx, [system_code + ebx * 4]
	push %4
	%ifidn %1, 64
	popfq
	%else
	popfd
	%endif
	jmp %3
.user%1:
	mov ecx, [user_code + ebx * 4]
	mov esi, USER_DATA
	mov ds, esi
	mov es, esi
	push %5
	push 0
	push %4
	push USER_CODE%1
	push %3
	%ifidn %1, 64
	iretq
	%else
	iretd
	%endif
trapped%1:
	mov ecx, DATA
	mov ds, ecx
	mov es, ecx
	mov ebp, [current]
	mov [ebp + RESULT], eax
	pop %2
	mov [ebp + VECTOR], eax
	pop %2
	mov [ebp + ERROR], eax
	mov %2, cr2
	mov [ebp + CR2], %2
	mov esp, [trip_stack]
	push 2
	%ifidn %1, 64
	popfq
	%else
	popfd
	%endif
advance%1:
	add dword [current], CASE_SIZE
	dec dword [left]
	jnz next%1
%endmacro

section .text
bits 32
; mmu_trip(struct mmu_trip *)
mmu_trip:
	pushad
	mov [saved_stack], esp
	mov ebx, [esp + 36]
	sidt [saved_idt]
	mov eax, [ebx + TRIP_FLAGS]
	mov [flags], eax
	mov eax, [ebx + TRIP_COUNT]
	mov [left], eax
	mov eax, [ebx + TRIP_CASES]
	mov [current], eax
	mov eax, cr4
	mov [saved_cr4], eax
	mov eax, [ebx + TRIP_CR4]
	mov cr4, eax
	mov ecx, 0xc0000080
	rdmsr
	mov [saved_efer], eax
	mov eax, [ebx + TRIP_EFER]
	wrmsr
	mov eax, [ebx + TRIP_ROOT]
	mov cr3, eax
	mov eax, cr0
	mov [saved_cr0], eax
	mov eax, [ebx + TRIP_CR0]
	mov cr0, eax
	test dword [flags], LONG
	jz .protected
	jmp 0x28:cases_long
.protected:
	lidt [idt32]
	and byte [mmu_gdt + TSS32 + 5], ~2
	mov eax, TSS32
	ltr ax
	cases 32, eax, ecx, edx, esi, edi
leave_paging:
	mov eax, DATA
	mov ds, eax
	mov es, eax
	mov ss, eax
	mov eax, [saved_cr0]
	mov cr0, eax
	mov ecx, 0xc0000080
	rdmsr
	mov eax, [saved_efer]
	wrmsr
	mov eax, [saved_cr4]
	mov cr4, eax
	mov esp, [saved_stack]
	lidt [saved_idt]
	popad
	ret

bits 64
cases_long:
	mov esp, esp
	lidt [idt64]
	and byte [mmu_gdt + TSS64 + 5], ~2
	mov eax, TSS64
	ltr ax
	cases 64, rax, rcx, rdx, rsi, rdi
	push 0x08
	mov eax, leave_paging
	push rax
	retfq

stubs 64
bits 32
stubs 32

; The accesses, the same bytes in both widths: EDI where, EAX what.
%macro accesses 1
%1_read:
	mov eax, [edi]
	int3
%1_write:
	mov [edi], eax
	int3
%1_execute:
	jmp edi
%1_system:				; the descriptor is read as by a supervisor, whatever CPL is
	mov ecx, IN_LDT
	lar edx, ecx
	int3
%endmacro
accesses system
	align 4096
mmu_user_page:
accesses user
	align 4096

section .data
	align 8
system_code: dd system_read, system_write, system_execute, 0, system_system
user_code: dd user_read, user_write, user_execute, 0, user_system
mmu_tss32: dd 0, trap_stack_end, DATA
	times 23 dd 0
mmu_tss64: dd 0, trap_stack_end, 0
	times 23 dd 0
global mmu_idt32, mmu_idt64
	dw 0
idt32: dw 32 * 8 - 1
	dd mmu_idt32
	dw 0
idt64: dw 32 * 16 - 1
	dd mmu_idt64, 0

section .bss
	alignb 16
mmu_gdt: resq 14
mmu_idt32: resq 32
mmu_idt64: resq 64
saved_stack: resd 1
saved_cr0: resd 1
saved_cr4: resd 1
saved_efer: resd 1
saved_idt: resb 8
trip_stack: resd 1
current: resd 1
left: resd 1
flags: resd 1
	alignb 16
	resb 4096
trap_stack_end:
