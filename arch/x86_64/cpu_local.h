/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A host CPU's own record: found through GS, written by its CPU alone except where said.
 *
 * Each CPU has an area of pages like this (the boot CPU's lies in .bss, the others' in CPU_AREA_BASE);
 * below each stack stands a page that is not mapped, so an overflow faults instead of
 * destroying something:
 *
 *   guard | main stack 32 KiB | guard | #DF 8 KiB | guard | NMI 8 KiB | guard | #MC 8 KiB | guard | struct cpu
 * By the name of its guard a test keeps this out and puts a processor of its own in place.
 */
#ifndef ARCH_CPU_LOCAL_H
#define ARCH_CPU_LOCAL_H

#include "arch/x86_64/address.h"
#include "arch/x86_64/percpu.h"
#include "arch/x86_64/spinlock.h"

#define AREA_MAIN_GUARD 0u
#define AREA_MAIN_STACK 1u
#define AREA_MAIN_PAGES 8u
#define AREA_IST_GUARD(n) (9u + 3u * (n)) /* n counts from 0 */
#define AREA_IST_STACK(n) (10u + 3u * (n))
#define AREA_IST_PAGES 2u
#define IST_COUNT 3u
#define AREA_LAST_GUARD 18u
#define AREA_CPU 19u
#define AREA_PAGES 32u /* distance between the areas */

/* Values of the IST field of a gate: 1 based. */
#define IST_DOUBLE_FAULT 1u
#define IST_NMI 2u
#define IST_MACHINE_CHECK 3u

#define BOOT_STACK_TOP 0x9000u
_Static_assert(BOOT_STACK_TOP == (AREA_MAIN_STACK + AREA_MAIN_PAGES) * PAGE_SIZE, "entry.asm knows the top");
_Static_assert(AREA_IST_STACK(IST_COUNT - 1) + AREA_IST_PAGES == AREA_LAST_GUARD, "stacks and guards alternate");
_Static_assert(AREA_CPU < AREA_PAGES, "all parts fit");

/* Intel SDM vol. 3 section 8.7, figure 8-11. */
struct task_state {
	uint32_t reserved0;
	uint64_t rsp[3];
	uint64_t reserved1;
	uint64_t ist[7];
	uint64_t reserved2;
	uint16_t reserved3;
	uint16_t io_map_base;
} __attribute__((packed));
_Static_assert(sizeof(struct task_state) == 104, "as the processor reads it");

#define SELECTOR_CODE 0x08u
#define SELECTOR_DATA 0x10u
#define SELECTOR_TASK 0x18u
#define GDT_ENTRIES 5u /* null, code, data, and two for the TSS */

struct cpu {
	struct cpu *self; /* GS:0 */
	uint32_t index;   /* GS:8 */
	uint32_t apic_id;
	uint32_t node;
	bool open; /* atomic: runs what it is given */
	bool nmi_came; /* GS:21, set by an NMI that met the kernel; whoever waits for one clears it before he looks for other signs */

	uint64_t gdt[GDT_ENTRIES];
	struct task_state task __attribute__((aligned(16)));

	hpa_t vendor_page;
	uint8_t *area; /* first page of its stacks */

	int64_t tsc_ahead; /* of the boot CPU's time stamp counter; written before others know this CPU (tsc_sync.c) */

	/* Interrupt side. */
	uint64_t timer_deadline_ns; /* UINT64_MAX: none */
	uint64_t timer_count, kick_count, nmi_count, stray_count, spurious_count;

	uint64_t flushed; /* atomic: the newest request of shootdown.c that it has followed */
	uint64_t *window; /* the table over its window's directories (window.c); NULL: it has none */

	/* Lock ranks held, in debug builds (spinlock.c). */
	uint32_t ranks_held; /* bit n: a lock of rank n */
	const char *rank_name[RANK_COUNT];
};
_Static_assert(offsetof(struct cpu, self) == 0 && offsetof(struct cpu, index) == 8, "entry.asm and this_cpu() know");
_Static_assert(offsetof(struct cpu, nmi_came) == 21, "vmx/enter.asm knows");
_Static_assert(sizeof(struct cpu) <= PAGE_SIZE, "one page of the area");

static inline struct cpu *this_cpu(void)
{
	struct cpu *cpu;

	__asm__("mov %%gs:0, %0" : "=r"(cpu));
	return cpu;
}

extern struct cpu boot_cpu;
extern uint8_t boot_stacks[AREA_CPU * PAGE_SIZE];

/* The record of a CPU that is up; panics on a number that isn't. */
struct cpu *cpu_record(unsigned index);
/* Numbers the calling CPU (the next free number) and makes it known. NULL-safe never; LIMIT when MAX_CPUS are up. */
bool cpu_register(struct cpu *cpu);

/* Fills GDT and TSS of a CPU whose area lies at `area` and loads them and the IDT on the calling CPU. */
void cpu_load_tables(struct cpu *cpu, uint8_t *area);

#endif
