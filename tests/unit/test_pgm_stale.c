/* SPDX-License-Identifier: Apache-2.0 */
// sources: mm/*.c pgm/*.c pgm/*/*.c arch/x86_64/pt_format.c lib/format.c lib/hash.c lib/status.c
/*
 * Attack 3: free before flush. Two processors made of C run a guest: each keeps translations and, like real ones, pointers
 * to last-level tables until it is told to flush. Meanwhile a third collapses their blocks, takes ranges away and brings
 * them back; a fourth allocates whatever comes free, guest frames and table frames, fills it with poison and gives it
 * back. A processor that reads poison, or poison that a processor overwrites, is a frame freed too early.
 */
#include <pthread.h>
#include <sched.h>

#define WORLD_STRICT 17u
#include "common/pgm_world.h"

#define VCPUS 2u
#define POISONER (VCPUS + 1)
#define RAM (8 * MIB)
#define LATE (64 * MIB) /* a range that comes and goes */
#define LATE_SIZE (256 * PAGE_SIZE)
#define ROUNDS 8u
#define NOISY_STEPS 200u /* of collapse, in which the guest uses the very block */
#define STEPS 600u
#define POISON UINT64_C(0xdeaddeaddeaddead)
#define HELD 160u

extern __thread unsigned test_cpu;
extern unsigned test_cpu_count;

struct remembered {
	uint64_t page;  /* number + 1; 0: nothing */
	uint64_t *word; /* its first */
	unsigned rights;
};

struct processor {
	uint32_t requests, in_guest; /* atomic */
	struct remembered tlb[64];
	uint64_t table_of, *table; /* block number + 1 */
	uint64_t reads, faults;    /* atomic */
};

static struct processor processors[VCPUS];
static struct pgm *pgm;
static uint32_t over, poisoned; /* atomic */
static uint64_t avoided;        /* atomic: a block's number */

