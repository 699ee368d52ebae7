/* SPDX-License-Identifier: Apache-2.0 */
/* Descriptor tables and exceptions of a guest in 32-bit mode. */
#include "guest.h"

#define STUBS 64u
#define STUB_SIZE 16u

struct gate {
	uint16_t low, selector, type, high;
};

struct table_pointer {
	uint16_t limit;
	uint32_t base;
} __attribute__((packed));

struct trap_frame caught;
uint32_t caught_cr2;

extern char trap_stubs[], catch_resume[];
extern uint32_t catch_armed;
void load_tables(const struct table_pointer *gdt, const struct table_pointer *idt);
void install_tables(void);
void trap(struct trap_frame *frame);

static irq_handler handlers[STUBS];
static struct gate idt[STUBS];
static const uint64_t gdt[] = {
	0,
	0x00cf9b000000ffffull, /* 0x08 32-bit code */
	0x00cf93000000ffffull, /* 0x10 32-bit data */
	0x00009b000000ffffull, /* 0x18 16-bit code */
	0x000093000000ffffull, /* 0x20 16-bit data */
	0x00af9b000000ffffull, /* 0x28 64-bit code */
};

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
	      (uint32_t)READ_CR(2), frame->eflags);
	guest_exit(EXIT_EXCEPTION);
}

void install_tables(void)
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
