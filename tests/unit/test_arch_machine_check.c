/* SPDX-License-Identifier: Apache-2.0 */
/* Machine checks on banks made up here: what ends a guest, what ends the host, and what each CPU clears. */
#define ARCH_CPU_H
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <cmocka.h>

#include "arch/x86_64/features.h"
#include "arch/x86_64/registers.h"

#define BANKS 40u
#define VALID BIT(63)
#define OVERFLOW BIT(62)
#define UNCORRECTED BIT(61)
#define ENABLED BIT(60)
#define MISC BIT(59)
#define ADDRESS BIT(58)
#define LOST BIT(57)
#define S BIT(56)
#define AR BIT(55)
#define POISON BIT(43)
#define CONSUMED (VALID | UNCORRECTED | ENABLED | MISC | ADDRESS | S | AR)
#define RESTART 1u
#define HERE 2u

static struct {
	uint64_t cap, status, control, bank_control[BANKS], bank[BANKS][3]; /* status, address, misc */
} msr;

static uint64_t *reg(uint32_t number)
{
	static const unsigned word[] = { 0, 0, 1, 2 };

	switch (number) {
	case 0x179: return &msr.cap;
	case 0x17a: return &msr.status;
	case 0x17b: return &msr.control;
	}
	assert_in_range(number, 0x400, 0x47f); /* what follows belongs to VMX */
	number -= 0x400;
	return number % 4 ? &msr.bank[number / 4][word[number % 4]] : &msr.bank_control[number / 4];
}

static uint64_t rdmsr(uint32_t number)
{
	return *reg(number);
}
static void wrmsr(uint32_t number, uint64_t value)
{
	*reg(number) = value;
}
bool wrmsr_safe(uint32_t number, uint64_t value)
{
	wrmsr(number, value);
	return true;
}

struct features features;
static jmp_buf died;
static unsigned lines;
void panic_begin(void)
{
	lines = 0;
}
void panic_line(const char *format, ...)
{
	lines++;
}
void panic_end(void)
{
	longjmp(died, 1);
}

#include "arch/x86_64/machine_check.c"

static void start(bool amd)
{
	memset(&msr, 0, sizeof(msr));
	features = (struct features){ .amd = amd,
				      .physical_bits = 40,
				      .machine_check = true,
				      .machine_check_banks = true,
				      .mca_recovery = true };
	msr.cap = BIT(24) | BIT(8) | BANKS;
	msr.bank[5][0] = VALID; /* a corrected error from before */
	machine_check_open();
	assert_int_equal(msr.control, UINT64_MAX);
	for (unsigned i = 0; i < 32; i++) {
		assert_int_equal(msr.bank_control[i], amd && i == 4 ? ~BIT(10) : UINT64_MAX);
		assert_int_equal(msr.bank[i][0], 0);
	}
	assert_int_equal(msr.bank_control[32], 0);
}

enum outcome { GOES_ON, GUEST, DIES };

/* One error in bank 7, another in bank 9 (0: none); what comes of it after a guest's exit. */
static hpa_t met;
static enum outcome outcome(uint64_t mcg, uint64_t seven, uint64_t nine)
{
	msr.status = mcg | 4;
	msr.bank[7][0] = seven;
	msr.bank[7][1] = 0x12345678;
	msr.bank[7][2] = 2u << 6 | 12;
	msr.bank[9][0] = nine;
	if (setjmp(died))
		return DIES;
	return host_machine_check(&met) ? GUEST : GOES_ON;
}

static void test_intel(void **state)
{
	start(false);
	assert_int_equal(outcome(RESTART, VALID | ENABLED, 0), GOES_ON);
	assert_int_equal(msr.status | msr.bank[7][0], 0);
	assert_int_equal(outcome(RESTART, VALID | UNCORRECTED | ENABLED, 0), GOES_ON);
	assert_int_equal(outcome(RESTART, VALID | UNCORRECTED | ENABLED | S, 0), GOES_ON);
	assert_int_equal(outcome(HERE, CONSUMED, 0), GUEST);
	assert_int_equal(met.v, 0x12345000);
	assert_int_equal(msr.status | msr.bank[7][0], 0);
	assert_int_equal(outcome(0, CONSUMED, 0), GUEST); /* a fetch, on older processors */
	assert_int_equal(outcome(HERE, CONSUMED | OVERFLOW, 0), DIES);
	assert_int_equal(outcome(HERE, CONSUMED | LOST, 0), DIES);
	assert_int_equal(outcome(HERE, CONSUMED & ~ADDRESS, 0), DIES);
	assert_int_equal(outcome(HERE, CONSUMED, VALID | UNCORRECTED | ENABLED | LOST), DIES);
	assert_int_equal(lines, 3);                             /* one for each bank that has something to say */
	assert_int_equal(outcome(0, VALID | ENABLED, 0), DIES); /* it can't restart, and nobody says why */
	msr.cap &= ~BIT(24);
	assert_int_equal(outcome(HERE, CONSUMED, 0), DIES);
}

