/* SPDX-License-Identifier: Apache-2.0 */
// sources: mm/*.c lib/format.c
// threads
/*
 * Host mode secret-free: what is in the direct map and what isn't, the bounded chunk map, the check that finds what mustn't be
 * mapped, and four CPUs at once.
 */
#include <pthread.h>
#include <signal.h>
#include <sys/wait.h>

#define WORLD_CHUNKS 16u
#include "test_mm_world.h"

#include "arch/x86_64/window.h"

#define WORLD (96 * MIB)
/* Free chunks from here on. */
#define FIRST 8u
#define CHUNK(n) hpa((FIRST + (n)) * BLOCK_SIZE)

extern unsigned test_cpu_count;

static struct chunk_map_totals map_now(void)
{
	struct chunk_map_totals totals;

	chunk_map_totals(&totals);
	return totals;
}

static void use(unsigned n)
{
	uint8_t *bytes = frame_map(CHUNK(n));

	assert_int_equal(*bytes, *(uint8_t *)host_memory_at(CHUNK(n)));
	frame_unmap(bytes);
}

/* Runs it in a child; true: the child died of it. */
static bool dies(void (*deed)(void *argument), void *argument)
{
	int status;
	pid_t child;

	fflush(NULL);
	child = fork();
	if (!child) {
		if (!freopen("/dev/null", "w", stderr))
			_exit(0);
		signal(SIGSEGV, SIG_DFL); /* cmocka would go on with the next test */
		signal(SIGABRT, SIG_DFL);
		deed(argument);
		_exit(0);
	}
	assert_int_equal(waitpid(child, &status, 0), child);
	return status != 0;
}

static void touch(void *argument)
{
	*(volatile uint8_t *)argument = 1;
}

static void test_bound_and_age(void **state)
{
	struct chunk_map_totals before, after;
	uint8_t *first;

	frame_maps_forget();
	assert_int_equal(map_now().mapped, 0);
	before = map_now();
	assert_int_equal(before.most, WORLD_CPUS * WORLD_CHUNKS);
	first = frame_map(CHUNK(0));
	frame_unmap(first);
	for (unsigned n = 1; n < WORLD_CHUNKS; n++)
		use(n);
	after = map_now();
	assert_int_equal(after.mapped, WORLD_CHUNKS);
	assert_int_equal(after.maps - before.maps, WORLD_CHUNKS);
	assert_int_equal(after.unmaps, before.unmaps);
	*(uint8_t *)host_memory_at(CHUNK(0)) = 100;
	*(uint8_t *)host_memory_at(CHUNK(WORLD_CHUNKS)) = 116;
	assert_int_equal(*first, 100);
	/* One more: the oldest gives up its place, and only that. */
	use(WORLD_CHUNKS);
	assert_int_equal(*first, 116);
	for (unsigned n = 1; n <= WORLD_CHUNKS; n++)
		use(n);
	after = map_now();
	assert_int_equal(after.mapped, WORLD_CHUNKS);
	assert_int_equal(after.maps - before.maps, WORLD_CHUNKS + 1);
	assert_int_equal(after.unmaps - before.unmaps, 1);
	assert_int_equal(after.hits - before.hits, WORLD_CHUNKS);
	assert_int_equal(after.misses - before.misses, WORLD_CHUNKS + 1);
}

/* A chunk that is used all the time stays. */
static void test_hot_stays(void **state)
{
	struct chunk_map_totals before;

	use(0);
	for (unsigned round = 0; round < 200; round++) {
		use(1 + round % 30);
		use(0);
	}
	before = map_now();
	use(0);
	assert_int_equal(map_now().maps, before.maps);
	assert_int_equal(map_now().mapped, WORLD_CHUNKS);
}

/* Chunks that share their own slot are still found. */
static void test_find(void **state)
{
	struct chunk_map_totals before;

	frame_maps_forget();
	use(0);
	for (unsigned i = 0; i < 10; i++) {
		before = map_now();
		use(WORLD_CHUNKS * (i & 1));
		assert_int_equal(map_now().finds - before.finds, i > 1 && i & 1);
		assert_int_equal(map_now().hits - before.hits, !(i & 1));
		assert_int_equal(map_now().maps - before.maps, i == 1);
	}
}

static void map_too_many(void *argument)
{
	for (unsigned n = 0; n < CHUNK_MAP_LEAST; n++)
		(void)frame_map(CHUNK(n));
	(void)frame_map(CHUNK(WORLD_CHUNKS));
}

static void give_twice(void *pointer)
{
	frame_unmap(pointer);
	frame_unmap(pointer);
}

