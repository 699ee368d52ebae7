/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Start and end of a guest: boot information, the verdict.
 * Interrupts are off unless a guest turns them on; other processors are started by smp.h alone.
 */
#include "guest.h"

#define BOOT_MAGIC 0x2badb002u
#define LINE_CONTROL 0x3fb
#define EIGHT_BITS 3

struct boot_info {
	uint32_t flags, mem_lower, mem_upper, boot_device, cmdline, mods_count, mods_addr;
};

struct boot_module {
	uint32_t start, end, string, reserved;
};

struct initial_state initial;
const char *command_line;
struct module modules[MODULES_MAX];
unsigned module_count;
uint32_t memory_end;
unsigned failures;

void install_tables(void);
void guest_start(uint32_t magic, const struct boot_info *info);

static char command_line_copy[2200];

void guest_exit(uint32_t value)
{
	out32(EXIT_PORT, value);
	for (;;)
		__asm__ volatile("cli; hlt");
}

bool check_at(bool good, unsigned line, const char *text)
{
	if (!good) {
		__atomic_fetch_add(&failures, 1, __ATOMIC_RELAXED);
		print("FAILED line %u: %s\n", line, text);
	}
	return good;
}

bool check_equal_at(uint32_t have, uint32_t want, unsigned line, const char *text)
{
	if (have != want) {
		__atomic_fetch_add(&failures, 1, __ATOMIC_RELAXED);
		print("FAILED line %u: %s is 0x%x, not 0x%x\n", line, text, have, want);
	}
	return have == want;
}

static void take_boot_info(const struct boot_info *info)
{
	const char *line = info->flags & 4 ? (const char *)(uintptr_t)info->cmdline : "";
	size_t length = strlen(line);

	if (length >= sizeof(command_line_copy))
		length = sizeof(command_line_copy) - 1;
	memcpy(command_line_copy, line, length);
	command_line = command_line_copy;
	memory_end = MIB + info->mem_upper * 1024u;
	for (; (info->flags & 8) && module_count < info->mods_count && module_count < MODULES_MAX; module_count++) {
		const struct boot_module *m = (const struct boot_module *)(uintptr_t)info->mods_addr + module_count;

		modules[module_count] = (struct module){ m->start, m->end, (const char *)(uintptr_t)m->string };
	}
}

/* For tests that look at the machine from outside when its work is done ("wait"). */
static void wait_for_operator(void)
{
	print("waiting\n");
	for (;;)
		__asm__ volatile("cli; hlt");
}

void guest_start(uint32_t magic, const struct boot_info *info)
{
	out8(LINE_CONTROL, EIGHT_BITS);
	if (magic != BOOT_MAGIC) {
		print("not started by a multiboot loader: 0x%x\n", magic);
		guest_exit(EXIT_FAILED);
	}
	take_boot_info(info);
	install_tables();
	guest_main();
	if (failures)
		print("%u checks failed\n", failures);
	else
		print("all checks passed\n");
	if (option("wait"))
		wait_for_operator();
	guest_exit(failures ? EXIT_FAILED : EXIT_GOOD);
}
