; SPDX-License-Identifier: Apache-2.0
; What kvmsmp.c runs as a guest on each of two processors, in flat 32-bit segments without paging. EBX: this one's number, ESI: rounds,
; EBP: what is added. A round: all pages of an own area are added to and summed up (EDI), so are those that both have; then processor 0
; asks the other by an interrupt, which answers, and both wait for theirs, halted.
%define AREA 0x200000
%define COMMON 0x600000
%define PAGES 64
%define APIC 0xfee00000
%define APIC_ID 0x20
%define APIC_EOI 0xb0
%define APIC_SVR 0xf0
%define APIC_ICR 0x300
%define APIC_ICR_HIGH 0x310
%define VECTOR 0x40
%define COUNT 0x9000			; for each processor: interrupts that came

org 0x1000
bits 32
	dd interrupt, gdt		; for kvmsmp.c
	mov dword [APIC + APIC_SVR], 0x1ff
	mov eax, [APIC + APIC_ID]
	shr eax, 24
	cmp eax, ebx
	jne wrong
	xor edi, edi
	mov edx, 1
round:
	mov ecx, PAGES
	mov eax, ebx
	shl eax, 21
	add eax, AREA
.own:
	add [eax], ebp
	add edi, [eax]
	add eax, 4096
	loop .own
	mov ecx, PAGES
	mov eax, COMMON
.common:
	lock add [eax], ebp
	add eax, 4096
	loop .common
	test ebx, ebx
	jnz .wait
	mov dword [APIC + APIC_ICR_HIGH], 1 << 24
	mov dword [APIC + APIC_ICR], 0x4000 | VECTOR
.wait:
	cli
	cmp [COUNT + ebx * 4], edx
	jae .next
	sti
	hlt
	jmp .wait
.next:
	inc edx
	dec esi
	jnz round
	mov eax, edi
	out 0x10, eax
wrong:
	out 0x12, eax

align 8
interrupt:
	inc dword [COUNT + ebx * 4]
	mov dword [APIC + APIC_EOI], 0
	test ebx, ebx
	jz .done
	mov dword [APIC + APIC_ICR_HIGH], 0
	mov dword [APIC + APIC_ICR], 0x4000 | VECTOR
.done:
	iret

align 8
gdt:	dq 0, 0x00cf9b000000ffff, 0x00cf93000000ffff