static void test_nesting(void **state)
{
	uint8_t *held[CHUNK_MAP_LEAST], *again;

	for (unsigned n = 0; n < CHUNK_MAP_LEAST; n++) {
		held[n] = frame_map(hpa(CHUNK(n).v + 5));
		*held[n] = (uint8_t)(n + 1);
	}
	again = frame_map(hpa(CHUNK(3).v + 77));
	assert_ptr_equal(again, held[3] + 72);
	frame_unmap(held[3]);
	frame_maps_forget();
	assert_int_equal(map_now().mapped, CHUNK_MAP_LEAST);
	frame_unmap(again);
	/* The others stay, however much is mapped. */
	for (unsigned n = CHUNK_MAP_LEAST; n < 30; n++)
		use(n);
	for (unsigned n = 0; n < CHUNK_MAP_LEAST; n++) {
		if (n == 3)
			continue;
		assert_int_equal(*held[n], n + 1);
		assert_int_equal(((uint8_t *)host_memory_at(CHUNK(n)))[5], n + 1);
		if (n)
			frame_unmap(held[n]);
	}
	assert_true(dies(give_twice, held[0]));
	frame_unmap(held[0]);
	frame_maps_forget();
	assert_int_equal(map_now().mapped, 0);
	assert_true(dies(touch, held[0]));
	assert_true(dies(map_too_many, NULL));
}

/* As all other tests have it. */
static void test_strict(void **state)
{
	uint8_t *first, *second;

	chunk_map_strict = 1;
	first = frame_map(CHUNK(0));
	second = frame_map(CHUNK(0));
	frame_unmap(second);
	assert_false(dies(touch, first));
	frame_unmap(first);
	assert_true(dies(touch, first));
	chunk_map_strict = 0;
}

/* The bound is shared out among the CPUs; each has a few slots in any case. */
static void test_share(void **state)
{
	static const unsigned cases[][3] = { { 100, 3, 32 }, { 64, 1, 64 }, { 16, 100, CHUNK_MAP_LEAST } };

	for (unsigned i = 0; i < ARRAY_SIZE(cases); i++) {
		uint64_t before = map_now().most;

		test_cpu = WORLD_CPUS + i;
		chunk_map_bound(cases[i][0], cases[i][1]);
		assert_int_equal(chunk_map_open(), OK);
		assert_int_equal(map_now().most - before, cases[i][2]);
	}
	test_cpu = 0;
}

static hpa_t one_block(struct account *account)
{
	hpa_t block;
	bool zero;

	assert_int_equal(block_alloc(account, gpa(0), &block, &zero), OK);
	return block;
}

/* Until the account is given this chunk. */
static unsigned blocks_up_to(struct account *account, hpa_t wanted, hpa_t *taken)
{
	unsigned count = 0;

	do
		taken[count] = one_block(account);
	while (taken[count++].v != wanted.v);
	return count;
}

static void free_blocks(struct account *account, const hpa_t *taken, unsigned count)
{
	while (count)
		free_block(account, taken[--count]);
}

/* The chunk of `where` belongs to another machine now, and what CPU 1 has of it at `pointer` is out of its reach. */
static void expect_gone(uint8_t *pointer)
{
	test_cpu = 1;
	assert_true(dies(touch, pointer));
	test_cpu = 0;
	assert_int_equal(frame_check(print_finding, NULL), 0);
}

/* CPU 1 serves one machine all the time; the other one is given the chunk that the first gave back. */
static void test_chunk_changes_owner(void **state)
{
	struct account *first = open_account(512, 16, 0), *second = open_account(40 * 512, 100, 0);
	hpa_t block = one_block(first), taken[40];
	unsigned count;
	uint8_t *seen;

	test_cpu = 1;
	seen = frame_map(block);
	*seen = 1;
	frame_unmap(seen);
	assert_false(dies(touch, seen));
	test_cpu = 0;
	free_block(first, block);
	count = blocks_up_to(second, block, taken);
	expect_gone(seen);
	free_blocks(second, taken, count);
	close_account(first);
	close_account(second);
}

/* The same for a free chunk that CPU 1 has cleared for its own machine, part of it or all. */
static void test_cleared_chunk(void **state)
{
	struct account *account = open_account(40 * 512, 100, 0);
	hpa_t taken[40];

	for (unsigned steps = 1; steps <= 4; steps += 3) {
		unsigned count = 1;
		uint64_t maps;
		hpa_t block;
		bool zero;

		test_cpu = 1;
		frame_maps_forget();
		maps = map_now().mapped;
		for (unsigned i = 0; i < steps; i++)
			assert_false(block_ready());
		/* What is wholly cleared is anybody's. */
		assert_int_equal(map_now().mapped, maps + (steps < 4));
		test_cpu = 0;
		do {
			assert_int_equal(block_alloc(account, gpa(0), &block, &zero), OK);
			taken[count - 1] = block;
		} while (!chunk_of(block)->cleared && ++count);
		assert_int_equal(map_now().mapped, maps);
		free_blocks(account, taken, count);
	}
	close_account(account);
}

