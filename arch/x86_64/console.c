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
	framebuffer_init(framebuffer, (void *)framebuffer->address); /* the loader maps it where it lies */
}

void console_forget_identity(void)
{
	framebuffer_init(NULL, NULL);
}

void console_late(const struct boot_framebuffer *framebuffer)
{
	serial_init_acpi();
	if (framebuffer->address)
		framebuffer_init(framebuffer,
				 host_map_device(hpa(framebuffer->address), framebuffer->size, MEMORY_TYPE_WC));
}

/* Where it speaks; where nothing is, writing is nothing. */
static bool to_serial = true, to_framebuffer = true;

bool console_choose(bool serial, bool framebuffer)
{
	bool heard = (serial && serial_present()) || (framebuffer && framebuffer_present());

	to_serial = serial || !heard;
	to_framebuffer = framebuffer || !heard;
	return heard;
}

void console_write(const char *bytes, size_t length)
{
	if (to_serial)
		serial_write(bytes, length);
	if (to_framebuffer)
		framebuffer_write(bytes, length);
}

void console_listen(void)
{
	serial_listen();
}

bool console_can_read(void)
{
	return serial_present();
}

int console_read(void)
{
	return serial_read();
}
