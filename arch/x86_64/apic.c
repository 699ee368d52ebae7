/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The host's local APIC. All local interrupt sources are masked but the timer.
 */
#include "arch/x86_64/apic.h"

#include "arch/x86_64/acpi.h"
#include "arch/x86_64/apic_registers.h"
#include "arch/x86_64/cpu.h"
#include "arch/x86_64/cpu_local.h"
#include "arch/x86_64/features.h"
#include "arch/x86_64/host.h"
#include "arch/x86_64/log.h"
#include "arch/x86_64/paging.h"
#include "arch/x86_64/traps.h"

/* DMAR's flag X2APIC_OPT_OUT: the firmware asks not to switch x2APIC mode on. Intel VT-d specification section 8.1. */
#define DMAR_FLAGS 37u
#define DMAR_NO_X2APIC 0x02u

#define LVT_MODE 0x700u
#define LVT_MODE_SMI 0x200u
#define LVT_TSC_DEADLINE 0x40000u
#define ICR_NMI 0x400u
#define ICR_INIT 0x500u
#define ICR_STARTUP 0x600u
#define ICR_PENDING 0x1000u
#define ICR_ASSERT 0x4000u
#define ICR_SPINS 1000000u
#define DIVIDE_BY_16 3u
#define CALIBRATE_NS 2000000u

static bool x2apic;
volatile uint32_t *apic_registers; /* xAPIC mode; entry.asm reads it */
/* Timer ticks per 2^32 TSC ticks; 0: not calibrated. */
static uint64_t timer_ratio;

static uint32_t apic_read(enum apic_register r)
{
	return x2apic ? (uint32_t)rdmsr(MSR_X2APIC_FIRST + r) : apic_registers[r * 4];
}

static void apic_write(enum apic_register r, uint32_t value)
{
	if (x2apic)
		wrmsr(MSR_X2APIC_FIRST + r, value);
	else
		apic_registers[r * 4] = value;
}

static bool firmware_wants_xapic(void)
{
	const uint8_t *dmar = host_acpi_table("DMAR");

	return dmar && ((const struct acpi_header *)dmar)->length > DMAR_FLAGS && dmar[DMAR_FLAGS] & DMAR_NO_X2APIC;
}

enum status apic_init(void)
{
	uint64_t base = rdmsr(MSR_APIC_BASE);

	if (!(cpuid(1, 0).edx >> 9 & 1) && !(base & APIC_BASE_ENABLE))
		return NOT_SUPPORTED;
	/* Once on it stays on: back to xAPIC mode is only by way of off, and some processors forbid that. */
	if (features.x2apic && (base & APIC_BASE_X2APIC || !firmware_wants_xapic())) {
		x2apic = true;
		return OK;
	}
	apic_registers = host_map_device(hpa(base & BITS(51, 12)), PAGE_SIZE, MEMORY_TYPE_UC);
	return apic_registers ? OK : NO_MEMORY;
}

bool apic_is_x2(void)
{
	return x2apic;
}

/*
 * Where firmware handles heat itself, by SMI, that stays; and as INIT has cleared the entry on the other CPUs, they get the boot
 * CPU's. Else it is masked.
 */
static void set_thermal(void)
{
	static uint32_t by_smi;

	if (this_cpu() == &boot_cpu && (apic_read(APIC_LVT + LVT_THERMAL) & LVT_MODE) == LVT_MODE_SMI)
		by_smi = apic_read(APIC_LVT + LVT_THERMAL);
	apic_write(APIC_LVT + LVT_THERMAL, by_smi ? by_smi : LVT_MASKED);
}

static void mask_local_sources(void)
{
	unsigned last = apic_read(APIC_VERSION) >> 16 & 0xff; /* LVT entries - 1 */

	apic_write(APIC_LVT + LVT_TIMER, LVT_MASKED | VECTOR_TIMER);
	apic_write(APIC_LVT + LVT_LINT0, LVT_MASKED);
	apic_write(APIC_LVT + LVT_LINT1, LVT_MASKED);
	apic_write(APIC_LVT + LVT_ERROR, LVT_MASKED | VECTOR_SPURIOUS);
	if (last >= 4)
		apic_write(APIC_LVT + LVT_PERFORMANCE, LVT_MASKED);
	if (last >= 5)
		set_thermal();
	if (last >= 6)
		apic_write(APIC_LVT_CMCI, LVT_MASKED);
}

/* What the firmware left in service would block ours for ever. One EOI clears one; at most 256 are there. */
static void drop_in_service(void)
{
	for (unsigned i = 0; i < 256; i++) {
		uint32_t any = 0;

		for (unsigned r = 0; r < 8; r++)
			any |= apic_read(APIC_ISR + r);
		if (!any)
			return;
		apic_end_of_interrupt();
	}
}

