/* SPDX-License-Identifier: Apache-2.0 */
// sources: mm/*.c pgm/*.c pgm/*/*.c lib/format.c lib/hash.c lib/status.c arch/x86_64/pt_format.c
// threads
/*
 * Composed tables on four CPUs: three run L2s on one root, filling what they miss, while the fourth changes L1's tables and
 * flushes, drops tables for want of room, and changes what is below: handlers, the dirty log, collapse, pages that move and pages that are
 * shared, L1's tables among them. Who copies what the log names has all that was counted in the end. Each page of L1 has its
 * number in it, and a counter for each CPU: an L2 that sees another page's number, or loses a write, had a translation that it
 * should not have. A flush waits for each CPU to leave its guest, as the machine's does.
 */
#include <pthread.h>
#include <sched.h>

#define WORLD_STRICT 17u
#define WORLD_CHUNKS 64u
#include "common/pgm_world.h"
#include "common/shadow_view.h"
#include "pgm/dirty/dirty.h"
#include "pgm/slat/tables.h"

extern __thread unsigned test_cpu;
extern unsigned test_cpu_count;

#define VCPUS 3u
#define ROUNDS (getenv("QUIRE_LONG") ? 6000u : 3000u)
#define L2_PAGES 96u
#define RAM (16 * MIB)
#define TABLES (2 * MIB)
#define DATA (4 * MIB) /* two pages for each of L2's */

