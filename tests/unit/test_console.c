/* SPDX-License-Identifier: Apache-2.0 */
/* Which console is written to: the chosen one, and both where the chosen one is missing. */
// sources: arch/x86_64/console.c
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <cmocka.h>

#include "arch/x86_64/console.h"
#include "arch/x86_64/host.h"
#include "arch/x86_64/paging.h"

static bool has_serial, has_framebuffer;
static unsigned on_serial, on_framebuffer;

void serial_init_port(uint16_t port)
{
}
void serial_init_acpi(void)
{
}
bool serial_present(void)
{
	return has_serial;
}
void serial_write(const char *bytes, size_t length)
{
	on_serial += length;
}
void serial_listen(void)
{
}
int serial_read(void)
{
	return 'x';
}
void framebuffer_init(const struct boot_framebuffer *framebuffer, volatile void *pixels)
{
}
bool framebuffer_present(void)
{
	return has_framebuffer;
}
void framebuffer_write(const char *bytes, size_t length)
{
	on_framebuffer += length;
}
void *host_map_device(hpa_t where, uint64_t size, unsigned type)
{
	return NULL;
}

static void expect(bool serial, bool framebuffer, bool heard, unsigned to_serial, unsigned to_framebuffer)
{
	on_serial = on_framebuffer = 0;
	assert_int_equal(console_choose(serial, framebuffer), heard);
	console_write("abc", 3);
	assert_int_equal(on_serial, to_serial);
	assert_int_equal(on_framebuffer, to_framebuffer);
	assert_int_equal(console_read(), 'x');
}

static void test_choice(void **state)
{
	has_serial = has_framebuffer = true;
	console_write("ab", 2);
	assert_true(on_serial == 2 && on_framebuffer == 2);
	expect(true, false, true, 3, 0);
	expect(false, true, true, 0, 3);
	expect(true, true, true, 3, 3);
	has_framebuffer = false;
	expect(false, true, false, 3, 3);
	expect(true, true, true, 3, 3);
	has_serial = false;
	expect(true, false, false, 3, 3);
}

int main(void)
{
	const struct CMUnitTest tests[] = { cmocka_unit_test(test_choice) };

	return cmocka_run_group_tests(tests, NULL, NULL);
}
