/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The table of CPUs that are up, and each one's descriptor tables. A CPU enters the
 * table once, in the order of arrival, and never leaves it; readers need no lock because an
 * entry is complete before the count covers it.
 */
#include "arch/x86_64/cpu_local.h"
#include "arch/x86_64/host.h"
#include "arch/x86_64/log.h"
#include "arch/x86_64/traps.h"

struct cpu boot_cpu __attribute__((aligned(64))) = { .open = true };
uint8_t boot_stacks[AREA_CPU * PAGE_SIZE] __attribute__((aligned(4096)));

static struct cpu *cpus[MAX_CPUS] = { &boot_cpu };
static unsigned cpus_up = 1;
static uint32_t registering;

unsigned cpu_index(void)
{
	unsigned index;

	__asm__("movl %%gs:8, %0" : "=r"(index));
	return index;
}

unsigned cpu_count(void)
{
	return __atomic_load_n(&cpus_up, __ATOMIC_ACQUIRE);
}

bool cpu_is_open(unsigned index)
{
	return index < cpu_count() && __atomic_load_n(&cpus[index]->open, __ATOMIC_ACQUIRE);
}

struct cpu *cpu_record(unsigned index)
{
	panic_unless(index < cpu_count());
	return cpus[index];
}

bool cpu_register(struct cpu *cpu)
{
	bool room;

	while (__atomic_exchange_n(&registering, 1, __ATOMIC_ACQUIRE))
		__builtin_ia32_pause();
	room = cpus_up < MAX_CPUS;
	if (room) {
		cpu->index = cpus_up;
		cpus[cpus_up] = cpu;
		__atomic_store_n(&cpus_up, cpus_up + 1, __ATOMIC_RELEASE);
	}
	__atomic_store_n(&registering, 0, __ATOMIC_RELEASE);
	return room;
}

uint32_t host_apic_id(unsigned cpu)
{
	return cpu_record(cpu)->apic_id;
}

uint32_t host_node(unsigned cpu)
{
	return cpu_record(cpu)->node;
}

hpa_t host_vendor_page(unsigned cpu)
{
	return cpu_record(cpu)->vendor_page;
}

/* ---- descriptor tables ---- */

/* Intel SDM vol. 3 sections 3.4.5 and 8.2.3: present, ring 0, accessed already so that the processor never writes. */
#define DESCRIPTOR_CODE64 UINT64_C(0x00209b0000000000)
#define DESCRIPTOR_DATA UINT64_C(0x00cf93000000ffff)
#define DESCRIPTOR_TASK64 UINT64_C(0x0000890000000000)

static void set_task_descriptor(uint64_t *entry, const struct task_state *task)
{
	uint64_t base = (uint64_t)task;

	entry[0] = DESCRIPTOR_TASK64 | (sizeof(*task) - 1) | (base & 0xffffff) << 16 | (base >> 24 & 0xff) << 56;
	entry[1] = base >> 32;
}

static void load_gdt_of(const struct cpu *cpu)
{
	const struct table_pointer gdt = { sizeof(cpu->gdt) - 1, (uint64_t)cpu->gdt };

	load_gdt(&gdt, SELECTOR_CODE, SELECTOR_DATA);
}

void cpu_load_tables(struct cpu *cpu, uint8_t *area)
{
	cpu->area = area;
	cpu->timer_deadline_ns = UINT64_MAX;
	cpu->task = (struct task_state){ .io_map_base = sizeof(struct task_state) };
	cpu->task.rsp[0] = (uint64_t)area + BOOT_STACK_TOP;
	for (unsigned i = 0; i < IST_COUNT; i++)
		cpu->task.ist[i] = (uint64_t)area + (AREA_IST_STACK(i) + AREA_IST_PAGES) * PAGE_SIZE;
	cpu->gdt[0] = 0;
	cpu->gdt[SELECTOR_CODE / 8] = DESCRIPTOR_CODE64;
	cpu->gdt[SELECTOR_DATA / 8] = DESCRIPTOR_DATA;
	set_task_descriptor(&cpu->gdt[SELECTOR_TASK / 8], &cpu->task);
	load_gdt_of(cpu);
	/* Loading a null FS or GS selector may clear the base: GS is left alone, FS is not used. */
	__asm__ volatile("lldt %w0" : : "r"(0));
	__asm__ volatile("ltr %w0" : : "r"(SELECTOR_TASK) : "memory");
	traps_load();
}

void host_descriptor_tables(struct host_descriptor_tables *out)
{
	struct cpu *cpu = this_cpu();

	*out = (struct host_descriptor_tables){
		.gdt_base = (uint64_t)cpu->gdt,
		.idt_base = traps_table(),
		.tss_base = (uint64_t)&cpu->task,
		.gs_base = (uint64_t)cpu,
		.cs = SELECTOR_CODE,
		.ss = SELECTOR_DATA,
		.tr = SELECTOR_TASK,
	};
}

void host_reload_table_limits(void)
{
	const struct cpu *cpu = this_cpu();
	const struct table_pointer gdt = { sizeof(cpu->gdt) - 1, (uint64_t)cpu->gdt };

	__asm__ volatile("lgdt %0" : : "m"(gdt));
	traps_load();
}
