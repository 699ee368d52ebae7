/* SPDX-License-Identifier: Apache-2.0 */
// sources: mm/*.c pgm/*.c pgm/*/*.c arch/x86_64/pt_format.c lib/format.c lib/hash.c lib/status.c
// threads
/*
 * No older value after a newer one. Four processors: one faults to write x, a page that read as zero until now; one writes x as soon
 * as it can, then y in another page; one has the old translation of x in its TLB, and reads y, then x; one throws all
 * translations away, again and again, and is late with its flushes. Who has seen the new y must not see the old x.
 *
 * A TLB is modelled: a translation lasts until the processor's flush, which comes in the middle of its loop, as an
 * interrupt does; a flush waits for who is in the guest and hasn't seen it (vm's sync has the same rule).
 */
#include <pthread.h>
#include <sched.h>

#include "common/pgm_world.h"

#include "pgm/slat/tables.h"

#define RAM (64 * MIB)
#define Y UINT64_C(0x400000)
#define SMALL UINT64_C(0x800000)
#define SMALL_ROUNDS 120u
#define LARGE UINT64_C(0x1000000)
#define LARGE_ROUNDS 10u
#define LATE 200u

extern __thread unsigned test_cpu;
extern unsigned test_cpu_count;

struct processor {
	uint32_t in_guest; /* atomic */
	uint64_t seen;     /* atomic: the domain's generation that it has flushed for */
};

static struct pgm *pgm;
static struct processor writer, reader;
static uint32_t round_ready, round_done, over, wrong; /* atomic */

#define get(where) __atomic_load_n(&(where), __ATOMIC_SEQ_CST)
#define put(where, value) __atomic_store_n(&(where), value, __ATOMIC_SEQ_CST)

static void wait_for(struct processor *p, uint64_t generation)
{
	while (get(p->in_guest) && get(p->seen) < generation)
		sched_yield();
}

static void sync_all(struct flush_domain *domain, uint64_t generation)
{
	wait_for(&writer, generation);
	wait_for(&reader, generation);
}

/* Is there a flush to be done? */
static bool flush_asked(struct processor *p)
{
	uint64_t generation = get(pgm->flush.generation);

	if (generation == get(p->seen))
		return false;
	put(p->seen, generation);
	return true;
}

static void enter(struct processor *p)
{
	put(p->in_guest, 1);
	(void)flush_asked(p);
}

/* As the processor walks: an entry is read once. */
static uint64_t *translate(uint64_t where, unsigned access)
{
	unsigned level;
	uint64_t entry = __atomic_load_n(slat_find(&pgm->slat, gpa(where), &level), __ATOMIC_ACQUIRE);

	if ((slat_rights(&pgm->slat, entry) & access) != access || !pt_is_leaf(pgm->slat.format, level, entry))
		return NULL;
	return (uint64_t *)host_memory_at(
		hpa(slat_frame(&pgm->slat, level, entry).v + (where & (BIT(pt_shift(pgm->slat.format, level)) - 1))));
}

/* One access: the processor is in the guest while it uses the translation. */
static void store(uint64_t where, uint64_t value)
{
	uint64_t *place;

	for (;;) {
		enter(&writer);
		place = translate(where, ACCESS_WRITE);
		if (place)
			__atomic_store_n(place, value, __ATOMIC_SEQ_CST);
		put(writer.in_guest, 0);
		if (place)
			return;
		if (where == Y && pgm_take_fault(pgm, gpa(where), ACCESS_WRITE, true, vcpu_counters()) != PGM_RESUME)
			abort();
		sched_yield();
	}
}

static uint64_t place_of(unsigned round)
{
	return round <= SMALL_ROUNDS ? SMALL + round * PAGE_SIZE : LARGE + (round - SMALL_ROUNDS) * BLOCK_SIZE;
}

static void *writes(void *unused)
{
	test_cpu = 0;
	for (unsigned round = 1; round <= SMALL_ROUNDS + LARGE_ROUNDS; round++) {
		while (get(round_ready) < round)
			sched_yield();
		store(place_of(round), round);
		store(Y, round);
		while (get(round_done) < round)
			sched_yield();
	}
	put(over, 1);
	return NULL;
}

