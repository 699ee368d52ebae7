/* SPDX-License-Identifier: Apache-2.0 */
// sources: mm/*.c pgm/*.c pgm/*/*.c arch/x86_64/pt_format.c lib/format.c lib/hash.c lib/status.c
/* Every counter counts: each event moves its own, and at the end none of the structs' counters stands still. */
#include "common/pgm_world.h"
#include "pgm/slat/tables.h"

#define RAM (32 * MIB)
#define LARGE (4 * MIB)
#define PIECES (8 * MIB)
#define FULL (12 * MIB)
#define EMPTY (16 * MIB)
#define SHARED (20 * MIB)
#define ROM_AT (GIB)
#define DEVICE (2 * GIB)
#define BAR (3 * GIB)

static struct pgm *pgm;
static struct pgm_vcpu_counters vcpu;
/* What has ever moved. */
static struct pgm_counters pgm_moved, pgm_before;
static struct pgm_vcpu_counters vcpu_moved, vcpu_before;

static void remember(void *moved, void *before, const void *now, size_t size)
{
	for (size_t i = 0; i < size / sizeof(uint64_t); i++)
		((uint64_t *)moved)[i] |= ((const uint64_t *)now)[i] ^ ((uint64_t *)before)[i];
	memcpy(before, now, size);
}

static void settle(void)
{
	struct pgm_counters now;

	pgm_counters_sum(pgm, &now);
	remember(&pgm_moved, &pgm_before, &now, sizeof(pgm_before));
	remember(&vcpu_moved, &vcpu_before, &vcpu, sizeof(vcpu_before));
}

/* `event` moves this counter by that much, and nothing else of its struct that isn't said to move as well. */
#define MOVES(event, counter, by)                                                                                      \
	do {                                                                                                           \
		struct pgm_counters now;                                                                               \
                                                                                                                       \
		settle();                                                                                              \
		event;                                                                                                 \
		pgm_counters_sum(pgm, &now);                                                                           \
		if (now.counter - pgm_before.counter != (uint64_t)(by))                                                \
			fail_msg("line %d: %s moved by %llu", __LINE__, #counter,                                      \
				 (unsigned long long)(now.counter - pgm_before.counter));                              \
	} while (0)
#define MOVES_VCPU(event, counter, by)                                                                                 \
	do {                                                                                                           \
		settle();                                                                                              \
		event;                                                                                                 \
		if (vcpu.counter - vcpu_before.counter != (uint64_t)(by))                                              \
			fail_msg("line %d: %s moved by %llu", __LINE__, #counter,                                      \
				 (unsigned long long)(vcpu.counter - vcpu_before.counter));                            \
	} while (0)

static void fault(uint64_t where, unsigned access, enum pgm_verdict verdict)
{
	assert_int_equal(pgm_fault(pgm, gpa(where), access), verdict);
}

static void put(uint64_t where, uint64_t word)
{
	assert_int_equal(pgm_write(pgm, gpa(where), &word, 8, ORIGIN_DEVICE, NULL), OK);
}

static void get(uint64_t where)
{
	uint64_t word;

	assert_int_equal(pgm_read(pgm, gpa(where), &word, 8, ORIGIN_DEVICE, NULL), OK);
}

static enum status pass(void *user, struct pgm_access *access)
{
	return NOT_FOUND;
}

static void watch(enum handler_kind kind, uint64_t first, uint64_t last)
{
	handler_type type;

	assert_int_equal(pgm_handler_type_register(pgm, kind, 0, pass, "pass", &type), OK);
	assert_int_equal(pgm_handler_register(pgm, type, gpa(first), gpa(last), NULL, "pass"), OK);
}

static void make_full(void)
{
	inject_arm(MM_SITE_LARGE, 0, 1, 0);
	for (unsigned i = 0; i < PAGES_PER_BLOCK; i++)
		put(FULL + i * PAGE_SIZE, i);
	inject_disarm(MM_SITE_LARGE);
}

