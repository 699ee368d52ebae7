; SPDX-License-Identifier: Apache-2.0
; The kernel's ELF file and the default configuration, carried inside the UEFI program.
; They stand in .data, since the PE image has no read-only section of its own.
section .data align=4096
global kernel_image_start, kernel_image_end
global default_config_start, default_config_end

align 16
kernel_image_start:
	incbin "kernel.stripped"
kernel_image_end:

align 16
default_config_start:
	incbin "boot/default.conf"
default_config_end:

section .note.GNU-stack noalloc noexec nowrite progbits