uint32_t apic_enable(void)
{
	uint64_t base = rdmsr(MSR_APIC_BASE) | APIC_BASE_ENABLE;
	uint32_t id;

	wrmsr(MSR_APIC_BASE, base); /* through xAPIC mode: SDM vol. 3 section 11.12.5 */
	if (x2apic)
		wrmsr(MSR_APIC_BASE, base | APIC_BASE_X2APIC);
	apic_write(APIC_SVR, SVR_ENABLE | VECTOR_SPURIOUS);
	mask_local_sources();
	apic_write(APIC_TPR, 0);
	apic_write(APIC_ESR, 0);
	apic_write(APIC_DIVIDE, DIVIDE_BY_16);
	drop_in_service();
	id = apic_read(APIC_ID);
	this_cpu()->apic_id = x2apic ? id : id >> 24;
	if (timer_ratio || features.tsc_deadline)
		apic_timer_disarm();
	return this_cpu()->apic_id;
}

void apic_end_of_interrupt(void)
{
	apic_write(APIC_EOI, 0);
}

bool apic_in_service(unsigned vector)
{
	if (!x2apic && !apic_registers)
		return false;
	return apic_read(APIC_ISR + vector / 32) >> (vector % 32) & 1;
}

/* ---- interrupts between CPUs ---- */

static void send(uint32_t apic_id, uint32_t command)
{
	if (x2apic) {
		/* The MSR write doesn't wait for earlier stores: SDM vol. 3 section 11.12.3. */
		__asm__ volatile("mfence; lfence" : : : "memory");
		wrmsr(MSR_X2APIC_FIRST + APIC_ICR_LOW, (uint64_t)apic_id << 32 | command);
		return;
	}
	for (unsigned i = 0; i < ICR_SPINS && apic_read(APIC_ICR_LOW) & ICR_PENDING; i++)
		__builtin_ia32_pause();
	apic_write(APIC_ICR_HIGH, apic_id << 24);
	apic_write(APIC_ICR_LOW, command);
}

void apic_send_init(uint32_t apic_id)
{
	send(apic_id, ICR_INIT | ICR_ASSERT);
}

void apic_send_startup(uint32_t apic_id, uint8_t page)
{
	send(apic_id, ICR_STARTUP | ICR_ASSERT | page);
}

void host_kick(unsigned cpu, bool nmi)
{
	send(host_apic_id(cpu), nmi ? ICR_NMI | ICR_ASSERT : ICR_ASSERT | VECTOR_KICK);
}

/* ---- timer ---- */

void apic_timer_calibrate(void)
{
	uint64_t wanted = host_ns_to_tsc(CALIBRATE_NS), start, ticks;
	uint32_t count;

	if (features.tsc_deadline)
		return;
	apic_write(APIC_LVT + LVT_TIMER, LVT_MASKED | VECTOR_TIMER);
	apic_write(APIC_INITIAL_COUNT, UINT32_MAX);
	start = rdtsc();
	do {
		ticks = rdtsc() - start;
	} while (ticks < wanted);
	count = UINT32_MAX - apic_read(APIC_CURRENT_COUNT);
	ticks = rdtsc() - start;
	apic_write(APIC_INITIAL_COUNT, 0);
	timer_ratio = ((uint64_t)count << 32) / ticks;
	if (!timer_ratio) {
		log_line(LOG_WARNING "apic: the timer does not count; time slices end late");
		timer_ratio = BIT(32) / 16;
	}
	log_line(LOG_DEBUG "apic: timer at %lu kHz", host_tsc_hz() / 1000 * timer_ratio >> 32);
}

void apic_timer_arm(uint64_t when, uint64_t ticks)
{
	uint64_t count;

	if (features.tsc_deadline) {
		apic_write(APIC_LVT + LVT_TIMER, LVT_TSC_DEADLINE | VECTOR_TIMER);
		/* An xAPIC register write must be seen before the MSR's: SDM vol. 3 section 11.5.4.1. */
		__asm__ volatile("mfence; lfence" : : : "memory");
		wrmsr(MSR_TSC_DEADLINE, when ? when : 1);
		return;
	}
	/* Rounded up: never early. What doesn't fit is armed again by time_timer_fired(). */
	count = (uint64_t)((unsigned __int128)ticks * timer_ratio >> 32) + 1;
	apic_write(APIC_LVT + LVT_TIMER, VECTOR_TIMER);
	apic_write(APIC_INITIAL_COUNT, (uint32_t)min_u64(count, UINT32_MAX));
}

void apic_timer_disarm(void)
{
	if (features.tsc_deadline)
		wrmsr(MSR_TSC_DEADLINE, 0);
	else
		apic_write(APIC_INITIAL_COUNT, 0);
	apic_write(APIC_LVT + LVT_TIMER, LVT_MASKED | VECTOR_TIMER);
}
