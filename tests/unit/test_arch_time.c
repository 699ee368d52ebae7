/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The measuring of the TSC, on a machine made up here: time passes with each access to a counter, some counters aren't there, and
 * now and then the machine doesn't run for a while, as a virtual one on a busy host.
 */
#define ARCH_CPU_H
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "arch/x86_64/acpi.h"
#include "arch/x86_64/features.h"
#include "arch/x86_64/host.h"
#include "arch/x86_64/paging.h"
#include "arch/x86_64/registers.h"

#define TRUE_HZ UINT64_C(2096000000)
#define PM_PORT 0x608

struct cpuid_result {
	uint32_t eax, ebx, ecx, edx;
};

static struct {
	bool pm, hpet, pit;
	unsigned pause_every; /* accesses between pauses; 0: none */
	uint64_t pause_ns;
	bool vary;
	uint64_t ns, accesses;
	uint16_t latch;
	bool high;
	struct cpuid_result leaf_15, leaf_16, hypervisor, timing;
	uint32_t hpet_registers[256];
	struct acpi_power power;
	uint64_t msr;
} m;
struct features features;

static uint64_t rdtsc(void)
{
	m.ns += 20;
	return (uint64_t)((unsigned __int128)m.ns * TRUE_HZ / 1000000000);
}

static uint32_t ticks(uint64_t hz)
{
	return (uint32_t)((unsigned __int128)m.ns * hz / 1000000000);
}

/* A port access; a pause may fall before or after the moment at which the counter is read. */
static void pass(void)
{
	m.ns += 700;
	if (m.pause_every && rand() % m.pause_every == 0)
		m.ns += m.vary ? (uint64_t)rand() % m.pause_ns : m.pause_ns;
	m.hpet_registers[60] = ticks(10000000);
}

uint32_t acpi_read(const struct acpi_register *r, unsigned bits)
{
	uint32_t value;

	assert_true(r->port == PM_PORT && bits == 32);
	pass();
	value = m.pm ? ticks(3579545) & 0xffffff : 0;
	pass();
	return value;
}
static uint8_t in8(uint16_t port)
{
	pass();
	if (port != 0x42)
		return 0;
	if (!m.pit)
		return 0xff;
	m.high = !m.high;
	return (uint8_t)(m.high ? m.latch : m.latch >> 8);
}
static void out8(uint16_t port, uint8_t value)
{
	pass();
	if (port == 0x43 && value == 0x80)
		m.latch = (uint16_t)(0 - ticks(1193182));
}
static struct cpuid_result cpuid(uint32_t leaf, uint32_t subleaf)
{
	return leaf == 0x15         ? m.leaf_15
	       : leaf == 0x16       ? m.leaf_16
	       : leaf == 0x40000000 ? m.hypervisor
	       : leaf == 0x40000010 ? m.timing
				    : (struct cpuid_result){ .eax = 0x00800f00 }; /* family 17h */
}
bool rdmsr_safe(uint32_t msr, uint64_t *value);

#include "arch/x86_64/time_measure.c"

bool rdmsr_safe(uint32_t msr, uint64_t *value)
{
	*value = m.msr;
	return m.msr;
}
const struct acpi_power *acpi_power(void)
{
	return &m.power;
}
bool acpi_open(const struct acpi_address *where, unsigned bits, struct acpi_register *out)
{
	out->port = (uint16_t)where->address;
	return out->port;
}
const void *host_acpi_table(const char signature[4])
{
	static uint8_t table[56] = { 'H', 'P', 'E', 'T', 56, [44] = 0, 0, 0xd0, 0xfe };

	assert_memory_equal(signature, "HPET", 4);
	return m.hpet ? table : NULL;
}
/* Memory reads pass no time here: the port accesses of other counters do. */
void *host_map_device(hpa_t where, uint64_t size, unsigned type)
{
	assert_int_equal(where.v, 0xfed00000);
	return m.hpet_registers;
}