static void collapse(void)
{
	for (unsigned round = 0; round < 2; round++)
		while (pgm_collapse_step(pgm))
			;
}

static void pages_and_faults(void)
{
	uint32_t page = PIECES / PAGE_SIZE + 40;

	MOVES_VCPU(fault(EMPTY, ACCESS_READ, PGM_RESUME), cause[FAULT_SYNC], 1);
	MOVES(fault(EMPTY + 2 * MIB, ACCESS_READ, PGM_RESUME), zero_mapped, 1);
	MOVES(fault(EMPTY + 2 * MIB, ACCESS_WRITE, PGM_RESUME), large_zero_evict, 1);
	MOVES(fault(LARGE, ACCESS_WRITE, PGM_RESUME), large_alloc, 1);
	MOVES_VCPU(fault(LARGE + 4 * BLOCK_SIZE + 4 * BLOCK_SIZE, ACCESS_WRITE, PGM_RESUME), cause[FAULT_PAGE_ZEROING],
		   1);
	MOVES(fault(LARGE, ACCESS_WRITE, PGM_RESUME), large_valid, 1);
	MOVES_VCPU(fault(LARGE, ACCESS_WRITE, PGM_RESUME), spurious, 1);
	inject_arm(MM_SITE_LARGE, 0, 1, 0);
	MOVES(fault(PIECES, ACCESS_WRITE, PGM_RESUME), large_alloc_failed, 1);
	inject_disarm(MM_SITE_LARGE);
	MOVES(fault(PIECES + PAGE_SIZE, ACCESS_WRITE, PGM_RESUME), allocated, 1);
	MOVES_VCPU(fault(PIECES + PAGE_SIZE, ACCESS_WRITE, PGM_RESUME), cause[FAULT_MISC], 1);
	MOVES(fault(PIECES + 2 * PAGE_SIZE, ACCESS_WRITE, PGM_RESUME), handy_allocs, 1);
	put(PIECES + 16 * PAGE_SIZE, 1);
	put(PIECES + 17 * PAGE_SIZE, 1);
	MOVES_VCPU(fault(PIECES + 16 * PAGE_SIZE, ACCESS_READ, PGM_RESUME), around, 1);
	MOVES_VCPU(fault(PIECES + 18 * PAGE_SIZE, ACCESS_READ, PGM_RESUME), resumed, 1);
	MOVES(assert_int_equal(pgm_balloon(pgm, true, &page, 1), OK), balloon_in, 1);
	MOVES(assert_int_equal(pgm_balloon(pgm, true, &page, 1), BAD_STATE), balloon_refused, 1);
	MOVES_VCPU(fault(PIECES + 40 * PAGE_SIZE, ACCESS_READ, PGM_RESUME), cause[FAULT_BALLOONED], 1);
	MOVES(assert_int_equal(pgm_balloon(pgm, false, &page, 1), OK), balloon_back, 1);
	put(PIECES + 40 * PAGE_SIZE, 1);
	MOVES(assert_int_equal(pgm_discard(pgm, gpa((uint64_t)page << PAGE_SHIFT), PAGE_SIZE), 1), discarded, 1);
	inject_arm(MM_SITE_FRAME, 0, 1, 0);
	inject_arm(MM_SITE_HANDY, 0, 1, 0);
	while (handy_count(pgm))
		fault(PIECES + (100 + handy_count(pgm)) * PAGE_SIZE, ACCESS_WRITE, PGM_RESUME);
	MOVES_VCPU(fault(PIECES + 50 * PAGE_SIZE, ACCESS_WRITE, PGM_NO_MEMORY), no_memory, 1);
	inject_disarm(MM_SITE_HANDY);
	inject_disarm(MM_SITE_FRAME);
	MOVES(fault(PIECES + 50 * PAGE_SIZE, ACCESS_WRITE, PGM_RESUME), handy_refills, 1);
}