#define must(condition)                                                                                                \
	do {                                                                                                           \
		if (!(condition)) {                                                                                    \
			fprintf(stderr, "%s:%d: %s fails\n", __FILE__, __LINE__, #condition);                          \
			abort();                                                                                       \
		}                                                                                                      \
	} while (0)

/* As vm/machine/start.c's: returns when every processor has left the guest, or will flush before it enters. */
static void sync_processors(struct flush_domain *domain, uint64_t generation)
{
	for (unsigned i = 0; i < VCPUS; i++) {
		__atomic_store_n(&processors[i].requests, 1, __ATOMIC_SEQ_CST);
		while (__atomic_load_n(&processors[i].in_guest, __ATOMIC_SEQ_CST) &&
		       __atomic_load_n(&processors[i].requests, __ATOMIC_SEQ_CST))
			sched_yield();
	}
	must(domain->generation >= generation);
}

static void enter(struct processor *p)
{
	for (;;) {
		__atomic_store_n(&p->in_guest, 1, __ATOMIC_SEQ_CST);
		if (!__atomic_load_n(&p->requests, __ATOMIC_SEQ_CST))
			return;
		__atomic_store_n(&p->in_guest, 0, __ATOMIC_SEQ_CST);
		memset(p->tlb, 0, sizeof(p->tlb));
		p->table_of = 0;
		__atomic_store_n(&p->requests, 0, __ATOMIC_SEQ_CST);
	}
}

static void leave(struct processor *p)
{
	__atomic_store_n(&p->in_guest, 0, __ATOMIC_SEQ_CST);
}

/* The last-level entry, through the remembered table if there is one; 0: none. *level of the leaf. */
static uint64_t walk(struct processor *p, uint64_t where, unsigned *level)
{
	const struct pt_format *f = pgm->slat.format;
	uint64_t *table = direct_pointer(pgm->slat.root), value;

	*level = 0;
	if (p->table_of == (where >> BLOCK_SHIFT) + 1)
		return __atomic_load_n(&p->table[pt_index(f, 0, where)], __ATOMIC_ACQUIRE);
	for (unsigned l = f->levels - 1;; l--) {
		value = __atomic_load_n(&table[pt_index(f, l, where)], __ATOMIC_ACQUIRE);
		if (!(value & f->present) || pt_is_leaf(f, l, value)) {
			*level = l;
			return value;
		}
		table = direct_pointer(hpa(value & f->address));
		if (l == 1) {
			p->table_of = (where >> BLOCK_SHIFT) + 1;
			p->table = table;
		}
	}
}

/* The word at the start of a page, or NULL: a fault. In the guest. */
static uint64_t *translate(struct processor *p, uint64_t where, unsigned access)
{
	struct remembered *t = &p->tlb[where >> PAGE_SHIFT & 63];
	uint64_t page = (where >> PAGE_SHIFT) + 1, entry;
	unsigned level;

	if (t->page == page && (t->rights & access) == access)
		return t->word;
	entry = walk(p, where, &level);
	must(entry != POISON);
	if (!slat_present(&pgm->slat, entry) || (slat_rights(&pgm->slat, entry) & access) != access)
		return NULL;
	t->page = page;
	t->rights = slat_rights(&pgm->slat, entry);
	t->word = host_memory_at(hpa(slat_frame(&pgm->slat, level, entry).v +
				     (level ? where & (BLOCK_SIZE - 1) & ~(PAGE_SIZE - 1) : 0)));
	return t->word;
}

/* One access: the page's word is its stamp, or zero where memory came back new. */
static void access_page(struct processor *p, uint64_t where, bool write)
{
	for (;;) {
		uint64_t *word, seen;

		enter(p);
		word = translate(p, where, write ? ACCESS_WRITE : ACCESS_READ);
		if (word) {
			seen = __atomic_load_n(word, __ATOMIC_RELAXED);
			if (write)
				__atomic_store_n(word, where, __ATOMIC_RELAXED);
			leave(p);
			must(seen == where || (seen == 0 && where >= LATE));
			__atomic_fetch_add(&p->reads, 1, __ATOMIC_RELAXED);
			return;
		}
		leave(p);
		__atomic_fetch_add(&p->faults, 1, __ATOMIC_RELAXED);
		if (pgm_fault(pgm, gpa(where), write ? ACCESS_WRITE : ACCESS_READ) != PGM_RESUME)
			return; /* the range is away, or memory is short just now */
	}
}

static void *run_processor(void *context)
{
	struct processor *p = context;
	uint64_t seed = 77 + (uint64_t)(p - processors);

	test_cpu = 1 + (unsigned)(p - processors);
	while (!__atomic_load_n(&over, __ATOMIC_ACQUIRE)) {
		uint64_t dice = random_of(&seed);
		bool late = dice % 8 == 0;
		uint64_t page = late ? LATE / PAGE_SIZE + (dice >> 8) % (LATE_SIZE / PAGE_SIZE)
				     : (2 * MIB + (dice >> 8) % (4 * MIB)) / PAGE_SIZE;

		if (page / PAGES_PER_BLOCK != __atomic_load_n(&avoided, __ATOMIC_RELAXED))
			access_page(p, page << PAGE_SHIFT, late ? dice & 64 : (dice >> 40) % 1024 == 0);
		if (dice % 256 == 0)
			sched_yield();
	}
	return NULL;
}

/* Frames of both kinds, poisoned, looked at again, given back. */
static void *run_poisoner(void *context)
{
	struct account *account = context;
	struct held {
		hpa_t frame;
		enum account_kind kind;
	} held[HELD];
	uint64_t seed = 5;
	unsigned count = 0;

	test_cpu = POISONER;
	while (!__atomic_load_n(&over, __ATOMIC_ACQUIRE)) {
		enum account_kind kind = random_of(&seed) & 1 ? ACCOUNT_TABLE : ACCOUNT_BASE;
		struct gather gather;
		hpa_t frame;

		if (count < HELD && (kind == ACCOUNT_TABLE ? table_alloc(account, &frame)
							   : frame_alloc(account, kind, gpa(0), &frame)) == OK) {
			uint64_t *words = host_memory_at(frame);

			for (unsigned i = 0; i < 512; i++)
				__atomic_store_n(&words[i], POISON, __ATOMIC_RELAXED);
			held[count].kind = kind;
			held[count++].frame = frame;
			__atomic_fetch_add(&poisoned, 1, __ATOMIC_RELAXED);
			continue;
		}
		gather_begin(&gather, NULL, account);
		for (unsigned i = 0; i < count; i++) {
			const uint64_t *words = host_memory_at(held[i].frame);

			for (unsigned k = 0; k < 512; k += 7)
				must(__atomic_load_n(&words[k], __ATOMIC_RELAXED) == POISON);
			gather_frame(&gather, held[i].frame, held[i].kind);
		}
		gather_finish(&gather);
		count = 0;
		sched_yield();
	}
	for (unsigned i = 0; i < count; i++)
		free_one(account, held[i].frame, held[i].kind);
	return NULL;
}

static void stamp_all(void)
{
	inject_arm(MM_SITE_LARGE, 0, 1, 0);
	for (uint64_t where = 2 * MIB; where < 6 * MIB; where += PAGE_SIZE)
		assert_int_equal(pgm_write(pgm, gpa(where), &where, 8, ORIGIN_DEVICE, NULL), OK);
	inject_disarm(MM_SITE_LARGE);
}

static void come_and_go(void)
{
	enum status status;

	do {
		status = pgm_remove_range_step(pgm, gpa(LATE));
	} while (status == BUSY);
	assert_int_equal(status, OK);
	assert_int_equal(pgm_add_ram(pgm, gpa(LATE), LATE_SIZE, "late"), OK);
}

/* Each processor has made some accesses more: a busy host may leave a thread without its turn for long. */
static void let_them_run(void)
{
	for (unsigned i = 0; i < VCPUS; i++) {
		uint64_t before = __atomic_load_n(&processors[i].reads, __ATOMIC_RELAXED);

		while (__atomic_load_n(&processors[i].reads, __ATOMIC_RELAXED) < before + 10)
			sched_yield();
	}
}

static bool enough(unsigned steps)
{
	uint64_t collapsed = __atomic_load_n(&pgm->common.counters.large_collapsed, __ATOMIC_RELAXED);

	return collapsed >= 2 || steps >= (collapsed ? STEPS : 20 * STEPS);
}

/* Single frames become chunks under the processors' feet; a range goes and comes all the while. */
static void one_round(const struct pt_format *format, struct account *account)
{
	pthread_t threads[VCPUS + 1];
	struct pgm_config config = plain_config(RAM);
	unsigned steps = 0;
	char why[256] = "";

	config.slat = format;
	memset(processors, 0, sizeof(processors));
	avoided = 0;
	assert_int_equal(pgm_create(&pgm, &config, sync_processors, NULL, why, sizeof(why)), OK);
	assert_int_equal(pgm_add_ram(pgm, gpa(LATE), LATE_SIZE, "late"), OK);
	stamp_all();
	__atomic_store_n(&over, 0, __ATOMIC_RELEASE);
	for (unsigned i = 0; i < VCPUS; i++)
		assert_int_equal(pthread_create(&threads[i], NULL, run_processor, &processors[i]), 0);
	assert_int_equal(pthread_create(&threads[VCPUS], NULL, run_poisoner, account), 0);
	while (!enough(steps)) {
		(void)pgm_collapse_step(pgm);
		if (steps > NOISY_STEPS && pgm->collapse.block)
			__atomic_store_n(&avoided, pgm->collapse.base.v >> BLOCK_SHIFT, __ATOMIC_RELAXED);
		if (++steps % 16 == 0)
			come_and_go();
		if (steps % 16 == 8)
			let_them_run();
		sched_yield();
	}
	__atomic_store_n(&over, 1, __ATOMIC_RELEASE);
	for (unsigned i = 0; i < VCPUS + 1; i++)
		assert_int_equal(pthread_join(threads[i], NULL), 0);
	for (unsigned i = 0; i < VCPUS; i++)
		assert_true(processors[i].reads && processors[i].faults);
	assert_true(pgm->common.counters.large_collapsed > 0);
	end_pgm(pgm);
}

static void test_attack3_free_before_flush(void **state)
{
	struct account *account = open_account(HELD + 64, HELD + 64, 0);

	for (unsigned round = 0; round < ROUNDS; round++)
		one_round(round % 2 ? &pt_npt4 : &pt_ept4, account);
	assert_true(poisoned > HELD);
	print_message("%u frames poisoned\n", poisoned);
	close_account(account);
}

int main(void)
{
	const struct CMUnitTest tests[] = { cmocka_unit_test(test_attack3_free_before_flush) };

	test_cpu_count = POISONER + 1;
	pgm_world_start(48 * MIB);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