static void start(bool pm, bool hpet_there, bool pit)
{
	memset(&m, 0, sizeof(m));
	features = (struct features){ .max_leaf = 0x16 };
	m.pm = pm;
	m.hpet = hpet_there;
	m.pit = pit;
	m.power.pm_timer.address = pm ? PM_PORT : 0;
	m.hpet_registers[1] = 100000000; /* 10 MHz */
	m.ns = 123456789;
	srand(1);
}

static void expect(const char *name, bool certain, uint64_t part)
{
	const char *source = "";
	bool sure;
	uint64_t hz = time_measured_hz(&source, &sure);

	assert_string_equal(source, name);
	assert_int_equal(sure, certain);
	assert_true((hz > TRUE_HZ ? hz - TRUE_HZ : TRUE_HZ - hz) <= TRUE_HZ / part);
}

static void test_sources(void **state)
{
	bool sure;
	const char *source = "";

	start(true, false, true);
	expect("PM timer", true, 5000);
	start(false, false, true);
	expect("PIT", true, 2000);
	start(false, false, false);
	assert_int_equal(time_measured_hz(&source, &sure), 0);
	assert_false(sure);
}

/*
 * Pauses in every run, of up to the PIT's whole round: short of that none is seen in the result. Longer ones, in some runs only, lose
 * a round, and two runs without any must be found.
 */
static void test_busy_host(void **state)
{
	for (unsigned i = 1; i <= 40; i++) {
		start(true, false, false);
		srand(i);
		m.pause_every = 2000;
		m.pause_ns = 30000000;
		expect("PM timer", true, 1000);
		start(false, false, true);
		srand(i);
		m.pause_every = 3000;
		m.pause_ns = 30000000;
		expect("PIT", true, 1000);
		start(false, false, true);
		srand(i);
		m.pause_every = 60000;
		m.pause_ns = 300000000;
		m.vary = true;
		expect("PIT", true, 1000);
	}
}

/* A pause at nearly every access, each of another length: no two runs agree, and that is said. */
static void test_never_sure(void **state)
{
	unsigned certain = 0;

	for (unsigned seed = 1; seed <= 40; seed++) {
		const char *source;
		bool sure;

		start(false, false, true);
		srand(seed);
		m.pause_every = 3;
		m.pause_ns = 200000000; /* longer than the counter's round */
		m.vary = true;
		(void)time_measured_hz(&source, &sure);
		certain += sure;
	}
	assert_in_range(certain, 0, 20); /* two may agree by chance */
}

static void test_told(void **state)
{
	start(false, false, false);
	assert_int_equal(time_told_hz(), 0);
	m.leaf_15 = (struct cpuid_result){ 2, 176, 24000000, 0 };
	assert_int_equal(time_told_hz(), UINT64_C(2112000000));
	m.leaf_15.ecx = 0; /* the crystal isn't told: only a nominal frequency is */
	m.leaf_16.eax = 2100;
	assert_int_equal(time_told_hz(), 0);
	assert_int_equal(time_nominal_hz(), UINT64_C(2100000000));
	m.hypervisor.eax = 0x40000010;
	m.timing.eax = 2095999;
	assert_int_equal(time_told_hz(), 0); /* nobody below, so these leaves mean nothing */
	features.hypervisor = true;
	assert_int_equal(time_told_hz(), UINT64_C(2095999000));
	m.hypervisor.eax = 0x40000001;
	assert_int_equal(time_told_hz(), 0);
}

static void test_nominal_by_msr(void **state)
{
	start(false, false, false);
	features.max_leaf = 0xd;
	m.msr = 0x80838f3011600;
	assert_int_equal(time_nominal_hz(), UINT64_C(2200000000));
	features.amd = true;
	m.msr = BIT(63) | 8u << 8 | 0x88; /* FID 88h, DID 8 */
	assert_int_equal(time_nominal_hz(), UINT64_C(3400000000));
	m.msr = 0;
	assert_int_equal(time_nominal_hz(), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_sources),        cmocka_unit_test(test_busy_host),
		cmocka_unit_test(test_never_sure),     cmocka_unit_test(test_told),
		cmocka_unit_test(test_nominal_by_msr),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
