/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The test guests' common runtime: a multiboot 1 kernel in flat 32-bit protected mode, no library. Those in a folder of their own
 * (tests/guests/hyper) run in 64-bit mode, with entry64.asm and traps64.c.
 *
 * A guest defines guest_main(). It states what it expects with check(), prints lines on COM1, and
 * returns; the runtime prints the verdict and writes 42 to port 0xf4 if all checks held, else 13.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define EXIT_PORT 0xf4
#define EXIT_GOOD 42u
#define EXIT_FAILED 13u
#define EXIT_EXCEPTION 99u

#define SELECTOR_CODE32 0x08
#define SELECTOR_DATA32 0x10
#define SELECTOR_CODE16 0x18
#define SELECTOR_DATA16 0x20
#define SELECTOR_CODE64 0x28

#define MIB (1024u * 1024u)
#define PAGE 4096u
#define BLOCK (2 * MIB)

#define VECTOR_BP 3
#define VECTOR_UD 6
#define VECTOR_GP 13
#define VECTOR_PF 14
#define IRQ_BASE 0x20u /* the PICs' vectors after pic_init() */

/* The registers as the hypervisor gave them; the order is entry.asm's. */
struct initial_state {
	uint32_t eax, ecx, edx, ebx, esp, ebp, esi, edi, eflags, cr0, cr2, cr3, cr4, dr[4], dr6, dr7;
};
extern struct initial_state initial;

#ifdef __x86_64__
struct trap_frame {
	uint64_t r15, r14, r13, r12, r11, r10, r9, r8, edi, esi, ebp, ebx, edx, ecx, eax, vector, error, eip, cs,
		eflags, esp, ss;
};
#else
struct trap_frame {
	uint32_t edi, esi, ebp, esp, ebx, edx, ecx, eax, vector, error, eip, cs, eflags;
};
#endif

#define MODULES_MAX 16u
struct module {
	uint32_t start, end;
	const char *name; /* with its arguments, in the loader's memory */
};

/* From the boot information, copied before the guest overwrites it. */
extern const char *command_line;
extern struct module modules[MODULES_MAX];
extern unsigned module_count;
extern uint32_t memory_end; /* of RAM below 4 GiB, in bytes */
extern char image_end[];

void guest_main(void);
void guest_exit(uint32_t value) __attribute__((noreturn));

/* %s %c %u %d %x (32 bits), %llx (64 bits), %%. No widths. */
void print(const char *format, ...) __attribute__((format(printf, 1, 2)));
void put_char(char c);
/* Counts a failure and prints the text unless `good`. Returns good. */
bool check_at(bool good, unsigned line, const char *text);
#define check(condition) check_at((condition), __LINE__, #condition)
/* Compares two 32-bit values and prints both if they differ. */
bool check_equal_at(uint32_t have, uint32_t want, unsigned line, const char *text);
#define check_equal(have, want) check_equal_at((have), (want), __LINE__, #have)
extern unsigned failures;

/* Whether a word stands on the command line; the number behind "name=", or a default. */
bool option(const char *word);
uint32_t option_number(const char *name, uint32_t standard);

/* The exception that catch_trap() caught. */
extern struct trap_frame caught;
extern uint32_t caught_cr2;
int catch_trap(void (*function)(void *), void *argument);
typedef void (*irq_handler)(struct trap_frame *frame);
void set_handler(unsigned vector, irq_handler handler);

/* Both PICs at IRQ_BASE, all lines masked. */
void pic_init(void);
void pic_unmask(unsigned line);
void pic_eoi(unsigned line);
/* Channel 0, mode 2 (rate) or 0 (one-shot). */
void pit_start(unsigned mode, uint16_t count);

void *memcpy(void *to, const void *from, size_t size);
void *memset(void *to, int value, size_t size);
int memcmp(const void *a, const void *b, size_t size);
size_t strlen(const char *s);

struct cpuid_result {
	uint32_t eax, ebx, ecx, edx;
};

static inline struct cpuid_result cpuid(uint32_t leaf, uint32_t subleaf)
{
	struct cpuid_result r;

	__asm__ volatile("cpuid" : "=a"(r.eax), "=b"(r.ebx), "=c"(r.ecx), "=d"(r.edx) : "a"(leaf), "c"(subleaf));
	return r;
}

static inline uint8_t in8(uint16_t port)
{
	uint8_t v;

	__asm__ volatile("inb %1, %0" : "=a"(v) : "Nd"(port));
	return v;
}

static inline uint16_t in16(uint16_t port)
{
	uint16_t v;

	__asm__ volatile("inw %1, %0" : "=a"(v) : "Nd"(port));
	return v;
}

static inline uint32_t in32(uint16_t port)
{
	uint32_t v;

	__asm__ volatile("inl %1, %0" : "=a"(v) : "Nd"(port));
	return v;
}

static inline void out8(uint16_t port, uint8_t v)
{
	__asm__ volatile("outb %0, %1" : : "a"(v), "Nd"(port));
}

static inline void out16(uint16_t port, uint16_t v)
{
	__asm__ volatile("outw %0, %1" : : "a"(v), "Nd"(port));
}

static inline void out32(uint16_t port, uint32_t v)
{
	__asm__ volatile("outl %0, %1" : : "a"(v), "Nd"(port));
}

static inline uint64_t rdmsr(uint32_t msr)
{
	uint32_t low, high;

	__asm__ volatile("rdmsr" : "=a"(low), "=d"(high) : "c"(msr));
	return (uint64_t)high << 32 | low;
}

static inline void wrmsr(uint32_t msr, uint64_t v)
{
	__asm__ volatile("wrmsr" : : "a"((uint32_t)v), "d"((uint32_t)(v >> 32)), "c"(msr) : "memory");
}

static inline uint64_t rdtsc(void)
{
	uint32_t low, high;

	__asm__ volatile("rdtsc" : "=a"(low), "=d"(high));
	return (uint64_t)high << 32 | low;
}

static inline uint32_t read32(uint32_t address)
{
	return *(volatile uint32_t *)(uintptr_t)address;
}

static inline void write32(uint32_t address, uint32_t v)
{
	*(volatile uint32_t *)(uintptr_t)address = v;
}

static inline void interrupts_on(void)
{
	__asm__ volatile("sti" : : : "memory");
}

static inline void interrupts_off(void)
{
	__asm__ volatile("cli" : : : "memory");
}

/* STI's shadow: an interrupt can't come between the two. */
static inline void wait_interrupt(void)
{
	__asm__ volatile("sti; hlt; cli" : : : "memory");
}

#define READ_CR(n)                                                                                                     \
	({                                                                                                             \
		unsigned long value_;                                                                                  \
		__asm__ volatile("mov %%cr" #n ", %0" : "=r"(value_));                                                 \
		value_;                                                                                                \
	})
#define WRITE_CR(n, v) __asm__ volatile("mov %0, %%cr" #n : : "r"((unsigned long)(v)) : "memory")
