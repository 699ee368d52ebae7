/* SPDX-License-Identifier: Apache-2.0 */
/* Descriptor tables and exceptions of a guest in 64-bit mode. Interrupts and exceptions use the stack that they meet. */
#include "guest.h"

#define STUBS 64u
#define STUB_SIZE 16u

struct gate {
	uint16_t low, selector, type, middle;
	uint32_t high, reserved;
};

struct table_pointer {
	uint16_t limit;
	uint64_t base;
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
static uint8_t task_state[104];
static uint64_t gdt[] = {
	0,
	0x00cf9b000000ffffull, /* 0x08 32-bit code */
	0x00cf93000000ffffull, /* 0x10 data */
	0,
	0,
	0x00af9b000000ffffull, /* 0x28 64-bit code */
	0x0000890000000067ull, /* 0x30 the task state, in two */
	0,
};

void set_handler(unsigned vector, irq_handler handler)
{
	handlers[vector] = handler;
}

void trap(struct trap_frame *frame)
{
	if (frame->vector < 32 && catch_armed) {
		caught = *frame;
		caught_cr2 = (uint32_t)READ_CR(2);
		frame->eip = (uintptr_t)catch_resume;
		return;
	}
	if (handlers[frame->vector]) {
		handlers[frame->vector](frame);
		return;
	}
	print("EXCEPTION vector %u error 0x%x rip 0x%llx cr2 0x%llx\n", (uint32_t)frame->vector, (uint32_t)frame->error,
	      (unsigned long long)frame->eip, (unsigned long long)READ_CR(2));
	guest_exit(EXIT_EXCEPTION);
}

void install_tables(void)
{
	static struct table_pointer gdt_pointer, idt_pointer;
	uint64_t task = (uintptr_t)task_state;

	for (unsigned i = 0; i < STUBS; i++) {
		uint64_t stub = (uintptr_t)trap_stubs + i * STUB_SIZE;

		idt[i] = (struct gate){ (uint16_t)stub, SELECTOR_CODE64, 0x8e00, (uint16_t)(stub >> 16), 0, 0 };
	}
	gdt[6] |= (task & 0xffffff) << 16 | (task >> 24 & 0xff) << 56;
	gdt_pointer = (struct table_pointer){ sizeof(gdt) - 1, (uintptr_t)gdt };
	idt_pointer = (struct table_pointer){ sizeof(idt) - 1, (uintptr_t)idt };
	load_tables(&gdt_pointer, &idt_pointer);
}
