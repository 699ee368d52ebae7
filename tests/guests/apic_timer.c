/* SPDX-License-Identifier: Apache-2.0 */
/* The local APIC's timer: one-shot, periodic, TSC deadline, through the page and through MSRs; each tick ends a HLT. */
#include "guest.h"

#define LAPIC 0xfee00000u
#define APIC_BASE 0x1bu
#define APIC_ENABLE (1u << 11)
#define APIC_X2 (1u << 10)
#define VECTOR 0x30u
#define SPURIOUS 0x3fu
#define REG_EOI 0x0bu
#define REG_SVR 0x0fu
#define REG_LVT_TIMER 0x32u
#define REG_INITIAL 0x38u
#define REG_CURRENT 0x39u
#define REG_DIVIDE 0x3eu
#define PERIODIC (1u << 17)
#define DEADLINE (2u << 17)

static volatile unsigned ticks;
static bool x2apic;

static uint32_t apic_read(uint32_t reg)
{
	return x2apic ? (uint32_t)rdmsr(0x800 + reg) : read32(LAPIC + reg * 16);
}

static void apic_write(uint32_t reg, uint32_t value)
{
	if (x2apic)
		wrmsr(0x800 + reg, value);
	else
		write32(LAPIC + reg * 16, value);
}

static void on_tick(struct trap_frame *frame)
{
	ticks++;
	apic_write(REG_EOI, 0);
}

static void wait_ticks(unsigned count)
{
	while (ticks < count)
		wait_interrupt();
}

/* The least time that a thousand rounds took. */
static uint64_t thousand_rounds(void)
{
	uint64_t least = ~0ull;

	for (unsigned i = 0; i < 5; i++) {
		uint64_t start = rdtsc(), time;

		for (unsigned round = 0; round < 1000; round++)
			__asm__ volatile("");
		time = rdtsc() - start;
		least = time < least ? time : least;
	}
	return least;
}

/* One that never comes costs nothing; one that the counter jumps over is due. */
static void check_far_deadlines(uint32_t tsc_khz)
{
	uint64_t before = thousand_rounds(), behind;

	wrmsr(0x6e0, ~0ull);
	behind = thousand_rounds();
	check(rdmsr(0x6e0) == ~0ull);
	if (!check(behind < 20 * before))
		print("1000 rounds took %llx ticks, and %llx with a deadline far off\n", before, behind);
	ticks = 0;
	wrmsr(0x6e0, rdtsc() + 1000000ull * tsc_khz);
	wrmsr(0x10, rdtsc() + 1000001ull * tsc_khz);
	wait_ticks(1);
	check(rdmsr(0x6e0) == 0);
}

static void check_timer(const char *mode, uint32_t per_ms, uint32_t tsc_khz)
{
	apic_write(REG_SVR, 0x100 | SPURIOUS);
	apic_write(REG_DIVIDE, 0xb); /* by one */
	ticks = 0;
	apic_write(REG_LVT_TIMER, VECTOR);
	apic_write(REG_INITIAL, per_ms);
	check(apic_read(REG_CURRENT) <= per_ms);
	wait_ticks(1);
	check_equal(apic_read(REG_CURRENT), 0);
	print("%s one-shot\n", mode);
	ticks = 0;
	apic_write(REG_LVT_TIMER, VECTOR | PERIODIC);
	apic_write(REG_INITIAL, per_ms);
	wait_ticks(10);
	apic_write(REG_INITIAL, 0);
	interrupts_on(); /* one that is on its way counts for nothing of what follows */
	for (unsigned i = 0; i < 100; i++)
		__asm__ volatile("pause");
	interrupts_off();
	interrupts_on(); /* one may have come since */
	__asm__ volatile("nop");
	interrupts_off();
	print("%s periodic\n", mode);
	if (!(cpuid(1, 0).ecx >> 24 & 1))
		return;
	ticks = 0;
	apic_write(REG_LVT_TIMER, VECTOR | DEADLINE);
	wrmsr(0x6e0, rdtsc() + tsc_khz);
	wait_ticks(1);
	check(rdmsr(0x6e0) == 0);
	check_far_deadlines(tsc_khz);
	print("%s deadline\n", mode);
	apic_write(REG_LVT_TIMER, 0x10000 | VECTOR);
}

static void to_x2apic(uint32_t tsc_khz, uint32_t per_ms)
{
	uint64_t base = rdmsr(APIC_BASE);

	wrmsr(APIC_BASE, base | APIC_X2);
	x2apic = true;
	check_equal((uint32_t)rdmsr(0x802), 0);
	check_timer("x2APIC", per_ms, tsc_khz);
	/* Back, by way of off. */
	wrmsr(APIC_BASE, base & ~(uint64_t)(APIC_ENABLE | APIC_X2));
	wrmsr(APIC_BASE, base);
	x2apic = false;
	check_equal((uint32_t)rdmsr(APIC_BASE) & (APIC_ENABLE | APIC_X2), APIC_ENABLE);
	check_timer("xAPIC again", per_ms, tsc_khz);
}

void guest_main(void)
{
	struct cpuid_result timing = cpuid(0x40000010, 0);

	pic_init();
	set_handler(VECTOR, on_tick);
	check(timing.eax && timing.ebx);
	check_timer("xAPIC", timing.ebx, timing.eax);
	if (check(cpuid(1, 0).ecx >> 21 & 1))
		to_x2apic(timing.eax, timing.ebx);
}
