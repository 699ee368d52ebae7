/* SPDX-License-Identifier: Apache-2.0 */
// sources: mm/*.c pgm/*.c pgm/*/*.c lib/format.c lib/hash.c lib/status.c arch/x86_64/pt_format.c
// threads
/*
 * Attack 6 on four CPUs: two machines of one group, a vcpu each, write pages that are equal again and again, while a third CPU looks for pages
 * to share and moves others out of their chunks, and a fourth puts pages into the balloons and takes them out, collapses, and switches the dirty
 * log. Each page has one word in all its places that its own vcpu alone writes: who finds another has read memory that isn't his, or
 * has lost a write. A flush waits for each CPU to leave its guest, as the machine's does.
 */
#include <pthread.h>
#include <sched.h>

#define WORLD_STRICT 17u
#define WORLD_CHUNKS 64u
#include "common/pgm_world.h"
#include "mm/compact.h"
#include "pgm/dirty/dirty.h"
#include "pgm/walk.h"

extern __thread unsigned test_cpu;
extern unsigned test_cpu_count;

#define VCPUS 2u
#define ROUNDS 250u
#define PAGES 192u
#define SPREAD 8u /* words of a page that are written and looked at */
#define RAM (16 * MIB)
#define AT (4 * MIB)

#define must(condition)                                                                                                \
	do {                                                                                                           \
		if (!(condition)) {                                                                                    \
			fprintf(stderr, "%s:%d: %s fails\n", __FILE__, __LINE__, #condition);                          \
			abort();                                                                                       \
		}                                                                                                      \
	} while (0)

/* The first look at a page is without its lock's leave of the guest: what changes meanwhile is seen when it is protected. */
const char *__tsan_default_suppressions(void);
const char *__tsan_default_suppressions(void)
{
	return "race:read_content\nrace:same_content\n";
}

static struct pgm *machine[VCPUS];
static uint32_t running, in_guest[VCPUS];
static uint64_t held[VCPUS][PAGES]; /* by its vcpu alone: what stands in the page */
static uint64_t copy[VCPUS][PAGES]; /* what the dirty log has led to */
static uint8_t ours[VCPUS][PAGES];  /* atomic: 0 the vcpu's, 1 the balloon's */
static unsigned shared, moved, ballooned, broken, logged;

static void sync_one(struct flush_domain *domain, uint64_t generation)
{
	unsigned m = domain == &machine[1]->flush;

	(void)generation;
	while (__atomic_load_n(&in_guest[m], __ATOMIC_SEQ_CST))
		sched_yield();
}

static uint64_t where_of(unsigned page)
{
	return AT + page * PAGE_SIZE;
}

/* What the page holds is its vcpu's last word; then the next, if it may be written. */
__attribute__((no_sanitize("thread"))) static void use(unsigned m, unsigned page, volatile uint64_t *words, bool write,
						       uint64_t value)
{
	for (unsigned i = 0; i < SPREAD; i++) {
		if (words[i * 64] != held[m][page]) {
			fprintf(stderr, "machine %u page %u: %llx, not %llx\n", m, page,
				(unsigned long long)words[i * 64], (unsigned long long)held[m][page]);
			abort();
		}
	}
	for (unsigned i = 0; i < SPREAD && write; i++)
		words[i * 64] = value;
	if (write)
		held[m][page] = value;
}

/*
 * The processor's side: it races with PGM's plain accesses as hardware does, and uses a translation for as long as it stays in the guest.
 * True: the guest had its accesses.
 */
__attribute__((no_sanitize("thread"))) static bool stint(unsigned m, unsigned page, bool write, uint64_t value)
{
	struct pgm *pgm = machine[m];
	uint64_t entry, *slot;
	unsigned level;
	bool done;

	__atomic_store_n(&in_guest[m], 1, __ATOMIC_SEQ_CST);
	slot = slat_find(&pgm->slat, gpa(where_of(page)), &level);
	entry = __atomic_load_n(slot, __ATOMIC_SEQ_CST);
	done = slat_present(&pgm->slat, entry) && slat_rights(&pgm->slat, entry) & (write ? ACCESS_WRITE : ACCESS_READ);
	if (done && write) /* its dirty bit, if it is still the entry */
		done = __atomic_compare_exchange_n(slot, &entry, entry | pgm->slat.format->dirty, false,
						   __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST);
	if (done) {
		uint64_t offset = where_of(page) & (BIT(pt_shift(pgm->slat.format, level)) - 1);
		uint64_t *words = frame_map(hpa(slat_frame(&pgm->slat, level, entry).v + offset));

		for (unsigned i = 0; i < 4; i++) {
			use(m, page, words, write, value + (i & 1));
			sched_yield();
		}
		frame_unmap(words);
	}
	__atomic_store_n(&in_guest[m], 0, __ATOMIC_SEQ_CST);
	return done;
}

/* A vcpu: few contents, so that pages are often equal. */
static void *run_vcpu(void *context)
{
	unsigned m = (unsigned)(uintptr_t)context;
	uint64_t seed = m + 7;

	test_cpu = m;
	while (__atomic_load_n(&running, __ATOMIC_ACQUIRE)) {
		uint64_t dice = random_of(&seed);
		unsigned page = dice % PAGES;
		bool write = dice >> 40 & 1;
		uint8_t mine = 0;

		if (!__atomic_compare_exchange_n(&ours[m][page], &mine, 2, false, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST))
			continue;
		for (unsigned tries = 0; tries < 8 && !stint(m, page, write, dice >> 50 & 3); tries++)
			must(pgm_fault(machine[m], gpa(where_of(page)), write ? ACCESS_WRITE : ACCESS_READ) ==
			     PGM_RESUME);
		__atomic_store_n(&ours[m][page], 0, __ATOMIC_SEQ_CST);
		if (dice >> 60 == 0)
			sched_yield();
	}
	return NULL;
}

static void *run_worker(void *context)
{
	uint64_t seed = 5;

	(void)context;
	test_cpu = 2;
	while (__atomic_load_n(&running, __ATOMIC_ACQUIRE)) {
		uint64_t dice = random_of(&seed);
		struct pgm *pgm = machine[dice & 1];
		gpa_t page = gpa(where_of(dice % PAGES));
		struct pgm_page_info info;
		unsigned looked;

		if (dice >> 20 & 7) {
			(void)!pgm_fusion_step(pgm, dice >> 30 & 1, &looked);
			continue;
		}
		pgm_page_describe(pgm, page, &info);
		moved += !hpa_is_none(info.frame) && pgm_leave_frame(pgm, page, info.frame) == OK;
	}
	return NULL;
}

static void balloon_acts(unsigned m, unsigned page, bool keep)
{
	uint32_t number = (uint32_t)(where_of(page) >> PAGE_SHIFT);
	uint8_t mine = 0;

	if (!__atomic_compare_exchange_n(&ours[m][page], &mine, 1, false, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST))
		return;
	must(pgm_balloon(machine[m], true, &number, 1) == OK);
	if (!keep)
		must(pgm_balloon(machine[m], false, &number, 1) == OK);
	ballooned++;
	held[m][page] = 0;
	__atomic_store_n(&ours[m][page], 0, __ATOMIC_SEQ_CST);
}

static uint64_t bitmap[RAM / PAGE_SIZE / 64];

/* What the log names, or all. */
static void copy_dirty(unsigned m, bool all)
{
	must(pgm_dirty_read_and_clear(machine[m], 0, RAM / PAGE_SIZE, bitmap) == OK);
	for (unsigned page = 0; page < PAGES; page++) {
		uint64_t number = where_of(page) >> PAGE_SHIFT;

		if (all || bitmap[number / 64] >> number % 64 & 1)
			must(pgm_read(machine[m], gpa(where_of(page)), &copy[m][page], 8, ORIGIN_SAVE, NULL) == OK);
	}
}

static void *run_operator(void *context)
{
	bool logging[VCPUS] = { false };
	uint64_t seed = 3;

	(void)context;
	test_cpu = 3;
	for (unsigned i = 0; i < ROUNDS; i++) {
		uint64_t dice = random_of(&seed);
		unsigned m = dice & 1, page = (dice >> 8) % PAGES;
		struct pgm_page_info info;

		pgm_page_describe(machine[m], gpa(where_of(page)), &info);
		if (dice >> 20 & 3) {
			if (page_get_state(info.record) != PAGE_BALLOONED)
				balloon_acts(m, page, false);
		} else if (dice >> 24 & 1) {
			for (unsigned n = 0; n < 20; n++)
				(void)pgm_idle_step(machine[m]);
		} else if (!logging[m]) {
			while (pgm_dirty_start(machine[m], dice >> 26 & 1 ? DIRTY_WRITE_PROTECT : DIRTY_AUTO) == BUSY)
				;
			logging[m] = true;
			copy_dirty(m, true);
		} else if ((dice >> 30 & 1) || i > ROUNDS / 2) {
			copy_dirty(m, false);
		} else {
			while (pgm_dirty_stop(machine[m]) == BUSY)
				;
			logging[m] = false;
		}
		sched_yield();
	}
	__atomic_store_n(&running, 0, __ATOMIC_RELEASE);
	return NULL;
}

static void all_at_once(const struct pt_format *format)
{
	static void *(*const of[])(void *) = { run_vcpu, run_vcpu, run_worker, run_operator };
	pthread_t thread[ARRAY_SIZE(of)];
	char why[128];

	memset(held, 0, sizeof(held));
	for (unsigned m = 0; m < VCPUS; m++) {
		struct pgm_config config = plain_config(RAM);

		config.slat = format;
		config.share_group = 1;
		config.large_pages = false;
		config.accessed_dirty = true;
		assert_int_equal(pgm_create(&machine[m], &config, sync_one, NULL, why, sizeof(why)), OK);
	}
	running = 1;
	for (uintptr_t i = 0; i < ARRAY_SIZE(of); i++)
		assert_int_equal(pthread_create(&thread[i], NULL, of[i], (void *)i), 0);
	for (unsigned i = 0; i < ARRAY_SIZE(of); i++)
		pthread_join(thread[i], NULL);
	test_cpu = 0;
	for (unsigned m = 0; m < VCPUS; m++) {
		for (unsigned page = 0; page < PAGES; page++)
			while (!stint(m, page, false, 0))
				assert_int_equal(pgm_fault(machine[m], gpa(where_of(page)), ACCESS_READ), PGM_RESUME);
		shared += machine[m]->common.counters.fusion_shared;
		broken += machine[m]->common.counters.fusion_broken;
	}
	for (unsigned m = 0; m < VCPUS; m++) {
		if (dirty_mode(machine[m]) != DIRTY_OFF) {
			copy_dirty(m, false);
			assert_memory_equal(copy[m], held[m], sizeof(held[m]));
			logged++;
		}
		while (pgm_dirty_stop(machine[m]) == BUSY)
			;
		pgm_fusion_leave(machine[m]);
		end_pgm(machine[m]);
	}
	assert_int_equal(totals_now().private_pages + totals_now().shared_pages, 0);
}

static void test_attack6_all_at_once(void **state)
{
	(void)state;
	assert_int_equal(pgm_fusion_start(64 * MIB / PAGE_SIZE), OK);
	all_at_once(&pt_npt4);
	all_at_once(&pt_ept4);
	print_message("shared %u, broken %u, moved %u, ballooned %u\n", shared, broken, moved, ballooned);
	assert_true(shared > 30 && broken > 5 && moved > 50 && ballooned > 100 && logged);
}

static void *write_part(void *context)
{
	static const struct hv_nested_part part = { 8, 8 };
	static uint8_t bytes[PAGE_SIZE];

	test_cpu = 1;
	must(pgm_parts(context, gpa(AT), bytes, &part, 1, true) == OK);
	return NULL;
}

/* A collapse that has just begun while a write waited for the block hears of it. */
static void test_parts_and_collapse(void **state)
{
	struct pgm_config config = plain_config(RAM);
	struct pgm *pgm;
	struct block *b;
	pthread_t thread;
	uint64_t value = 1;
	char why[128];

	(void)state;
	config.large_pages = false;
	assert_int_equal(pgm_create(&pgm, &config, NULL, NULL, why, sizeof(why)), OK);
	assert_int_equal(pgm_write(pgm, gpa(AT), &value, 8, ORIGIN_GUEST, NULL), OK);
	b = block_find(pgm, gpa(AT));
	block_lock(b);
	assert_int_equal(pthread_create(&thread, NULL, write_part, pgm), 0);
	for (unsigned i = 0; i < 10000; i++)
		sched_yield();
	memset(pgm->collapse.clean, 0xff, sizeof(pgm->collapse.clean));
	b->flags |= BLOCK_COLLAPSING;
	block_unlock(b);
	pthread_join(thread, NULL);
	assert_false(pgm->collapse.clean[AT / PAGE_SIZE % PAGES_PER_BLOCK / 64] >> AT / PAGE_SIZE % 64 & 1);
	b->flags &= ~(uint32_t)BLOCK_COLLAPSING;
	end_pgm(pgm);
}

int main(void)
{
	const struct CMUnitTest tests[] = { cmocka_unit_test(test_attack6_all_at_once),
					    cmocka_unit_test(test_parts_and_collapse) };

	test_cpu_count = VCPUS + 2;
	pgm_world_start(64 * MIB);
	return cmocka_run_group_tests_name("pgm_share_threads", tests, NULL, NULL);
}
