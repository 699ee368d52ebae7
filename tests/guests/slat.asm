; SPDX-License-Identifier: Apache-2.0
; One access under a changed second-level entry (vm/vcpu/test_call.h): the call, the access, the call that ends it, with
; no other memory touched in between but this page of code.

%define TEST_CALL_SLAT 0x51570002
%define TEST_CALL_DONE 0x51570003

global slat_try, slat_code, slat_code_end

section .text
bits 32
	align 4096
; slat_try(block, address, access: 0 read, 1 write, 2 execute, AMD)
slat_try:
	pushad
	mov ebx, [esp + 36]
	mov edi, [esp + 40]
	mov esi, [esp + 44]
	mov ecx, [esp + 48]
	mov edx, .behind
	mov ebp, [slat_code]		; what is there already
	mov eax, TEST_CALL_SLAT
	jecxz .intel
	vmmcall
	jmp .go
.intel:
	vmcall
.go:
	cmp esi, 1
	ja .execute
	je .write
	mov eax, [edi]
	jmp .done
.write:
	mov [edi], ebp
.done:
	mov eax, TEST_CALL_DONE
	jecxz .intel_done
	vmmcall
	jmp .behind
.intel_done:
	vmcall
.behind:
	popad
	ret
.execute:
	jmp edi

; What the page under test holds: ends it, and goes back.
slat_code:
	mov eax, TEST_CALL_DONE
	jecxz .intel_code
	vmmcall
	jmp edx
.intel_code:
	vmcall
	jmp edx
slat_code_end:
	align 4096