static void large_pages(void)
{
	make_full();
	MOVES(collapse(), large_recheck, 1);
	assert_int_equal(pgm->common.counters.large_collapsed, 1);
	MOVES(watch(HANDLER_KIND_WRITE, FULL, FULL + 7), split, 1);
	MOVES(collapse(), large_refused, 2); /* once a round */
	assert_int_equal(pgm_handler_deregister(pgm, gpa(FULL)), OK);
	MOVES(collapse(), large_reused, 1);
}

static void overflow(void)
{
	uint64_t at = EMPTY + 10 * MIB;

	inject_arm(MM_SITE_LARGE, 0, 1, 0);
	for (unsigned i = 0; i < PAGES_PER_BLOCK; i++)
		put(at + i * PAGE_SIZE, i);
	inject_disarm(MM_SITE_LARGE);
	settle();
	for (unsigned i = 0; !pgm->common.counters.large_overflow; i++) {
		(void)pgm_collapse_step(pgm);
		fault(at, ACCESS_WRITE, PGM_RESUME);
		assert_true(i < 4000);
	}
}

static void handlers(void)
{
	MOVES(watch(HANDLER_KIND_ALL, PIECES + 60 * PAGE_SIZE, PIECES + 61 * PAGE_SIZE - 1), handler_inserts, 1);
	MOVES_VCPU(fault(PIECES + 60 * PAGE_SIZE, ACCESS_READ, PGM_EMULATE), handlers_all, 1);
	MOVES_VCPU(fault(PIECES + 60 * PAGE_SIZE, ACCESS_READ, PGM_EMULATE), cause[FAULT_HANDLER], 1);
	MOVES(get(PIECES + 60 * PAGE_SIZE), handler_hits, 1);
	watch(HANDLER_KIND_WRITE, PIECES + 62 * PAGE_SIZE, PIECES + 62 * PAGE_SIZE + 7);
	MOVES_VCPU(fault(PIECES + 62 * PAGE_SIZE, ACCESS_WRITE, PGM_EMULATE), handlers_write, 1);
	MOVES(assert_int_equal(pgm_handler_reset(pgm, gpa(PIECES + 62 * PAGE_SIZE)), OK), handler_resets, 1);
	for (unsigned i = 0; i < 8; i++)
		watch(HANDLER_KIND_MMIO, DEVICE + i * PAGE_SIZE, DEVICE + (i + 1) * PAGE_SIZE - 1);
	MOVES(get(DEVICE), handler_misses, 1);
	MOVES(fault(DEVICE, ACCESS_READ, PGM_EMULATE), misconfig_marks, 1);
	MOVES_VCPU(fault(DEVICE, ACCESS_READ, PGM_EMULATE), emulated, 1);
	MOVES_VCPU(pgm_count_misconfig(pgm), misconfig, 1);
	MOVES_VCPU(get(DEVICE + 9 * PAGE_SIZE), invalid_phys, 1);
	MOVES_VCPU(get(DEVICE + 9 * PAGE_SIZE), handlers_unhandled, 1);
	MOVES_VCPU(put(DEVICE + 9 * PAGE_SIZE, 1), invalid_phys, 1);
	MOVES(assert_int_equal(pgm_handler_deregister(pgm, gpa(DEVICE)), OK), handler_removals, 1);
	assert_true(pgm->common.counters.handler_max >= 10 && pgm->common.counters.handler_rebalances > 0);
}

static void used_up(void)
{
	handler_type type;
	enum status status = OK;

	assert_int_equal(pgm_handler_type_register(pgm, HANDLER_KIND_MMIO, 0, pass, "many", &type), OK);
	settle();
	for (unsigned i = 0; status == OK; i++)
		status = pgm_handler_register(pgm, type, gpa(BAR + GIB / 2 + 2 * i * PAGE_SIZE),
					      gpa(BAR + GIB / 2 + (2 * i + 1) * PAGE_SIZE - 1), NULL, "x");
	assert_int_equal(status, LIMIT);
	assert_int_equal(pgm->common.counters.handler_alloc_errors, 1);
}

