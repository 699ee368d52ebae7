/* SPDX-License-Identifier: Apache-2.0 */
// sources: arch/x86_64/acpi_parse.c
/*
 * ACPI bytes that a firmware might hand over, whole and broken: each table stands at the end of an
 * allocation of exactly its size, so that the sanitizer notices a read beyond it.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "arch/x86_64/acpi_parse.h"

static uint8_t *table(uint32_t length)
{
	uint8_t *bytes = calloc(1, length);

	assert_non_null(bytes);
	memcpy(bytes + 4, &length, 4);
	return bytes;
}

static void sums(void **state)
{
	const uint8_t bytes[] = { 0x10, 0xf0, 0x01, 0xff };

	assert_int_equal(acpi_sum(bytes, 4), 0);
	assert_int_equal(acpi_sum(bytes, 3), 1);
	assert_int_equal(acpi_sum(bytes, 0), 0);
}

struct seen {
	unsigned count;
	uint8_t types[64];
};

static void note(void *context, const uint8_t *entry, unsigned length)
{
	struct seen *seen = context;

	assert_true(length >= 2);
	assert_int_equal(entry[1], length);
	if (seen->count < sizeof(seen->types))
		seen->types[seen->count] = entry[0];
	seen->count++;
}

static unsigned count_entries(const uint8_t *tail, uint32_t size)
{
	struct seen seen = { 0 };
	uint8_t *madt = table(44 + size);

	memcpy(madt + 44, tail, size);
	acpi_each_entry((struct acpi_header *)madt, MADT_FIRST, note, &seen);
	free(madt);
	return seen.count;
}

static void madt_entries(void **state)
{
	const uint8_t good[] = { 0, 8, 0, 0, 1, 0, 0, 0, 1, 12, 0, 0, 0, 0, 0xc0, 0xfe, 0, 0, 0, 0 };
	const uint8_t zero_length[] = { 0, 8, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0 };
	const uint8_t too_long[] = { 0, 8, 0, 0, 1, 0, 0, 0, 1, 200, 0, 0 };

	assert_int_equal(count_entries(good, sizeof(good)), 2);
	assert_int_equal(count_entries(zero_length, sizeof(zero_length)), 1);
	assert_int_equal(count_entries(too_long, sizeof(too_long)), 1);
	assert_int_equal(count_entries(good, 1), 0);
	assert_int_equal(count_entries(good, 0), 0);
	for (uint32_t cut = 0; cut < sizeof(good); cut++)
		assert_int_equal(count_entries(good, cut), cut >= 8 ? 1 : 0);
}

static void madt_shorter_than_its_head(void **state)
{
	struct seen seen = { 0 };

	for (uint32_t length = 36; length < 46; length++) {
		uint8_t *madt = table(length);

		acpi_each_entry((struct acpi_header *)madt, MADT_FIRST, note, &seen);
		free(madt);
	}
	assert_int_equal(seen.count, 0);
}

/* Domains of 32 bits in two ways to write them; what is switched off, cut off or unknown tells nothing. */
static void srat_nodes(void **state)
{
	const uint8_t entries[] = {
		0, 16, 2, 7, 1, 0, 0, 0,    0, 3, 4, 5, 0, 0, 0, 0,                         /* APIC id 7 */
		0, 16, 9, 8, 0, 0, 0, 0,    0, 0, 0, 0, 0, 0, 0, 0,                         /* 8, off */
		1, 8,  1, 8, 1, 0, 0, 0,                                                    /* no processor */
		2, 24, 0, 0, 6, 0, 0, 0x80, 0, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, /* 100h */
	};

	for (uint32_t size = 0; size <= sizeof(entries); size++) {
		uint8_t *srat = table(48 + size);
		const struct acpi_header *header = (struct acpi_header *)srat;

		memcpy(srat + 48, entries, size);
		assert_int_equal(acpi_find_node(header, 7), size >= 16 ? 0x05040302 : 0);
		assert_int_equal(acpi_find_node(header, 8), 0);
		assert_int_equal(acpi_find_node(header, 0x100), size == sizeof(entries) ? 0x80000006 : 0);
		free(srat);
	}
}

static void fadt_of_every_length(void **state)
{
	for (uint32_t length = 36; length <= 276; length++) {
		uint8_t *fadt = table(length);
		struct acpi_power power = { 0 };

		memset(fadt + 36, 0xff, length - 36);
		acpi_parse_fadt((struct acpi_header *)fadt, &power);
		assert_true(power.present);
		assert_true(acpi_dsdt_address((struct acpi_header *)fadt) <= UINT64_MAX);
		free(fadt);
	}
}

