/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Start and end of a guest: boot information, descriptor tables, exceptions, the verdict.
 * Everything runs on one vcpu, with interrupts off unless a guest turns them on.
 */
#include "guest.h"

#define BOOT_MAGIC 0x2badb002u
#define LINE_CONTROL 0x3fb
#define EIGHT_BITS 3
#define STUBS 64u
#define STUB_SIZE 16u

struct boot_info {
	uint32_t flags, mem_lower, mem_upper, boot_device, cmdline, mods_count, mods_addr;
};

struct boot_module {
	uint32_t start, end, string, reserved;
};

struct gate {
	uint16_t low, selector, type, high;
};

struct table_pointer {
	uint16_t limit;
	uint32_t base;
} __attribute__((packed));

struct initial_state initial;
struct trap_frame caught;
uint32_t caught_cr2;
const char *command_line;
struct module first_module;
uint32_t memory_end;
unsigned failures;

extern char trap_stubs[], catch_resume[];
extern uint32_t catch_armed;
void load_tables(const struct table_pointer *gdt, const struct table_pointer *idt);
void guest_start(uint32_t magic, const struct boot_info *info);
void trap(struct trap_frame *frame);

static irq_handler handlers[STUBS];
static struct gate idt[STUBS];
static char command_line_copy[2200];
static const uint64_t gdt[] = {
	0,
	0x00cf9b000000ffffull, /* 0x08 32-bit code */
	0x00cf93000000ffffull, /* 0x10 32-bit data */
	0x00009b000000ffffull, /* 0x18 16-bit code */
	0x000093000000ffffull, /* 0x20 16-bit data */
	0x00af9b000000ffffull, /* 0x28 64-bit code */
};

void guest_exit(uint32_t value)
{
	out32(EXIT_PORT, value);
	for (;;)
		__asm__ volatile("cli; hlt");
}

bool check_at(bool good, unsigned line, const char *text)
{
	if (!good) {
		failures++;
		print("FAILED line %u: %s\n", line, text);
	}
	return good;
}

bool check_equal_at(uint32_t have, uint32_t want, unsigned line, const char *text)
{
	if (have != want) {
		failures++;
		print("FAILED line %u: %s is 0x%x, not 0x%x\n", line, text, have, want);
	}
	return have == want;
}

void set_handler(unsigned vector, irq_handler handler)
{
	handlers[vector] = handler;
}

void trap(struct trap_frame *frame)
{
	if (frame->vector < 32 && catch_armed) {
		caught = *frame;
		caught_cr2 = READ_CR(2);
		frame->eip = (uint32_t)catch_resume;
		return;
	}
	if (handlers[frame->vector]) {
		handlers[frame->vector](frame);
		return;
	}
	print("EXCEPTION vector %u error 0x%x eip 0x%x cr2 0x%x eflags 0x%x\n", frame->vector, frame->error, frame->eip,
	      READ_CR(2), frame->eflags);
	guest_exit(EXIT_EXCEPTION);
}

static void install_tables(void)
{
	static struct table_pointer gdt_pointer, idt_pointer;

	for (unsigned i = 0; i < STUBS; i++) {
		uint32_t stub = (uint32_t)trap_stubs + i * STUB_SIZE;

		idt[i] = (struct gate){ (uint16_t)stub, SELECTOR_CODE32, 0x8e00, (uint16_t)(stub >> 16) };
	}
	gdt_pointer = (struct table_pointer){ sizeof(gdt) - 1, (uint32_t)gdt };
	idt_pointer = (struct table_pointer){ sizeof(idt) - 1, (uint32_t)idt };
	load_tables(&gdt_pointer, &idt_pointer);
}

static void take_boot_info(const struct boot_info *info)
{
	const char *line = info->flags & 4 ? (const char *)info->cmdline : "";
	size_t length = strlen(line);

	if (length >= sizeof(command_line_copy))
		length = sizeof(command_line_copy) - 1;
	memcpy(command_line_copy, line, length);
	command_line = command_line_copy;
	memory_end = MIB + info->mem_upper * 1024u;
	if ((info->flags & 8) && info->mods_count) {
		const struct boot_module *m = (const struct boot_module *)info->mods_addr;

		first_module = (struct module){ m->start, m->end };
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