static void physical_access(void)
{
	uint64_t word;

	MOVES(get(LARGE), reads, 1);
	MOVES(get(LARGE), read_bytes, 8);
	MOVES(put(LARGE, 1), writes, 1);
	MOVES(put(LARGE, 1), write_bytes, 8);
	MOVES(assert_int_equal(pgm_read_simple(pgm, gpa(LARGE), &word, 8), OK), simple_reads, 1);
	MOVES(assert_int_equal(pgm_read_simple(pgm, gpa(LARGE), &word, 8), OK), simple_read_bytes, 8);
	MOVES(assert_int_equal(pgm_write_simple(pgm, gpa(LARGE), &word, 4), OK), simple_writes, 1);
	MOVES(assert_int_equal(pgm_write_simple(pgm, gpa(LARGE), &word, 4), OK), simple_write_bytes, 4);
	MOVES(assert_int_equal(pgm_read_simple(pgm, gpa(DEVICE + 64 * MIB), &word, 8), BAD_ADDRESS), simple_read_bytes,
	      0);
}

static void roms(void)
{
	static uint8_t data[PAGE_SIZE] = { 1 };
	uint64_t word = 0;

	assert_int_equal(pgm_add_shadowed_rom(pgm, gpa(ROM_AT), 2 * PAGE_SIZE, "rom"), OK);
	assert_int_equal(pgm_rom_load(pgm, gpa(ROM_AT), data, sizeof(data)), OK);
	MOVES_VCPU(fault(ROM_AT, ACCESS_WRITE, PGM_EMULATE), cause[FAULT_UNHANDLED], 1);
	MOVES_VCPU(put(ROM_AT, word), rom_write_unhandled, 1);
	assert_int_equal(pgm_rom_protect(pgm, gpa(ROM_AT), PAGE_SIZE, ROM_READ_ROM_WRITE_RAM), OK);
	MOVES_VCPU(put(ROM_AT, word), rom_write_handled, 1);
}

static void logs(void)
{
	static uint64_t bitmap[64];
	struct mmio2 *m;

	assert_int_equal(pgm_dirty_start(pgm, DIRTY_WRITE_PROTECT), OK);
	MOVES_VCPU(fault(PIECES + PAGE_SIZE, ACCESS_WRITE, PGM_RESUME), cause[FAULT_MAKE_WRITABLE], 1);
	assert_int_equal(pgm_dirty_stop(pgm), OK);
	assert_int_equal(pgm_mmio2_register(pgm, 4 * PAGE_SIZE, "vram", &m), OK);
	MOVES(assert_int_equal(pgm_mmio2_query_dirty(pgm, m, bitmap, 64), OK), mmio2_queries, 1);
	MOVES(pgm_tables_drop(pgm), tables_dropped, 1);
}

static void one_pass(void)
{
	unsigned looked;

	while (pgm_fusion_step(pgm, true, &looked) == BUSY)
		;
}

static void move(uint64_t where)
{
	struct pgm_page_info info;

	pgm_page_describe(pgm, gpa(where), &info);
	assert_int_equal(pgm_leave_frame(pgm, gpa(where), info.frame), OK);
}

/* A large block with two equal pages; the rest of it is zeros. */
static void shares(void)
{
	assert_int_equal(pgm_fusion_start(RAM >> PAGE_SHIFT), OK);
	pgm->config.share_group = 1;
	one_pass(); /* the other blocks: one that another is equal to, at the second look */
	one_pass();
	put(SHARED, 1);
	put(SHARED + PAGE_SIZE, 1);
	MOVES(one_pass(), fusion_splits, 1);
	MOVES(put(SHARED, 2), fusion_broken, 1);
	MOVES(move(SHARED), moved, 1);
	assert_int_equal(pgm_module_add(pgm, 1, gpa(SHARED), 1), OK);
	MOVES(pgm_fusion_named_step(pgm, &(unsigned){ 0 }), fusion_regions, 1);
	pgm->config.share_group = 0;
}

