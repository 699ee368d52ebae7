/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Exceptions and interrupts of the host. Vectors: 0-31 the processor's, 0x20-0x2f where the
 * masked PICs would speak, and three of our own; the rest is counted as stray.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#define VECTOR_PIC 0x20u
#define VECTOR_TIMER 0xf0u
#define VECTOR_KICK 0xf1u
#define VECTOR_SPURIOUS 0xffu

/* Operand of LGDT and LIDT in 64-bit mode. */
struct table_pointer {
	uint16_t limit;
	uint64_t base;
} __attribute__((packed));
_Static_assert(sizeof(struct table_pointer) == 10, "as the processor reads it");

/* As traps.asm leaves it on the stack. */
struct trap_frame {
	uint64_t r15, r14, r13, r12, r11, r10, r9, r8;
	uint64_t rdi, rsi, rbp, rbx, rdx, rcx, rax;
	uint64_t vector, error;
	uint64_t rip, cs, rflags, rsp, ss;
};
_Static_assert(sizeof(struct trap_frame) == 22 * 8, "15 registers, 2 from the stub, 5 from the processor");

/* Fills the IDT; boot CPU, once. */
void traps_init(void);
/* Loads IDTR on the calling CPU. */
void traps_load(void);
/* Linear address of the IDT. */
uint64_t traps_table(void);

void trap_handle(struct trap_frame *frame);
/* Linear address of an instruction of the world switch before which a #DB is a guest's leftover and is passed over; 0: none. */
extern uint64_t trap_leftover_at;
/* An NMI that comes before an instruction from `first` to `last` returns to `to`: there it's too late to look for one. Set at boot. */
struct nmi_detour {
	uint64_t first, last, to;
};
extern const struct nmi_detour *nmi_detours; /* two; NULL: none */
/* Bookkeeping of an NMI on the calling CPU: counted; stops for ever when a panic stops all. */
void nmi_note(void);

void load_gdt(const struct table_pointer *gdt, uint16_t code, uint16_t stack);

/* MSR access that may #GP: false then. Any CPU, once traps_load() has run on it. */
bool rdmsr_safe(uint32_t msr, uint64_t *value);
bool wrmsr_safe(uint32_t msr, uint64_t value);
