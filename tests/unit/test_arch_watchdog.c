/* SPDX-License-Identifier: Apache-2.0 */
// sources: arch/x86_64/watchdog.c
/* Watchdog tables made up here: what is written to stop it, and that a broken table writes nothing. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "arch/x86_64/acpi.h"
#include "arch/x86_64/acpi_parse.h"
#include "arch/x86_64/host.h"

static uint8_t *table;
static uint32_t port, register_now, writes, bits_used;

const void *host_acpi_table(const char signature[4])
{
	assert_memory_equal(signature, "WDAT", 4);
	return table;
}
bool acpi_open(const struct acpi_address *where, unsigned bits, struct acpi_register *out)
{
	out->port = (uint16_t)where->address;
	return where->space == ACPI_SPACE_IO;
}
uint32_t acpi_read(const struct acpi_register *r, unsigned bits)
{
	return register_now;
}
void acpi_write(const struct acpi_register *r, unsigned bits, uint32_t value)
{
	port = r->port;
	register_now = value;
	bits_used = bits;
	writes++;
}

/* Two entries, at the end of an allocation of exactly the table's size. */
static void stop(uint32_t length, uint32_t count, uint8_t action, uint8_t instruction)
{
	const uint8_t entry[24] = { action, instruction, 0, 0, ACPI_SPACE_IO, 1, 11, 2, 0x68, 4, 0, 0, 0, 0, 0, 0, 1,
				    0,      0,           0, 1 };
	uint8_t whole[68 + 48] = { 0 };

	memcpy(whole + 4, &length, 4);
	memcpy(whole + 64, &count, 4);
	whole[68] = 9; /* start it: not ours to do */
	memcpy(whole + 68 + 24, entry, 24);
	table = malloc(length);
	memcpy(table, whole, length);
	register_now = 0x40f0;
	writes = 0;
	acpi_stop_watchdog();
	free(table);
}

static void test_stop(void **state)
{
	stop(68 + 48, 2, 0x0b, 0x82);
	assert_true(writes == 1 && port == 0x468 && register_now == 0x48f0 && bits_used == 16);
	stop(68 + 48, 2, 0x0b, 2);
	assert_true(writes == 1 && register_now == 0x0800);
	stop(68 + 48, 2, 0x0a, 2);
	assert_int_equal(writes, 0);
	stop(68 + 48, 2, 0x0b, 0);
	assert_int_equal(writes, 0);
}

static void test_broken(void **state)
{
	for (uint32_t length = sizeof(struct acpi_header); length < 68 + 48; length++) {
		stop(length, UINT32_MAX, 0x0b, 0x82);
		assert_int_equal(writes, 0);
	}
	stop(68 + 48, 1, 0x0b, 0x82);
	assert_int_equal(writes, 0);
	table = NULL;
	acpi_stop_watchdog();
}

int main(void)
{
	const struct CMUnitTest tests[] = { cmocka_unit_test(test_stop), cmocka_unit_test(test_broken) };

	return cmocka_run_group_tests(tests, NULL, NULL);
}