/* One that is only told leaves the bank to the one that it concerns. */
static void test_bystander(void **state)
{
	start(false);
	assert_int_equal(outcome(RESTART, CONSUMED, VALID | ENABLED), GOES_ON);
	assert_int_equal(msr.bank[7][0], CONSUMED);
	assert_int_equal(msr.bank[9][0], 0);
}

static void test_amd(void **state)
{
	start(true);
	assert_int_equal(outcome(RESTART, VALID | UNCORRECTED | ENABLED | ADDRESS | POISON, 0), GUEST);
	assert_int_equal(outcome(RESTART | HERE, VALID | UNCORRECTED | ENABLED | ADDRESS | POISON, 0), GUEST);
	assert_int_equal(outcome(RESTART | HERE, VALID | UNCORRECTED | ENABLED | ADDRESS | POISON | AR, 0), DIES);
	assert_int_equal(outcome(RESTART | HERE, VALID | UNCORRECTED | ENABLED | ADDRESS, 0), DIES);
	features.mca_recovery = false;
	assert_int_equal(outcome(RESTART | HERE, VALID | UNCORRECTED | ENABLED | ADDRESS | POISON, 0), DIES);
}

/* The host's own access can't be undone. */
static void test_in_host(void **state)
{
	start(false);
	msr.bank[7][0] = VALID | ENABLED;
	msr.status = RESTART | 4;
	machine_check_in_host();
	msr.bank[7][0] = CONSUMED;
	msr.bank[7][2] = 2u << 6;
	msr.status = HERE | RESTART | 4;
	if (!setjmp(died)) {
		machine_check_in_host();
		fail();
	}
	assert_int_equal(lines, 2);
}

#define READ_ERROR 0x9fu /* of a memory controller: reading, its channel not said */
#define CORRECTED (VALID | ENABLED | ADDRESS | MISC | READ_ERROR)

/* What the banks make of an error in the frame at `address`. */
static bool fails(uint64_t status, uint64_t address, bool readable)
{
	hpa_t frame = hpa(0);
	bool seen, can_read = !readable;

	msr.bank[7][0] = status;
	msr.bank[7][1] = address;
	msr.bank[7][2] = 2u << 6 | 12;
	seen = host_failing_memory(&frame, &can_read);
	assert_true(!seen || (frame.v == (address & ~0xfffull) && can_read == readable));
	return seen;
}

static void test_failing_memory(void **state)
{
	start(false);
	/* Once is chance. */
	assert_false(fails(CORRECTED, 0x5008, true));
	assert_int_equal(msr.bank[7][0], 0);
	assert_true(fails(CORRECTED, 0x5fc0, true));
	assert_false(fails(0, 0x5fc0, true));
	assert_false(fails(CORRECTED, 0x7008, true));
	assert_false(fails(CORRECTED, 0x8008, true));
	assert_false(fails(CORRECTED, 0x7008, true));
	/* Lost at once: found by a patrol scrub, with a machine check or without. */
	assert_true(fails(VALID | ENABLED | UNCORRECTED | ADDRESS | 0x10c0, 0x9000, false));
	msr.bank[7][1] = 0xa000;
	msr.status = RESTART | 4;
	msr.bank[7][0] = VALID | ENABLED | UNCORRECTED | ADDRESS | MISC | S | 0xc0;
	machine_check_in_host();
	assert_true(fails(0, 0xa000, false));
	/* A cache's error isn't the memory's; nor one without an address, or by an address of another kind. */
	for (unsigned i = 0; i < 2; i++) {
		assert_false(fails((CORRECTED & ~0xffull) | 0x135, 0x5000, true));
		assert_false(fails(CORRECTED & ~ADDRESS, 0x5000, true));
	}
	/* What will come as a machine check, or was one, is left in its bank. */
	assert_false(fails(CONSUMED | READ_ERROR, 0xb000, false));
	assert_int_equal(msr.bank[7][0], CONSUMED | READ_ERROR);
	msr.bank[7][0] = 0;
	/* AMD's addresses are not ours. */
	start(true);
	for (unsigned i = 0; i < 2; i++)
		assert_false(fails(CORRECTED, 0xc000, true));
	features.machine_check_banks = false;
	assert_false(fails(CORRECTED, 0xc000, true));
	assert_int_equal(msr.bank[7][0], CORRECTED);
}

int main(void)
{
	const struct CMUnitTest tests[] = { cmocka_unit_test(test_intel), cmocka_unit_test(test_bystander),
					    cmocka_unit_test(test_amd), cmocka_unit_test(test_in_host),
					    cmocka_unit_test(test_failing_memory) };

	return cmocka_run_group_tests(tests, NULL, NULL);
}
