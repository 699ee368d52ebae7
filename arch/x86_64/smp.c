/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Start of the other CPUs. All are sent INIT and start-up at once and come up in any order; each finds its slot by its
 * own APIC id and takes it by compare-and-exchange, so that one given up on, or started twice, stops
 * instead of running on somebody's stack.
 */
#include "arch/x86_64/smp.h"

#include "arch/x86_64/acpi_parse.h"
#include "arch/x86_64/apic.h"
#include "arch/x86_64/cpu.h"
#include "arch/x86_64/cpu_local.h"
#include "arch/x86_64/features.h"
#include "arch/x86_64/host.h"
#include "arch/x86_64/log.h"
#include "arch/x86_64/mtrr.h"
#include "arch/x86_64/panic.h"
#include "arch/x86_64/paging.h"
#include "arch/x86_64/time.h"
#include "arch/x86_64/trampoline.h"
#include "arch/x86_64/tsc_sync.h"
#include "boot/boot_info.h"

enum slot_state { SLOT_FREE, SLOT_WAITING, SLOT_ARRIVED, SLOT_READY, SLOT_LEFT_OUT, SLOT_ABANDONED };

/* entry.asm knows the layout and the first three states. */
struct smp_slot {
	uint32_t apic_id;
	uint32_t state; /* atomic */
	uint64_t stack_top;
	struct cpu *cpu;
	uint8_t *area;
};
_Static_assert(sizeof(struct smp_slot) == 32, "SLOT_SIZE of entry.asm");

struct smp_slot smp_slots[MAX_CPUS];
uint32_t smp_slot_count;
_Static_assert(SLOT_WAITING == 1 && SLOT_ARRIVED == 2, "entry.asm compares and sets these");

static bool (*application_open)(void);
static void (*application_main)(void);
static bool out_of_memory;
static uint32_t mtrrs_differed; /* atomic */

_Noreturn void ap_start(struct cpu *cpu);

/* ---- the application processor's side ---- */

static struct smp_slot *slot_of(const struct cpu *cpu)
{
	for (uint32_t i = 0; i < smp_slot_count; i++)
		if (smp_slots[i].cpu == cpu)
			return &smp_slots[i];
	panic("a CPU without a slot");
}

/* Before its control registers are set: a bit that this CPU hasn't got would be a #GP. It stops without a number. */
static void refuse_if_lacking(struct smp_slot *slot)
{
	const char *missing = features_missing_here();

	if (!missing)
		return;
	log_line(LOG_WARNING "cpu: the one with APIC id %u has no %s, which the boot CPU has; left out", slot->apic_id,
		 missing);
	__atomic_store_n(&slot->state, SLOT_LEFT_OUT, __ATOMIC_RELEASE);
	panic_stop_here();
}

void ap_start(struct cpu *cpu)
{
	struct smp_slot *slot = slot_of(cpu);

	cpu_load_tables(cpu, slot->area);
	refuse_if_lacking(slot);
	processor_before_paging();
	processor_control_registers();
	if (apic_enable() != slot->apic_id)
		log_line(LOG_WARNING "cpu: APIC id %u calls itself %u", slot->apic_id, cpu->apic_id);
	tsc_sync_adopt();
	if (mtrr_adopt())
		__atomic_fetch_add(&mtrrs_differed, 1, __ATOMIC_RELAXED);
	panic_unless(cpu_register(cpu));
	if (!application_open()) {
		/* It has a number and so still answers: others' flushes wait for it. */
		__atomic_store_n(&slot->state, SLOT_LEFT_OUT, __ATOMIC_RELEASE);
		for (;;)
			interrupts_wait();
	}
	__atomic_store_n(&cpu->open, true, __ATOMIC_RELEASE);
	__atomic_store_n(&slot->state, SLOT_READY, __ATOMIC_RELEASE);
	application_main();
	panic("the main function of a CPU has returned");
}

/* ---- the boot processor's side ---- */

static enum status map_pages(uint64_t where, unsigned count)
{
	for (unsigned i = 0; i < count; i++) {
		hpa_t page = paging_take_page();

		if (hpa_is_none(page))
			return NO_MEMORY;
		TRY(paging_map(where + i * PAGE_SIZE, page, PAGE_SIZE, MAP_WRITE, MEMORY_TYPE_WB));
	}
	return OK;
}

/* Stacks and record; the pages between stay holes. */
static enum status map_area(uint64_t area)
{
	enum status status = map_pages(area + AREA_MAIN_STACK * PAGE_SIZE, AREA_MAIN_PAGES);

	for (unsigned i = 0; i < IST_COUNT && status == OK; i++)
		status = map_pages(area + AREA_IST_STACK(i) * PAGE_SIZE, AREA_IST_PAGES);
	return status == OK ? map_pages(area + AREA_CPU * PAGE_SIZE, 1) : status;
}

static uint32_t node_of(uint32_t apic_id)
{
	const struct acpi_header *srat = host_acpi_table("SRAT");

	return srat ? acpi_find_node(srat, apic_id) : 0;
}