/* The same for the empty chunk that is kept cut, when another machine goes on with it. */
static void test_spare_changes_owner(void **state)
{
	struct account *first = open_account(512, 16, 0), *second = open_account(512, 16, 0);
	hpa_t frame, other;
	uint8_t *seen;
	unsigned got;

	chunk_drop_spares();
	assert_int_equal(frame_alloc_many(first, ACCOUNT_BASE, 1, &frame, &got), OK);
	test_cpu = 1;
	seen = frame_map(frame);
	frame_unmap(seen);
	test_cpu = 0;
	free_one(first, frame, ACCOUNT_BASE);
	assert_int_equal(frame_alloc_many(second, ACCOUNT_BASE, 1, &other, &got), OK);
	assert_ptr_equal(chunk_of(frame), chunk_of(other));
	expect_gone(seen);
	free_one(second, other, ACCOUNT_BASE);
	close_account(first);
	close_account(second);
}

static bool is_direct(const void *pointer)
{
	return host_memory_is_direct(hpa(align_down(direct_address(pointer).v, BLOCK_SIZE)));
}

/* A secret at its direct-map address can't be read; the kernel's own stays. */
static void test_who_is_direct(void **state)
{
	struct account *account = open_account(4000, 100, 0);
	hpa_t frame, block, table;
	struct gather gather;
	void *large, *small;
	bool zero;

	assert_int_equal(frame_alloc(account, ACCOUNT_BASE, gpa(0), &frame), OK);
	assert_int_equal(block_alloc(account, gpa(0), &block, &zero), OK);
	assert_int_equal(table_alloc(account, &table), OK);
	assert_true(dies(touch, direct_pointer(frame)));
	assert_true(dies(touch, direct_pointer(block)));
	assert_true(dies(touch, direct_pointer(CHUNK(30))));
	assert_false(dies(touch, direct_pointer(table)));
	large = heap_alloc(BLOCK_SIZE);
	small = heap_alloc(100);
	assert_true(is_direct(large) && is_direct(small));
	heap_free(large, BLOCK_SIZE);
	heap_free(small, 100);
	assert_false(is_direct(large));
	/* Cut and joined again, it is out all the time. */
	assert_int_equal(block_split(account, block), OK);
	assert_false(host_memory_is_direct(block));
	assert_int_equal(block_join(account, block, gpa(0)), OK);
	assert_false(host_memory_is_direct(block));
	assert_int_equal(frame_check(print_finding, NULL), 0);
	gather_begin(&gather, NULL, account);
	gather_frame(&gather, frame, ACCOUNT_BASE);
	gather_block(&gather, block);
	gather_frame(&gather, table, ACCOUNT_TABLE);
	gather_finish(&gather);
	close_account(account);
	assert_int_equal(frame_check(print_finding, NULL), 0);
}

/* Kernel chunks come and go; each is in the map exactly while it is one. */
static void test_kernel_chunks(void **state)
{
	struct account *account = open_account(0, 2000, 0);
	static hpa_t tables[1500];
	struct gather gather;

	for (unsigned i = 0; i < 1500; i++) {
		assert_int_equal(table_alloc(account, &tables[i]), OK);
		*(uint64_t *)direct_pointer(tables[i]) = i;
	}
	gather_begin(&gather, NULL, account);
	for (unsigned i = 0; i < 1500; i++)
		gather_frame(&gather, tables[i], ACCOUNT_TABLE);
	gather_finish(&gather);
	close_account(account);
	chunk_drop_spares();
	for (unsigned i = 0; i < chunks.count; i++)
		assert_int_equal(host_memory_is_direct(hpa(i * BLOCK_SIZE)), chunk_in_direct(&chunks.table[i]));
	assert_int_equal(chunk_of(tables[1499])->kind, CHUNK_FREE);
	assert_false(host_memory_is_direct(hpa(align_down(tables[1499].v, BLOCK_SIZE))));
}

static char told[200];

static void tell(void *context, const char *line)
{
	snprintf(told, sizeof(told), "%s", line);
}

/* The check finds a guest's frame wherever else it is mapped, and a block that someone put back. */
static void test_check_finds(void **state)
{
	struct account *account = open_account(1000, 10, 0);
	hpa_t block;
	bool zero;

	assert_int_equal(block_alloc(account, gpa(0), &block, &zero), OK);
	assert_int_equal(frame_check(tell, NULL), 0);
	host_memory_alias(block);
	assert_int_equal(frame_check(tell, NULL), 1);
	assert_non_null(strstr(told, "is mapped at 0x123400000000"));
	host_memory_alias(HPA_NONE);
	assert_int_equal(frame_check(tell, NULL), 0);
	direct_set(block, true);
	assert_int_equal(frame_check(tell, NULL), 1);
	direct_set(block, false);
	direct_set(CHUNK(30), true); /* free: it still holds what the last one left */
	assert_int_equal(frame_check(tell, NULL), 1);
	direct_set(CHUNK(30), false);
	assert_int_equal(frame_check(tell, NULL), 0);
	free_block(account, block);
	close_account(account);
}