/* Words of a struct that never moved. */
static unsigned still(const void *moved, size_t size, const char *name)
{
	unsigned count = 0;

	for (size_t i = 0; i < size / sizeof(uint64_t); i++) {
		if (((const uint64_t *)moved)[i])
			continue;
		print_message("%s: word %zu never moved\n", name, i);
		count++;
	}
	return count;
}

static void test_every_counter(void **state)
{
	struct pgm_config config = plain_config(RAM);

	config.misconfig_exit = true;
	pgm = make_pgm_of(&config);
	assert_int_equal(pgm_vcpu_open(pgm, &vcpu), OK);
	pgm_count_for(&vcpu);
	pages_and_faults();
	large_pages();
	overflow();
	physical_access();
	handlers();
	roms();
	logs();
	shares();
	used_up();
	settle();
	/* Counted elsewhere: 1 GiB leaves in test_pgm_huge, composed tables in test_pgm_shadow; errors and ticks by vm. */
	pgm_moved.huge_mapped = 1;
	memset(&pgm_moved.shadow_faults, 1, sizeof(pgm_moved) - offsetof(struct pgm_counters, shadow_faults));
	memset(vcpu_moved.error, 1, sizeof(vcpu_moved.error));
	memset(vcpu_moved.cause_ticks, 1, sizeof(vcpu_moved.cause_ticks));
	assert_int_equal(still(&pgm_moved, sizeof(pgm_moved), "pgm_counters") +
				 still(&vcpu_moved, offsetof(struct pgm_vcpu_counters, local), "pgm_vcpu_counters"),
			 0);
	assert_int_equal(vcpu.faults, vcpu.resumed + vcpu.emulated + vcpu.no_memory);
	pgm_count_for(NULL);
	end_pgm(pgm);
}

/* The numbers of what is there now. */
static void test_usage(void **state)
{
	static const char owner[] = "dma";
	struct pgm_usage u;
	page_record *r;
	hpa_t frame;

	pgm = make_pgm(RAM);
	make_full();
	watch(HANDLER_KIND_MMIO, DEVICE, DEVICE + 3 * PAGE_SIZE - 1);
	watch(HANDLER_KIND_WRITE, FULL + 9 * PAGE_SIZE, FULL + 9 * PAGE_SIZE + 7);
	assert_int_equal(pgm_pin(pgm, gpa(FULL), true, owner, &frame), OK);
	assert_int_equal(pgm_pin(pgm, gpa(FULL + PAGE_SIZE), false, owner, &frame), OK);
	assert_int_equal(pgm_pin(pgm, gpa(FULL + 2 * PAGE_SIZE), false, owner, &frame), OK);
	r = page_of(block_find(pgm, gpa(FULL)), gpa(FULL + 3 * PAGE_SIZE));
	page_set(r, PAGE_MONITORED, page_frame(*r));
	pgm_usage(pgm, &u);
	assert_int_equal(u.mmio_pages, 3);
	assert_int_equal(u.write_locked_pages, 1);
	assert_int_equal(u.read_locked_pages, 2);
	assert_int_equal(u.monitored_pages, 1);
	assert_int_equal(u.written_pages, 512);
	assert_int_equal(u.large_disabled, 1);
	assert_int_equal(u.private_pages, 512);
	page_set(r, PAGE_ALLOCATED, page_frame(*r));
	assert_int_equal(pgm_unpin(pgm, gpa(FULL), true, owner), OK);
	assert_int_equal(pgm_unpin(pgm, gpa(FULL + PAGE_SIZE), false, owner), OK);
	assert_int_equal(pgm_unpin(pgm, gpa(FULL + 2 * PAGE_SIZE), false, owner), OK);
	end_pgm(pgm);
}

int main(void)
{
	const struct CMUnitTest tests[] = { cmocka_unit_test(test_every_counter), cmocka_unit_test(test_usage) };

	pgm_world_start(96 * MIB);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