static void add_cpu(void *context, uint32_t apic_id)
{
	uint64_t area = CPU_AREA_BASE + (uint64_t)smp_slot_count * AREA_PAGES * PAGE_SIZE;
	struct smp_slot *slot = &smp_slots[smp_slot_count];
	hpa_t vendor_page;

	if (apic_id == this_cpu()->apic_id)
		return;
	if (!apic_is_x2() && apic_id >= 255) {
		log_line(LOG_WARNING "cpu: the one with APIC id %u needs x2APIC mode; left out", apic_id);
		return;
	}
	for (uint32_t i = 0; i < smp_slot_count; i++)
		if (smp_slots[i].apic_id == apic_id)
			return;
	if (out_of_memory || smp_slot_count == MAX_CPUS - 1) {
		log_line(LOG_WARNING "cpu: no room for the one with APIC id %u; left out", apic_id);
		return;
	}
	vendor_page = paging_take_page();
	if (hpa_is_none(vendor_page) || map_area(area) != OK) {
		log_line(LOG_WARNING "cpu: no memory for the one with APIC id %u; left out", apic_id);
		out_of_memory = true;
		return;
	}
	*slot = (struct smp_slot){ .apic_id = apic_id, .state = SLOT_WAITING, .area = (uint8_t *)area };
	slot->stack_top = area + (AREA_MAIN_STACK + AREA_MAIN_PAGES) * PAGE_SIZE;
	slot->cpu = (struct cpu *)(area + AREA_CPU * PAGE_SIZE);
	slot->cpu->vendor_page = vendor_page;
	slot->cpu->node = node_of(apic_id);
	smp_slot_count++;
}

#define MP_USABLE 6u /* enabled and healthy */

static void count_one(void *context, uint32_t apic_id)
{
	++*(unsigned *)context;
}

unsigned smp_count(const struct boot_info *info)
{
	unsigned count = info->cpu_count;

	if (count <= 1) {
		count = 0;
		acpi_each(ACPI_PROCESSORS, count_one, &count);
	}
	return count <= 1 ? 1 : count < MAX_CPUS ? count : MAX_CPUS;
}

static void list_cpus(const struct boot_info *info)
{
	if (info->cpu_count <= 1) {
		acpi_each(ACPI_PROCESSORS, add_cpu, NULL);
		return;
	}
	for (uint32_t i = 0; i < info->cpu_count && i < BOOT_MAX_CPUS; i++)
		if ((info->cpus[i].flags & MP_USABLE) == MP_USABLE)
			add_cpu(NULL, info->cpus[i].apic_id);
}

static uint32_t count_in(enum slot_state state)
{
	uint32_t count = 0;

	for (uint32_t i = 0; i < smp_slot_count; i++)
		count += __atomic_load_n(&smp_slots[i].state, __ATOMIC_ACQUIRE) == state;
	return count;
}

static void wait_while_any(enum slot_state state, uint64_t most_ns)
{
	uint64_t start = host_now_ns();

	while (count_in(state) && host_now_ns() - start < most_ns)
		for (unsigned i = 0; i < 64; i++) {
			tsc_sync_answer();
			__builtin_ia32_pause();
		}
}

#define INIT_NS UINT64_C(10000000)
#define STARTUP_NS UINT64_C(200000)
#define ARRIVE_NS UINT64_C(1000000000)

static void startup_waiting(hpa_t trampoline)
{
	for (uint32_t i = 0; i < smp_slot_count; i++)
		if (__atomic_load_n(&smp_slots[i].state, __ATOMIC_ACQUIRE) == SLOT_WAITING)
			apic_send_startup(smp_slots[i].apic_id, (uint8_t)(trampoline.v >> PAGE_SHIFT));
}

static void give_up(struct smp_slot *slot)
{
	uint32_t waiting = SLOT_WAITING;

	if (__atomic_compare_exchange_n(&slot->state, &waiting, SLOT_ABANDONED, false, __ATOMIC_ACQ_REL,
					__ATOMIC_ACQUIRE))
		log_line(LOG_WARNING "cpu: the one with APIC id %u does not start; left out", slot->apic_id);
	else if (waiting == SLOT_ARRIVED)
		log_line(LOG_WARNING "cpu: the one with APIC id %u started, but is late", slot->apic_id);
}

enum status smp_start(const struct boot_info *info, bool (*ap_open)(void), void (*ap_main)(void))
{
	hpa_t trampoline = trampoline_place();

	if (hpa_is_none(trampoline)) {
		log_line(LOG_WARNING "cpu: no memory below 640 KiB for the start of other CPUs");
		return NOT_FOUND;
	}
	application_open = ap_open;
	application_main = ap_main;
	boot_cpu.node = node_of(boot_cpu.apic_id);
	list_cpus(info);
	trampoline_prepare(paging_root());
	tsc_sync_open();
	for (uint32_t i = 0; i < smp_slot_count; i++)
		apic_send_init(smp_slots[i].apic_id);
	if (smp_slot_count)
		time_wait_ns(INIT_NS);
	startup_waiting(trampoline);
	wait_while_any(SLOT_WAITING, STARTUP_NS);
	startup_waiting(trampoline);
	wait_while_any(SLOT_WAITING, ARRIVE_NS);
	wait_while_any(SLOT_ARRIVED, ARRIVE_NS);
	for (uint32_t i = 0; i < smp_slot_count; i++)
		give_up(&smp_slots[i]);
	if (mtrrs_differed)
		log_line(LOG_WARNING "cpu: MTRRs of the boot CPU given to %u CPUs that had others", mtrrs_differed);
	log_line("cpu: %u of %u are up", count_in(SLOT_READY) + 1, smp_slot_count + 1);
	return out_of_memory ? NO_MEMORY : OK;
}