/* ---- many CPUs ---- */

#define CPUS 4u
#define ROUNDS 4000u
#define SPREAD 24u

static uint32_t running;
static hpa_t blocks[SPREAD];

static struct account *wandering;

/* A chunk that was another CPU's just now, and is still in its window. */
static void pass_on(void)
{
	uint64_t mine = test_cpu + 1, *bytes;
	hpa_t block;
	bool zero;

	if (block_alloc(wandering, gpa(0), &block, &zero) != OK)
		return;
	bytes = frame_map(block);
	*bytes = mine;
	for (unsigned i = 0; i < 100; i++)
		if (*(volatile uint64_t *)bytes != mine)
			abort();
	frame_unmap(bytes);
	free_block(wandering, block);
}

/* Each CPU has a page of its own in every chunk; memory of the kernel's comes and goes besides. */
static void *one_cpu(void *argument)
{
	uint64_t seen[SPREAD] = { 0 }, seed = 1 + (uintptr_t)argument;
	uint64_t offset = (uintptr_t)argument * PAGE_SIZE;

	test_cpu = (unsigned)(uintptr_t)argument;
	for (unsigned i = 0; i < ROUNDS; i++) {
		unsigned a, b;
		uint64_t *to, *from;

		seed = seed * 6364136223846793005u + 1442695040888963407u;
		a = (seed >> 33) % SPREAD;
		b = (seed >> 41) % SPREAD;
		to = frame_map(hpa(blocks[a].v + offset));
		from = frame_map(hpa(blocks[b].v + offset));
		if (*from != seen[b] || (a == b) != (to == from))
			abort();
		*to = seen[a] = seed;
		frame_unmap(to);
		frame_unmap(from);
		if (i % 64 == 0)
			frame_maps_forget();
		if (i % 100 == test_cpu)
			heap_free(heap_alloc(BLOCK_SIZE), BLOCK_SIZE);
		if (i % 50 == test_cpu)
			pass_on();
	}
	__atomic_fetch_sub(&running, 1, __ATOMIC_ACQ_REL);
	return NULL;
}

static void test_many_cpus(void **state)
{
	struct account *account = open_account(SPREAD * 512, 10, 0);
	pthread_t threads[CPUS];
	unsigned count = 0;
	bool zero;

	wandering = open_account(CPUS * 512, 10, 0);
	/* The chunks that the threads write to are a machine's, so that the heap gets none of them. */
	while (count < SPREAD && block_alloc(account, gpa(0), &blocks[count], &zero) == OK) {
		block_zero(blocks[count]);
		count++;
	}
	assert_int_equal(count, SPREAD);
	test_cpu_count = CPUS;
	running = CPUS;
	for (uintptr_t i = 0; i < CPUS; i++)
		assert_int_equal(pthread_create(&threads[i], NULL, one_cpu, (void *)i), 0);
	test_cpu = CPUS;
	while (__atomic_load_n(&running, __ATOMIC_ACQUIRE)) {
		struct chunk_map_totals totals = map_now();

		assert_true(totals.mapped <= CPUS * WORLD_CHUNKS);
		/* Not frame_check(): threads are stopped for long between a charge and its chunk. */
		assert_int_equal(secret_free_check(print_finding, NULL), 0);
	}
	for (unsigned i = 0; i < CPUS; i++)
		assert_int_equal(pthread_join(threads[i], NULL), 0);
	test_cpu = 0;
	test_cpu_count = 1;
	for (unsigned i = 0; i < count; i++)
		free_block(account, blocks[i]);
	close_account(account);
	close_account(wandering);
	assert_int_equal(frame_check(print_finding, NULL), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_bound_and_age),
		cmocka_unit_test(test_hot_stays),
		cmocka_unit_test(test_find),
		cmocka_unit_test(test_nesting),
		cmocka_unit_test(test_strict),
		cmocka_unit_test(test_share),
		cmocka_unit_test(test_chunk_changes_owner),
		cmocka_unit_test(test_cleared_chunk),
		cmocka_unit_test(test_spare_changes_owner),
		cmocka_unit_test(test_who_is_direct),
		cmocka_unit_test(test_kernel_chunks),
		cmocka_unit_test(test_check_finds),
		cmocka_unit_test(test_many_cpus),
	};

	setenv("QUIRE_MAPPING", "secret-free", 1);
	world_start(WORLD);
	chunk_map_strict = 0;
	return cmocka_run_group_tests(tests, NULL, NULL);
}
