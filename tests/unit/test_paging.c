/* SPDX-License-Identifier: Apache-2.0 */
// sources: arch/x86_64/paging.c
/* The host mapper's reserve of tables, when many CPUs fill it at once: as they do when all open their windows. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "arch/x86_64/features.h"
#include "arch/x86_64/host.h"
#include "arch/x86_64/paging.h"
#include "arch/x86_64/paging_entry.h"
#include "arch/x86_64/percpu.h"

struct features features;

static hpa_t page(void)
{
	void *bytes = aligned_alloc(PAGE_SIZE, PAGE_SIZE);

	memset(bytes, 0, PAGE_SIZE);
	return hpa((uint64_t)(uintptr_t)bytes);
}

static unsigned others;

/* Another CPU comes while this one fetches its page; and another while that one does. */
static hpa_t slow_source(void *context)
{
	if (others) {
		others--;
		assert_int_equal(paging_make_table(DEVICE_BASE, LEVEL_2M), OK);
	}
	return page();
}

static void test_all_at_once(void **state)
{
	paging_use(page(), 0);
	paging_set_source(slow_source, NULL);
	others = MAX_CPUS - 1;
	assert_int_equal(paging_make_table(DEVICE_BASE, LEVEL_2M), OK);
	assert_int_equal(others, 0);
	assert_int_equal(paging_map(DEVICE_BASE, hpa(0), 3 * PAGE_SIZE, 0, MEMORY_TYPE_UC), OK);
}

int main(void)
{
	const struct CMUnitTest tests[] = { cmocka_unit_test(test_all_at_once) };

	return cmocka_run_group_tests(tests, NULL, NULL);
}
