/* SPDX-License-Identifier: Apache-2.0 */
/* Both consoles as one. */
#include "arch/x86_64/console.h"

#include "arch/x86_64/host.h"
#include "arch/x86_64/paging.h"
#include "boot/boot_info.h"

#define COM1 0x3f8u

void console_early(const struct boot_framebuffer *framebuffer)
{
	serial_init_port(COM1);
	if (framebuffer->address)
		framebuffer_init(framebuffer, host_map_device(hpa(framebuffer->address), framebuffer->size, MEMORY_TYPE_WC));
}

void console_forget_identity(void)
{
	framebuffer_init(NULL, NULL);
}

void console_late(const struct boot_framebuffer *framebuffer)
{
	serial_init_acpi();
	if (framebuffer->address)
		framebuffer_init(framebuffer, host_map_device(hpa(framebuffer->address), framebuffer->size, MEMORY_TYPE_WC));
}

void console_write(const char *bytes, size_t length)
{
	serial_write(bytes, length);
	framebuffer_write(bytes, length);
}

int console_read(void)
{
	return serial_read();
}