/* The processor that faults for x; the writer relies on it. */
static void *faults(void *unused)
{
	test_cpu = 3;
	for (unsigned round = 1; round <= SMALL_ROUNDS + LARGE_ROUNDS; round++) {
		while (get(round_ready) < round)
			sched_yield();
		while (get(round_done) < round) {
			if (pgm_take_fault(pgm, gpa(place_of(round)), ACCESS_WRITE, true, vcpu_counters()) !=
			    PGM_RESUME)
				abort();
			sched_yield();
		}
	}
	return NULL;
}

/* In the guest: fills the TLB for x and y, out of the tables or by faults. */
static void fill(uint64_t where, uint64_t **x, uint64_t **y)
{
	for (;;) {
		enter(&reader);
		*x = translate(where, ACCESS_READ);
		*y = translate(Y, ACCESS_READ);
		if (*x && *y)
			return;
		put(reader.in_guest, 0);
		if (pgm_take_fault(pgm, gpa(*x ? Y : where), ACCESS_READ, true, vcpu_counters()) != PGM_RESUME)
			abort();
	}
}

static void *reads(void *unused)
{
	test_cpu = 1;
	for (unsigned round = 1; round <= SMALL_ROUNDS + LARGE_ROUNDS; round++) {
		uint64_t *x, *y, seen_x, seen_y;
		unsigned loops = 0;

		fill(place_of(round), &x, &y);
		put(round_ready, round);
		do {
			seen_y = __atomic_load_n(y, __ATOMIC_SEQ_CST);
			seen_x = __atomic_load_n(x, __ATOMIC_SEQ_CST);
			if (seen_y == round && seen_x != round)
				put(wrong, wrong + 1);
			/* The interrupt that asks for a flush takes its time. */
			if (seen_y != round && ++loops % LATE == 0 && flush_asked(&reader)) {
				put(reader.in_guest, 0);
				fill(place_of(round), &x, &y);
			}
		} while (seen_y != round);
		put(reader.in_guest, 0);
		put(round_done, round);
	}
	return NULL;
}

static void *drops(void *unused)
{
	test_cpu = 2;
	while (!get(over)) {
		pgm_tables_drop(pgm);
		sched_yield();
	}
	return NULL;
}

static void run(bool with_drops)
{
	struct pgm_config config = plain_config(RAM);
	char why[256];
	pthread_t thread[4];

	round_ready = round_done = over = 0;
	writer = reader = (struct processor){ 0 };
	assert_int_equal(pgm_create(&pgm, &config, sync_all, NULL, why, sizeof(why)), OK);
	inject_arm(MM_SITE_LARGE, 0, 1, 0);
	assert_int_equal(pgm_fault(pgm, gpa(Y), ACCESS_WRITE), PGM_RESUME);
	for (uint64_t at = SMALL; at < LARGE; at += BLOCK_SIZE)
		assert_int_equal(pgm_fault(pgm, gpa(at), ACCESS_WRITE), PGM_RESUME);
	inject_disarm(MM_SITE_LARGE);
	pthread_create(&thread[0], NULL, writes, NULL);
	pthread_create(&thread[1], NULL, reads, NULL);
	pthread_create(&thread[2], NULL, faults, NULL);
	if (with_drops)
		pthread_create(&thread[3], NULL, drops, NULL);
	for (unsigned i = 0; i < (with_drops ? 4 : 3); i++)
		pthread_join(thread[i], NULL);
	assert_int_equal(wrong, 0);
	assert_int_equal(pgm->flush.pending, 0);
	end_pgm(pgm);
}

static void test_no_older_after_newer(void **state)
{
	run(false);
}

static void test_amid_owed_flushes(void **state)
{
	run(true);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_no_older_after_newer),
		cmocka_unit_test(test_amid_owed_flushes),
	};

	test_cpu_count = 4;
	pgm_world_start(128 * MIB);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