#define must(condition)                                                                                                \
	do {                                                                                                           \
		if (!(condition)) {                                                                                    \
			fprintf(stderr, "%s:%d: %s fails\n", __FILE__, __LINE__, #condition);                          \
			abort();                                                                                       \
		}                                                                                                      \
	} while (0)

static struct pgm *pgm;
static struct shadow_root *root;
static struct hv_nested_slat slat;
static uint32_t running, in_guest[VCPUS + 1];
/* What L1 shows at each page of L2: bit n for the one or the other of its two, above them a count of changes. */
static uint32_t shown[L2_PAGES];
static uint64_t counted[VCPUS + 1][2 * L2_PAGES];

static void sync_all(struct flush_domain *domain, uint64_t generation)
{
	(void)domain;
	(void)generation;
	for (unsigned cpu = 0; cpu <= VCPUS; cpu++)
		while (cpu != test_cpu && __atomic_load_n(&in_guest[cpu], __ATOMIC_SEQ_CST))
			sched_yield();
}

/* Two parts of L2, 1 GiB apart. */
static uint64_t l2_of(unsigned page)
{
	return (uint64_t)(page & 1) << 30 | (uint64_t)(page / 2) << PAGE_SHIFT;
}

static uint64_t slot_of(unsigned page)
{
	return TABLES + (4 + (page & 1)) * PAGE_SIZE + page / 2 * 8;
}

static void put64(uint64_t where, uint64_t value)
{
	must(pgm_write(pgm, gpa(where), &value, 8, ORIGIN_GUEST, NULL) == OK);
}

static uint64_t leaf_of(unsigned page, bool second, bool write)
{
	return (DATA + (page * 2 + second) * PAGE_SIZE) | slat.format->rights_bits[write ? RWX : RX] |
	       slat.format->type_bits[6];
}

static void lay(void)
{
	uint64_t bits = slat.format->table_bits;

	put64(TABLES, (TABLES + PAGE_SIZE) | bits);
	for (unsigned i = 0; i < 2; i++) {
		put64(TABLES + PAGE_SIZE + i * 8, (TABLES + (2 + i) * PAGE_SIZE) | bits);
		put64(TABLES + (2 + i) * PAGE_SIZE, (TABLES + (4 + i) * PAGE_SIZE) | bits);
	}
	for (unsigned page = 0; page < L2_PAGES; page++)
		put64(slot_of(page), leaf_of(page, false, true));
	for (unsigned page = 0; page < 2 * L2_PAGES; page++)
		put64(DATA + page * PAGE_SIZE, page);
}

/* The processor's side: it races with PGM's plain accesses as hardware does. */
__attribute__((no_sanitize("thread"))) static bool translate(uint64_t where, bool write, uint64_t **to)
{
	const struct pt_format *f = pgm->slat.format;
	uint64_t *table = root->top.entry, entry;

	for (unsigned level = 3;; level--) {
		entry = *(volatile uint64_t *)&table[pt_index(f, level, where)];
		if (!(entry & f->present) || (!level && write && !(entry & f->write)))
			return false;
		if (!level || (entry & f->large))
			break;
		table = direct_pointer(hpa(entry & f->address));
	}
	*to = (uint64_t *)((uint8_t *)frame_map(hpa(entry & f->address)) +
			   (entry & f->large ? where & (BLOCK_SIZE - 1) & ~(PAGE_SIZE - 1) : 0));
	return true;
}

/* True: L2 has run. */
__attribute__((no_sanitize("thread"))) static bool stint(unsigned cpu, unsigned page, bool write)
{
	uint64_t *at, number;
	uint32_t before;
	bool done;

	__atomic_store_n(&in_guest[cpu], 1, __ATOMIC_SEQ_CST);
	before = __atomic_load_n(&shown[page], __ATOMIC_SEQ_CST);
	done = translate(l2_of(page), write, &at);
	if (done) {
		number = *(volatile uint64_t *)at;
		if (number / 2 != page ||
		    (!(before >> (number & 1) & 1) && before == __atomic_load_n(&shown[page], __ATOMIC_SEQ_CST))) {
			fprintf(stderr, "L2 page %u shows page %llu\n", page, (unsigned long long)number);
			abort();
		}
		if (write)
			((volatile uint64_t *)at)[1 + cpu] = ++counted[cpu][number];
		frame_unmap(at);
	}
	__atomic_store_n(&in_guest[cpu], 0, __ATOMIC_SEQ_CST);
	return done;
}

static void *run_vcpu(void *context)
{
	unsigned cpu = (unsigned)(uintptr_t)context;
	uint64_t seed = cpu + 7;

	test_cpu = cpu;
	while (__atomic_load_n(&running, __ATOMIC_ACQUIRE)) {
		uint64_t dice = random_of(&seed);
		unsigned page = dice % L2_PAGES;
		bool write = dice >> 40 & 1;
		struct hv_nested_fault fault;

		for (unsigned tries = 0; tries < 4 && !stint(cpu, page, write); tries++) {
			enum shadow_verdict verdict = shadow_fault(pgm, root, gpa(l2_of(page)),
								   write ? ACCESS_WRITE : ACCESS_READ, false, &fault);

			must(verdict != SHADOW_NO_MEMORY);
			if (verdict != SHADOW_RESUME)
				break;
		}
	}
	return NULL;
}

static enum status answer(void *user, struct pgm_access *access)
{
	(void)user;
	(void)access;
	return NOT_FOUND;
}

static uint64_t copy[2 * L2_PAGES][VCPUS];
static bool logging;
static uint64_t handled; /* the page that has a handler, or 0 */
static unsigned moved, shared, logged;

/* What the log names, or all. */
static void copy_dirty(bool all)
{
	static uint64_t bitmap[RAM / PAGE_SIZE / 64];

	must(pgm_dirty_read_and_clear(pgm, 0, RAM / PAGE_SIZE, bitmap) == OK);
	for (unsigned page = 0; page < 2 * L2_PAGES; page++) {
		uint64_t at = DATA + page * PAGE_SIZE, number = at >> PAGE_SHIFT;

		if (all || bitmap[number / 64] >> number % 64 & 1)
			must(pgm_read(pgm, gpa(at + 16), copy[page], sizeof(copy[page]), ORIGIN_SAVE, NULL) == OK);
	}
}

static void give_another_frame(uint64_t dice)
{
	gpa_t where =
		gpa(dice & 7 ? DATA + (dice >> 8) % (2 * L2_PAGES) * PAGE_SIZE : TABLES + (dice >> 8) % 6 * PAGE_SIZE);
	struct pgm_page_info info;
	hpa_t with = HPA_NONE;

	pgm_page_describe(pgm, where, &info);
	if (dice >> 20 & 3)
		moved += pgm_leave_frame(pgm, where, info.frame) == OK;
	else
		shared += page_share(pgm, where, &with) == OK;
}

static void host_acts(handler_type watch, uint64_t dice)
{
	switch (dice % 8) {
	case 0:
		if (handled)
			must(pgm_handler_deregister(pgm, gpa(handled)) == OK);
		handled = handled ? 0 : DATA + (dice >> 8) % (2 * L2_PAGES) * PAGE_SIZE;
		if (handled)
			must(pgm_handler_register(pgm, watch, gpa(handled), gpa(handled + PAGE_SIZE - 1), NULL, "w") ==
			     OK);
		break;
	case 1:
		if (!logging)
			must(pgm_dirty_start(pgm, DIRTY_AUTO) == OK);
		if (!logging || (dice >> 20 & 3))
			copy_dirty(!logging);
		else
			must(pgm_dirty_stop(pgm) == OK);
		logging = !logging || (dice >> 20 & 3);
		break;
	case 2: (void)shadow_shrink(pgm, root); break;
	case 3: pgm_tables_drop(pgm); break;
	case 4:
	case 5:
		for (unsigned i = 0; i < 8; i++)
			give_another_frame(dice >> 8 * (i % 3));
		break;
	default:
		for (unsigned i = dice >> 8 & 31; i; i--)
			(void)pgm_collapse_step(pgm);
	}
}

static void *run_operator(void *context)
{
	handler_type watch = *(handler_type *)context;
	uint64_t seed = 5;

	test_cpu = 0;
	for (unsigned i = 0; i < ROUNDS; i++) {
		uint64_t dice = random_of(&seed);
		unsigned page = dice % L2_PAGES;

		if (dice >> 32 & 3) {
			bool there = dice >> 40 & 7, second = dice >> 50 & 1;
			uint32_t change = (shown[page] | 3) + 4;

			__atomic_store_n(&shown[page], change, __ATOMIC_SEQ_CST);
			put64(slot_of(page), there ? leaf_of(page, second, dice >> 51 & 1) : 0);
			shadow_invalidate(pgm, &slat);
			__atomic_store_n(&shown[page], (change & ~3u) + 4 + (there ? 1u << second : 0),
					 __ATOMIC_SEQ_CST);
		} else {
			host_acts(watch, dice >> 34);
		}
	}
	__atomic_store_n(&running, 0, __ATOMIC_RELEASE);
	return NULL;
}

static void all_at_once(const struct pt_format *format, bool large)
{
	struct pgm_config config = plain_config(RAM);
	handler_type watch;
	pthread_t thread[VCPUS + 1];
	char why[128];

	config.slat = format;
	config.large_pages = large;
	config.accessed_dirty = large;
	config.share_group = 1;
	assert_int_equal(pgm_create(&pgm, &config, sync_all, NULL, why, sizeof(why)), OK);
	slat = (struct hv_nested_slat){ .on = true,
					.root = gpa(TABLES),
					.format = format,
					.physical_bits = 40,
					.accessed_dirty = true,
					.no_execute = true };
	memset(counted, 0, sizeof(counted));
	logging = false;
	handled = 0;
	for (unsigned page = 0; page < L2_PAGES; page++)
		shown[page] = 1;
	lay();
	assert_int_equal(shadow_root_get(pgm, &slat, 0, &root), OK);
	assert_int_equal(pgm_handler_type_register(pgm, HANDLER_KIND_ALL, 0, answer, "w", &watch), OK);
	running = 1;
	for (uintptr_t i = 0; i <= VCPUS; i++)
		assert_int_equal(pthread_create(&thread[i], NULL, i ? run_vcpu : run_operator, i ? (void *)i : &watch),
				 0);
	for (unsigned i = 0; i <= VCPUS; i++)
		pthread_join(thread[i], NULL);
	test_cpu = 0;
	if (logging)
		copy_dirty(false);
	for (unsigned page = 0; page < 2 * L2_PAGES; page++)
		for (unsigned cpu = 1; cpu <= VCPUS; cpu++) {
			uint64_t value;

			assert_int_equal(pgm_read(pgm, gpa(DATA + page * PAGE_SIZE + 8 * (1 + cpu)), &value, 8,
						  ORIGIN_DEBUGGER, NULL),
					 OK);
			assert_int_equal(value, counted[cpu][page]);
			if (logging)
				assert_int_equal(copy[page][cpu - 1], value);
		}
	logged += logging;
	shadow_root_put(pgm, root);
	end_pgm(pgm);
}

static void test_all_at_once(void **state)
{
	(void)state;
	for (unsigned n = 0; n < 4; n++)
		all_at_once(n & 1 ? &pt_npt4 : &pt_ept4, n & 2);
	print_message("moved %u, shared %u, at the end in the log %u\n", moved, shared, logged);
	assert_true(moved > 100 && shared > 20 && logged);
}

int main(void)
{
	const struct CMUnitTest tests[] = { cmocka_unit_test(test_all_at_once) };

	test_cpu_count = VCPUS + 1;
	pgm_world_start(64 * MIB);
	return cmocka_run_group_tests_name("pgm_shadow_threads", tests, NULL, NULL);
}
