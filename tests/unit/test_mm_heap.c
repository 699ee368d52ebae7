/* SPDX-License-Identifier: Apache-2.0 */
// sources: mm/*.c lib/format.c
/* The kernel heap: zeroed, aligned, all sizes, nothing lost; and what its debug checks catch. */
#include <signal.h>
#include <sys/wait.h>

#include "test_mm_world.h"

static void quiet(void)
{
	assert_int_equal(frame_check(print_finding, NULL), 0);
}

static bool is_clear(const uint8_t *bytes, size_t size)
{
	for (size_t i = 0; i < size; i++) {
		if (bytes[i])
			return false;
	}
	return true;
}

static void test_sizes(void **state)
{
	static const size_t sizes[] = { 1,    8,    15,   16,   17,   100,  256,   257,     1008,    1009,
					2016, 2017, 2048, 4096, 4097, 8192, 65536, 1048576, 1048577, 2097152 };

	for (unsigned round = 0; round < 3; round++) {
		for (unsigned i = 0; i < ARRAY_SIZE(sizes); i++) {
			uint8_t *object = heap_alloc(sizes[i]);

			assert_non_null(object);
			assert_true(is_aligned((uintptr_t)object, sizes[i] >= 4096 ? 4096 : 16));
			assert_true(is_clear(object, sizes[i]));
			memset(object, 0xff, sizes[i]);
			heap_free(object, sizes[i]);
		}
		quiet();
	}
	assert_null(heap_alloc(2097153));
	assert_null(heap_alloc(~(size_t)0));
	heap_free(NULL, 5);
}

static void test_all_returns(void **state)
{
	static struct {
		uint8_t *at;
		size_t size;
	} objects[3000];
	uint64_t before, seed = 12345;

	before = totals_now().free_pages;
	for (unsigned i = 0; i < ARRAY_SIZE(objects); i++) {
		seed = seed * 6364136223846793005 + 1442695040888963407;
		objects[i].size = i % 50 ? 1 + (seed >> 33) % 2500 : 4096 + (seed >> 33) % 60000;
		objects[i].at = heap_alloc(objects[i].size);
		assert_non_null(objects[i].at);
		assert_true(is_clear(objects[i].at, objects[i].size));
		memset(objects[i].at, (int)i, objects[i].size);
	}
	quiet();
	for (unsigned i = 0; i < ARRAY_SIZE(objects); i++) {
		for (size_t j = 0; j < objects[i].size; j++)
			assert_int_equal(objects[i].at[j], (uint8_t)i);
	}
	for (unsigned i = 0; i < ARRAY_SIZE(objects); i++) {
		unsigned at = i * 7 % ARRAY_SIZE(objects);

		heap_free(objects[at].at, objects[at].size);
		objects[at].at = NULL;
		if (i % 500 == 0)
			quiet();
	}
	/* At most one empty slab of each size stays. */
	assert_true(totals_now().free_pages + 15 >= before);
	quiet();
}

static void test_runs_out(void **state)
{
	static void *chunks_taken[64], *pages[20000];
	unsigned count = 0, page_count = 0;

	while ((chunks_taken[count] = heap_alloc(2 * MIB)))
		count++;
	assert_true(count > 8);
	while ((pages[page_count] = heap_alloc(4096)))
		page_count++;
	assert_null(heap_alloc(8192));
	assert_true(totals_now().free_pages < 32);
	while (page_count)
		heap_free(pages[--page_count], 4096);
	while (count)
		heap_free(chunks_taken[--count], 2 * MIB);
	inject_arm(MM_SITE_HEAP, 1, 2, 0);
	for (unsigned i = 0; i < 9; i++) {
		void *object = heap_alloc(100);

		assert_int_equal(object == NULL, i % 2);
		heap_free(object, 100);
	}
	inject_disarm(MM_SITE_HEAP);
	quiet();
}

/* Each of these must panic: run in a child that is expected to abort. */
static void wrong_size(void)
{
	heap_free(heap_alloc(100), 20);
}

static void slightly_wrong_size(void)
{
	heap_free(heap_alloc(97), 100);
}

static void past_the_end(void)
{
	uint8_t *object = heap_alloc(100);

	object[100] = 1;
	heap_free(object, 100);
}

static void after_free(void)
{
	volatile uint8_t *object = heap_alloc(100);

	heap_free((void *)object, 100);
	object[50] = 1;
	for (unsigned i = 0; i < 100; i++) {
		if (!heap_alloc(100))
			return;
	}
}

static void wrong_pages(void)
{
	heap_free(heap_alloc(3 * 4096), 2 * 4096);
}

static void freed_twice(void)
{
	struct account *account = open_account(10, 0, 0);
	hpa_t frame;

	if (frame_alloc(account, ACCOUNT_BASE, gpa(0), &frame) != OK ||
	    frame_alloc(account, ACCOUNT_BASE, gpa(0), &(hpa_t){ 0 }) != OK)
		return;
	free_one(account, frame, ACCOUNT_BASE);
	free_one(account, frame, ACCOUNT_BASE);
}

static void of_another_machine(void)
{
	struct account *account = open_account(10, 0, 0), *other = open_account(10, 0, 0);
	hpa_t frame;

	if (frame_alloc(account, ACCOUNT_BASE, gpa(0), &frame) == OK)
		free_one(other, frame, ACCOUNT_BASE);
}

static void test_panics(void **state)
{
	static void (*const bad[])(void) = { wrong_size,  slightly_wrong_size, past_the_end,      after_free,
					     wrong_pages, freed_twice,         of_another_machine };

	for (unsigned i = 0; i < ARRAY_SIZE(bad); i++) {
		int status;
		pid_t child = fork();

		if (!child) {
			signal(SIGABRT, SIG_DFL);
			bad[i]();
			_exit(0);
		}
		assert_int_equal(waitpid(child, &status, 0), child);
		if (!WIFSIGNALED(status) || WTERMSIG(status) != SIGABRT)
			fail_msg("bad use %u went unnoticed", i);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_sizes),
		cmocka_unit_test(test_all_returns),
		cmocka_unit_test(test_runs_out),
		cmocka_unit_test(test_panics),
	};

	world_start(32 * MIB);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
