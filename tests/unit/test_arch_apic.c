/* SPDX-License-Identifier: Apache-2.0 */
/* The host's local APIC on registers made up here: the mode that is chosen, and what of the firmware's is left. */
#define ARCH_CPU_H
#define ARCH_CPU_LOCAL_H
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <cmocka.h>

#include "arch/x86_64/address.h"
#include "arch/x86_64/features.h"
#include "arch/x86_64/registers.h"

struct cpuid_result {
	uint32_t eax, ebx, ecx, edx;
};
struct cpu {
	uint32_t apic_id;
};
static struct cpu boot_cpu, second, *current = &boot_cpu;
static struct cpu *this_cpu(void)
{
	return current;
}

struct features features;
static uint64_t apic_base;
static uint32_t page[2][1024]; /* of each CPU */
static uint8_t dmar[48];
static bool has_dmar;

static struct cpuid_result cpuid(uint32_t leaf, uint32_t subleaf)
{
	return (struct cpuid_result){ .edx = 1u << 9 };
}
static uint64_t rdtsc(void)
{
	return 0;
}
static uint64_t rdmsr(uint32_t msr)
{
	return msr == MSR_APIC_BASE ? apic_base : page[0][(msr - 0x800) * 4];
}
static void wrmsr(uint32_t msr, uint64_t value)
{
	if (msr == MSR_APIC_BASE)
		apic_base = value;
	else
		page[0][(msr - 0x800) * 4] = (uint32_t)value;
}
const void *host_acpi_table(const char signature[4])
{
	return has_dmar && !memcmp(signature, "DMAR", 4) ? dmar : NULL;
}
void *host_map_device(hpa_t where, uint64_t size, unsigned type)
{
	return page[0];
}
uint64_t host_ns_to_tsc(uint64_t ns)
{
	return ns;
}
uint64_t host_tsc_hz(void)
{
	return 1;
}
uint32_t host_apic_id(unsigned cpu)
{
	return cpu;
}

#include "arch/x86_64/apic.c"

static void start(bool offered, bool on, int opt_out)
{
	const uint32_t length = sizeof(dmar);

	features = (struct features){ .x2apic = offered, .tsc_deadline = false };
	apic_base = 0xfee00000 | BIT(11) | (on ? BIT(10) : 0);
	has_dmar = opt_out >= 0;
	memcpy(dmar + 4, &length, 4);
	dmar[37] = (uint8_t)(1 | (opt_out > 0 ? 2 : 0));
	x2apic = false;
	apic_registers = NULL;
	memset(page, 0, sizeof(page));
	page[0][0x30 / 4] = 6u << 16;
	assert_int_equal(apic_init(), OK);
}

static void test_mode(void **state)
{
	start(false, false, 0);
	assert_true(!apic_is_x2() && apic_registers);
	start(true, false, -1);
	assert_true(apic_is_x2() && !apic_registers);
	start(true, false, 0);
	assert_true(apic_is_x2());
	start(true, false, 1); /* the firmware doesn't want it */
	assert_true(!apic_is_x2() && apic_registers);
	start(true, true, 1); /* but has switched it on itself */
	assert_true(apic_is_x2());
}

static void open_second(void)
{
	current = &second;
	page[1][0x30 / 4] = 6u << 16;
	page[1][0x330 / 4] = 0x10000; /* after INIT */
	apic_registers = page[1];
	(void)apic_enable();
	current = &boot_cpu;
}

/* Heat that firmware handles by SMI stays its business, on all CPUs; another mode would be an interrupt of ours. */
static void test_thermal(void **state)
{
	start(false, false, -1);
	page[0][0x330 / 4] = 0x10000;
	(void)apic_enable();
	assert_int_equal(page[0][0x330 / 4], 0x10000);
	open_second();
	assert_int_equal(page[1][0x330 / 4], 0x10000);

	start(false, false, -1);
	page[0][0x330 / 4] = 0x31;
	(void)apic_enable();
	assert_int_equal(page[0][0x330 / 4], 0x10000);

	start(false, false, -1);
	page[0][0x330 / 4] = 0x200;
	(void)apic_enable();
	assert_int_equal(page[0][0x330 / 4], 0x200);
	open_second();
	assert_int_equal(page[1][0x330 / 4], 0x200);
	assert_int_equal(page[1][0x340 / 4], 0x10000); /* the others are masked */
}

int main(void)
{
	const struct CMUnitTest tests[] = { cmocka_unit_test(test_mode), cmocka_unit_test(test_thermal) };

	return cmocka_run_group_tests(tests, NULL, NULL);
}