static void fadt_ports(void **state)
{
	uint8_t *fadt = table(276);
	const uint32_t event = 0x600, pm1a = 0x604, timer = 0x608, flags = 1u << 10 | 1u << 8;
	const uint64_t beyond = 0x10000;
	struct acpi_power power = { 0 };

	memcpy(fadt + 56, &event, 4);
	memcpy(fadt + 64, &pm1a, 4);
	memcpy(fadt + 76, &timer, 4);
	memcpy(fadt + 112, &flags, 4);
	fadt[116] = ACPI_SPACE_IO;
	fadt[120] = 0xf9;
	fadt[121] = 0x0c;
	fadt[128] = 6;
	acpi_parse_fadt((struct acpi_header *)fadt, &power);
	assert_int_equal(power.pm1_control[0].address, 0x604);
	assert_int_equal(power.pm1_status[0].address, 0x600);
	assert_int_equal(power.pm1_control[1].address, 0);
	assert_int_equal(power.pm_timer.address, 0x608);
	assert_int_equal(power.pm_timer.space, ACPI_SPACE_IO);
	assert_true(power.pm_timer_32_bits);
	assert_true(power.has_reset);
	assert_int_equal(power.reset.address, 0xcf9);
	assert_int_equal(power.reset_value, 6);
	/* An extended address wins, in memory, too; one that is no port isn't taken. */
	fadt[172] = ACPI_SPACE_IO;
	memcpy(fadt + 176, &beyond, 8);
	fadt[208] = ACPI_SPACE_MEMORY;
	fadt[212] = 1;
	acpi_parse_fadt((struct acpi_header *)fadt, &power);
	assert_int_equal(power.pm1_control[0].address, 0);
	assert_int_equal(power.pm_timer.address, 1);
	assert_int_equal(power.pm_timer.space, ACPI_SPACE_MEMORY);
	free(fadt);
}

static bool s5(const uint8_t *aml, size_t size, uint8_t *a, uint8_t *b)
{
	uint8_t *exact = malloc(size ? size : 1);
	bool found;

	assert_non_null(exact);
	memcpy(exact, aml, size);
	found = acpi_find_s5(exact, size, a, b);
	free(exact);
	return found;
}

static void s5_forms(void **state)
{
	const uint8_t bytes[] = { 0x5b, 0x08, '_', 'S', '5', '_', 0x12, 0x08, 0x04, 0x0a, 5, 0x0a, 7, 0, 0 };
	const uint8_t small[] = { 0x08, '\\', '_', 'S', '5', '_', 0x12, 0x06, 0x04, 0, 1, 0, 0 };
	const uint8_t wide_length[] = { 0x08, '_', 'S', '5', '_', 0x12, 0x48, 0x00, 0x04, 0x0a, 6, 0x0a, 6, 0, 0 };
	const uint8_t not_a_name[] = { 0x00, '_', 'S', '5', '_', 0x12, 0x08, 0x04, 0x0a, 5, 0x0a, 5, 0, 0 };
	const uint8_t not_a_package[] = { 0x08, '_', 'S', '5', '_', 0x0a, 5, 0, 0, 0, 0 };
	uint8_t a = 0xee, b = 0xee;

	assert_true(s5(bytes, sizeof(bytes), &a, &b));
	assert_int_equal(a, 5);
	assert_int_equal(b, 7);
	assert_true(s5(small, sizeof(small), &a, &b));
	assert_int_equal(a, 0);
	assert_int_equal(b, 1);
	assert_true(s5(wide_length, sizeof(wide_length), &a, &b));
	assert_int_equal(a, 6);
	assert_false(s5(not_a_name, sizeof(not_a_name), &a, &b));
	assert_false(s5(not_a_package, sizeof(not_a_package), &a, &b));
	for (size_t cut = 0; cut < sizeof(bytes); cut++) {
		bool found = s5(bytes, cut, &a, &b);

		assert_true(!found || cut >= 11);
	}
}

/* Random bytes around the name: nothing to find out but that nothing is read outside. */
static void s5_noise(void **state)
{
	uint64_t seed = 0x51;

	for (unsigned round = 0; round < 20000; round++) {
		uint8_t aml[24], a, b;
		size_t size = round % sizeof(aml);

		for (size_t i = 0; i < sizeof(aml); i++) {
			seed = seed * 6364136223846793005u + 1442695040888963407u;
			aml[i] = (uint8_t)(seed >> 56);
		}
		memcpy(aml + seed % 12, "\x08_S5_\x12", 6);
		s5(aml, size, &a, &b);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(sums),
		cmocka_unit_test(madt_entries),
		cmocka_unit_test(madt_shorter_than_its_head),
		cmocka_unit_test(srat_nodes),
		cmocka_unit_test(fadt_of_every_length),
		cmocka_unit_test(fadt_ports),
		cmocka_unit_test(s5_forms),
		cmocka_unit_test(s5_noise),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
