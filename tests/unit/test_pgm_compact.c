/* SPDX-License-Identifier: Apache-2.0 */
// sources: mm/*.c pgm/*.c pgm/*/*.c vm/machine/compact.c arch/x86_64/pt_format.c lib/format.c lib/status.c lib/hash.c
/*
 * Compaction and failing memory: what is moved and what stays, that no write is lost while it is, that chunks come back, and that a frame
 * that fails is nobody's ever after. And all that gives pages other frames at once, machines coming and going, against a model that knows
 * each page's content.
 */
#define WORLD_STRICT (getenv("QUIRE_LONG") ? 1u : 17u)
#include "common/share_world.h"

#include "vm/machine/internal.h"

static struct machine host[MACHINES];
static hpa_t failing = { UINT64_MAX };
static bool failing_readable;

struct machine *machine_get(unsigned index)
{
	return &host[index];
}
unsigned machine_count(void)
{
	return MACHINES;
}
void machines_worker_enter(void)
{
}
void machines_worker_leave(void)
{
}
uint64_t host_ns_to_tsc(uint64_t ns)
{
	return ns;
}
bool host_failing_memory(hpa_t *frame, bool *readable)
{
	bool any = !hpa_is_none(failing);

	*frame = failing;
	*readable = failing_readable;
	failing = HPA_NONE;
	return any;
}

static void let_run(unsigned count)
{
	for (unsigned i = 0; i < MACHINES; i++)
		host[i] = (struct machine){ .state = i < count ? MACHINE_RUNNING : MACHINE_OFF, .pgm = machine[i] };
}

static unsigned moved, freed;

static void compact(unsigned most)
{
	moved = freed = 0;
	while (!machines_compact_now(most, &moved, &freed))
		;
}

/* Chunks that are cut and of which something is used. */
static uint64_t cut(void)
{
	return totals_now().split_chunks - (chunks.guest_spare && chunks.guest_spare->free == PAGES_PER_BLOCK);
}

/* Content i + 1 in each page; all but each `keep`-th are given back. */
static void scatter(struct pgm *pgm, unsigned pages, unsigned keep)
{
	for (uint32_t i = 0; i < pages; i++)
		put(pgm, AT + i * PAGE_SIZE, i + 1);
	for (uint32_t i = 0; i < pages; i++)
		if (i % keep)
			assert_int_equal(pgm_balloon(pgm, true, &(uint32_t){ (AT >> PAGE_SHIFT) + i }, 1), OK);
}

static bool scattered(struct pgm *pgm, unsigned pages, unsigned keep)
{
	bool right = true;

	for (unsigned i = 0; i < pages && right; i++)
		right = holds(pgm, AT + i * PAGE_SIZE, i % keep ? 0 : i + 1);
	return right;
}

static void test_chunks_come_back(void **state)
{
	uint64_t before;

	start(2, 7, false);
	let_run(2);
	for (unsigned m = 0; m < 2; m++)
		scatter(machine[m], 4 * PAGES_PER_BLOCK, 8);
	before = cut();
	assert_true(before >= 8);
	for (unsigned i = 0; i < 4 * PAGES_PER_BLOCK; i += 8)
		assert_int_equal(pgm_fault(machine[0], gpa(AT + i * PAGE_SIZE), ACCESS_WRITE), PGM_RESUME);
	flushes = 0;
	compact(PAGES_PER_BLOCK / 2);
	assert_true(flushes && freed >= 6);
	assert_int_equal(cut(), before - freed);
	assert_in_range(moved, 6 * 64, 2 * 8 * 64 + 2 * HANDY_SIZE); /* hardly any twice */
	for (unsigned m = 0; m < 2; m++)
		assert_true(scattered(machine[m], 4 * PAGES_PER_BLOCK, 8));
	check_silent(machine[0]);
	/* And now there is nothing more to be won: no page moves to and fro. */
	compact(PAGES_PER_BLOCK / 2);
	assert_int_equal(freed + moved, 0);
	end(2);
}

static void idle(void)
{
	compact_soon();
	for (unsigned quiet = 0; quiet < 1000000; quiet++)
		if (compact_is_due()) {
			compact_idle_step();
			quiet = 0;
		}
}

/* By itself, while CPUs idle; a machine that has ended is none of its business. */
static void test_idle(void **state)
{
	uint64_t before;

	start(2, 7, false);
	let_run(1);
	for (unsigned m = 0; m < 2; m++)
		scatter(machine[m], 4 * PAGES_PER_BLOCK, 8);
	before = cut();
	idle();
	compact_soon();
	assert_true(compact_is_due());
	assert_int_equal(machine[1]->common.counters.moved, 0);
	assert_in_range(before - cut(), 3, 4);
	end(2);
}

/* Half-used chunks are left alone while there are others; without any, no table could be made, whatever lies free in them. */
static void test_idle_when_chunks_are_few(void **state)
{
	hpa_t chunk[32];
	unsigned got = 0;
	uint64_t before;
	bool zero;

	start(2, 7, false);
	let_run(1);
	scatter(machine[0], 4 * PAGES_PER_BLOCK, 2);
	idle();
	before = cut();
	assert_true(before >= 4);
	assert_int_equal(account_adjust(pgm_account(machine[1]), ACCOUNT_BASE, 64 * MIB / PAGE_SIZE), OK);
	while (block_alloc(pgm_account(machine[1]), gpa(0), &chunk[got], &zero) == OK)
		assert_true(++got < ARRAY_SIZE(chunk));
	idle();
	assert_in_range(before - cut(), 1, 2);
	assert_true(scattered(machine[0], 4 * PAGES_PER_BLOCK, 2));
	GATHER(gather, NULL, pgm_account(machine[1]));
	while (got)
		gather_block(&gather, chunk[--got]);
	gather_finish(&gather);
	end(2);
}

static enum status answer(void *user, struct pgm_access *access)
{
	return OK;
}

static void test_nowhere_to_go(void **state)
{
	start(1, 7, false);
	let_run(1);
	for (unsigned i = 0; i < 20; i++)
		put(machine[0], AT + i * PAGE_SIZE, i + 1);
	compact(PAGES_PER_BLOCK - 1);
	assert_int_equal(moved + freed, 0);
	end(1);
}

/* A chunk of which one page can't leave is left alone as a whole. */
static void test_left_alone(void **state)
{
	static const char owner[] = "test";
	handler_type watch;
	hpa_t with = HPA_NONE, frame;

	start(1, 7, false);
	let_run(1);
	scatter(machine[0], 4 * PAGES_PER_BLOCK, 64);
	compact(0);
	assert_int_equal(moved + freed, 0);
	assert_int_equal(pgm_handler_type_register(machine[0], HANDLER_KIND_WRITE, 0, answer, "w", &watch), OK);
	for (unsigned i = 0; i < 4; i++)
		assert_int_equal(pgm_pin(machine[0], gpa(AT + i * BLOCK_SIZE), false, owner, &frame), OK);
	compact(PAGES_PER_BLOCK / 2);
	assert_int_equal(machine[0]->common.counters.moved, 0);
	for (unsigned i = 0; i < 4; i++) {
		uint64_t at = AT + i * BLOCK_SIZE;

		assert_int_equal(pgm_unpin(machine[0], gpa(at), false, owner), OK);
		assert_int_equal(pgm_handler_register(machine[0], watch, gpa(at), gpa(at + 7), NULL, "w"), OK);
	}
	compact(PAGES_PER_BLOCK / 2);
	assert_int_equal(machine[0]->common.counters.moved, 0);
	assert_true(scattered(machine[0], 4 * PAGES_PER_BLOCK, 64));
	for (unsigned i = 0; i < 4; i++)
		assert_int_equal(pgm_handler_deregister(machine[0], gpa(AT + i * BLOCK_SIZE)), OK);
	/* A shared frame's chunk is left alone, too. */
	assert_int_equal(page_share(machine[0], gpa(AT), &with), OK);
	compact(PAGES_PER_BLOCK / 2);
	assert_true(freed >= 2);
	assert_int_equal(frame_at(machine[0], AT).v, with.v);
	assert_true(scattered(machine[0], 4 * PAGES_PER_BLOCK, 64));
	end(1);
}

/* The guest writes through what it remembers just before the flush; or while another CPU's is still owed. */
static void test_write_before_the_flush(void **state)
{
	struct gather owed;
	uint8_t byte;

	for (unsigned pending = 0; pending < 2; pending++) {
		hpa_t before;

		start(1, 7, false);
		put(machine[0], AT, 9);
		if (!pending)
			assert_int_equal(pgm_fault(machine[0], gpa(AT), ACCESS_WRITE), PGM_RESUME);
		gather_begin(&owed, &machine[0]->flush, &machine[0]->account);
		if (pending)
			gather_flush(&owed);
		before = frame_at(machine[0], AT);
		late_bytes = host_memory_at(before);
		at_flush = write_late;
		assert_int_equal(pgm_leave_frame(machine[0], gpa(AT), before), OK);
		assert_null(late_bytes);
		at_flush = NULL;
		gather_finish(&owed);
		assert_int_not_equal(frame_at(machine[0], AT).v, before.v);
		assert_int_equal(granted(machine[0], AT, NULL), 0);
		assert_int_equal(pgm_read(machine[0], gpa(AT + 100), &byte, 1, ORIGIN_DEVICE, NULL), OK);
		assert_int_equal(byte, 0x5a);
		assert_int_equal(pgm_leave_frame(machine[0], gpa(AT), before), CONFLICT);
		assert_int_equal(pgm_leave_frame(machine[0], gpa(64 * GIB), before), CONFLICT);
		end(1);
	}
}

/* Frames of one machine in another's chunk, since no chunk was to be had: when that one ends, they leave, and it comes back whole. */
static void test_departed_machine(void **state)
{
	uint64_t before;

	start(2, 7, false);
	let_run(2);
	put(machine[0], AT, 1);
	put(machine[1], AT, 1);
	handy_refill(machine[1]);
	inject_arm(MM_SITE_CHUNK, 0, 1, 0); /* no fresh chunk */
	for (unsigned i = 0; i < 480; i++)
		put(machine[1], AT + (1 + i) * PAGE_SIZE, i + 2);
	inject_disarm(MM_SITE_CHUNK);
	assert_true(mm_counters.frames_mixed > 0);
	for (unsigned i = 0; i < 200; i++)
		assert_int_equal(pgm_balloon(machine[1], true, &(uint32_t){ (AT >> PAGE_SHIFT) + 1 + i }, 1), OK);
	host[0].state = MACHINE_OFF; /* while that one's can't be moved, none are */
	compact(PAGES_PER_BLOCK - 1);
	assert_int_equal(moved, 0);
	end_pgm(machine[0]);
	host[0].pgm = NULL;
	before = cut();
	assert_int_equal(before, 2);
	compact(PAGES_PER_BLOCK - 1);
	assert_int_equal(cut(), 1);
	for (unsigned i = 200; i < 480; i++)
		assert_true(holds(machine[1], AT + (1 + i) * PAGE_SIZE, i + 2));
	machine[0] = machine[1];
	end(1);
}

/* ---- failing memory ---- */
static void fail_at(hpa_t frame, bool readable)
{
	failing = frame;
	failing_readable = readable;
	compact_idle_step();
	assert_true(hpa_is_none(failing));
}

static enum frame_state frame_state_of(hpa_t frame)
{
	struct frame_info info;

	frame_describe(frame, &info);
	return info.state;
}

static hpa_t free_chunk(void)
{
	uint64_t i = chunks.count - 1;

	while (chunks.table[i].kind != CHUNK_FREE)
		i--;
	return chunk_frame(&chunks.table[i], 0);
}

static void test_failing_memory(void **state)
{
	hpa_t page, lost, in_large, large, free_one;
	uint64_t retired = 0;

	start(1, 7, true);
	let_run(1);
	inject_arm(MM_SITE_LARGE, 0, 1, 0);
	for (unsigned i = 0; i < 8; i++)
		put(machine[0], AT + i * PAGE_SIZE, i + 1);
	inject_disarm(MM_SITE_LARGE);
	for (unsigned i = 0; i < 2; i++)
		put(machine[0], AT + (i + 1) * BLOCK_SIZE, 77);
	page = frame_at(machine[0], AT);
	lost = frame_at(machine[0], AT + PAGE_SIZE);
	in_large = frame_at(machine[0], AT + BLOCK_SIZE);
	large = frame_at(machine[0], AT + 2 * BLOCK_SIZE);
	/* What can still be read moves, and its frame is out of use at once; even out of a large page. */
	fail_at(page, true);
	fail_at(in_large, true);
	assert_int_equal(frame_state_of(page), FRAME_RETIRED);
	assert_int_equal(frame_state_of(in_large), FRAME_RETIRED);
	assert_true(holds(machine[0], AT, 1) && holds(machine[0], AT + BLOCK_SIZE, 77));
	assert_int_equal(totals_now().retired_pages, 2);
	/* What can't isn't read. */
	fail_at(lost, false);
	fail_at(large, false);
	assert_int_equal(frame_at(machine[0], AT + PAGE_SIZE).v, lost.v);
	assert_int_equal(frame_state_of(lost), FRAME_PRIVATE);
	fail_at(lost, false);
	/* A free one; and one in no memory of ours. */
	free_one = hpa(free_chunk().v + 5 * PAGE_SIZE);
	assert_int_equal(frame_state_of(free_one), FRAME_FREE);
	fail_at(free_one, true);
	assert_int_equal(frame_state_of(free_one), FRAME_RETIRED);
	fail_at(hpa(64 * GIB), true);
	check_silent(machine[0]);
	end(1);
	for (unsigned i = 0; i < 4; i++)
		assert_int_equal(frame_state_of((hpa_t[]){ page, lost, in_large, large }[i]), FRAME_RETIRED);
	/* Nobody ever gets them: all there is is taken. */
	retired = totals_now().retired_pages;
	assert_int_equal(retired, 3 + 2 * PAGES_PER_BLOCK);
	machine[0] = member(7, false);
	for (uint64_t at = MIB, got = 0; at < RAM; at += PAGE_SIZE, got++) {
		hpa_t frame;

		put(machine[0], at, 1);
		frame = frame_at(machine[0], at);
		assert_true(frame.v != page.v && frame.v != lost.v && frame.v != in_large.v &&
			    frame.v >> BLOCK_SHIFT != large.v >> BLOCK_SHIFT &&
			    frame.v >> BLOCK_SHIFT != free_one.v >> BLOCK_SHIFT);
	}
	end(1);
	assert_int_equal(totals_now().retired_pages, retired);
	/* There is room for so many: then they stay in use. */
	page = direct_address(heap_alloc(64 * KIB));
	for (unsigned i = 0; i < 100; i++)
		assert_int_equal(frame_retire(hpa(page.v + i % 70 * PAGE_SIZE)), i < 64 - 5 ? OK : i < 70 ? LIMIT : OK);
}

/* ---- attack 4: each step fails once, and each time on ---- */
static void test_attack4_failures(void **state)
{
	static const enum mm_site sites[] = { MM_SITE_CHUNK, MM_SITE_FRAME, MM_SITE_TABLE,
					      MM_SITE_LARGE, MM_SITE_HANDY, MM_SITE_FLUSH };
	unsigned looked;

	for (unsigned s = 0; s < ARRAY_SIZE(sites); s++)
		for (unsigned after = 0; after < 12; after += 1 + after / 2) {
			enum status status = OK;

			start(2, 7, false);
			let_run(2);
			for (unsigned m = 0; m < 2; m++)
				scatter(machine[m], 2 * PAGES_PER_BLOCK, 16);
			inject_arm(sites[s], after, after & 1, 0);
			compact(PAGES_PER_BLOCK / 2);
			for (unsigned m = 0; m < 2; m++)
				while (pgm_fusion_step(machine[m], true, &looked) == BUSY)
					;
			for (uint32_t i = 0; i < 32 && status == OK; i++)
				status = pgm_balloon(machine[0], false, &(uint32_t){ (AT >> PAGE_SHIFT) + 16 * i + 1 },
						     1);
			assert_true(status == OK || status == NO_MEMORY);
			inject_disarm(sites[s]);
			for (unsigned m = 0; m < 2; m++)
				assert_true(scattered(machine[m], 2 * PAGES_PER_BLOCK, 16));
			compact(PAGES_PER_BLOCK / 2);
			end(2);
		}
}

/* ---- the model ---- */
#define PAGES (3 * PAGES_PER_BLOCK)
#define STEPS 20000u

static uint64_t model[MACHINES][PAGES];
static unsigned lives;
static uint64_t sums[3]; /* of what was shared, moved and ballooned by machines that have ended */

static void begin_life(unsigned m, bool large)
{
	machine[m] = member(lives % 8 ? 7 : 0, large);
	lives++;
	memset(model[m], 0, sizeof(model[m]));
	host[m] = (struct machine){ .state = MACHINE_RUNNING, .pgm = machine[m] };
}

static void end_life(unsigned m)
{
	sums[0] += machine[m]->common.counters.fusion_shared;
	sums[1] += machine[m]->common.counters.moved;
	sums[2] += machine[m]->common.counters.balloon_in;
	host[m].state = MACHINE_ENDED;
	pgm_fusion_leave(machine[m]);
	end_pgm(machine[m]);
	host[m].pgm = NULL;
}

static void balloon(unsigned m, unsigned page, uint64_t n)
{
	unsigned count = n & 1 ? 1 : 60;

	for (unsigned i = page; i < PAGES && i < page + count; i++)
		if (pgm_balloon(machine[m], n & 2, &(uint32_t){ (uint32_t)((AT >> PAGE_SHIFT) + i) }, 1) == OK)
			model[m][i] = 0;
}

static void act(uint64_t *seed)
{
	unsigned m = (unsigned)(random_of(seed) % MACHINES), page = (unsigned)(random_of(seed) % PAGES), looked = 0;
	uint64_t where = AT + page * PAGE_SIZE, n = random_of(seed) % 6;
	unsigned access = random_of(seed) & 1 ? ACCESS_WRITE : ACCESS_READ;

	if (!host[m].pgm)
		begin_life(m, n & 1);
	switch (random_of(seed) % 64) {
	case 0:
		if (n == 0)
			while (pgm_reset_step(machine[m], true) == BUSY)
				;
		if (n == 1) {
			end_life(m);
			begin_life(m, m == 2);
		}
		if (n < 2)
			memset(model[m], 0, sizeof(model[m]));
		break;
	case 1 ... 4:
		for (unsigned i = 0; i < 30; i++)
			(void)pgm_idle_step(machine[m]);
		break;
	case 5 ... 16: assert_int_equal(pgm_fault(machine[m], gpa(where), access), PGM_RESUME); break;
	case 17 ... 26:
		put(machine[m], where, n);
		model[m][page] = n;
		break;
	case 27 ... 32: balloon(m, page, n); break;
	case 33: {
		uint64_t gone = pgm_discard(machine[m], gpa(where), 40 * PAGE_SIZE);

		for (unsigned i = page; i < PAGES && i < page + 40 && gone; i++)
			model[m][i] = 0;
		break;
	}
	case 34: /* a whole block */
		for (unsigned i = page & ~(PAGES_PER_BLOCK - 1), last = i | (PAGES_PER_BLOCK - 1); i <= last; i++) {
			model[m][i] = i % 3 * n;
			put(machine[m], AT + i * PAGE_SIZE, model[m][i]);
		}
		break;
	case 35: compact(PAGES_PER_BLOCK - 1); break;
	case 36: (void)!pgm_leave_frame(machine[m], gpa(where), frame_at(machine[m], where)); break;
	case 37 ... 50: (void)machines_compact_now(PAGES_PER_BLOCK / 2, &moved, &freed); break;
	default: (void)!pgm_fusion_step(machine[m], n & 1, &looked);
	}
}

static void compare(void)
{
	for (unsigned m = 0; m < MACHINES; m++) {
		for (unsigned i = 0; i < PAGES; i++)
			assert_true(holds(machine[m], AT + i * PAGE_SIZE, model[m][i]));
		assert_int_equal(pgm_check(machine[m], print_finding, NULL), 0);
	}
	assert_int_equal(frame_check(print_finding, NULL), 0);
}

static void test_at_random(void **state)
{
	uint64_t seed = 815, whole = mm_counters.chunks_emptied;

	assert_int_equal(pgm_fusion_start(64 * MIB / PAGE_SIZE), OK);
	for (unsigned m = 0; m < MACHINES; m++)
		begin_life(m, m == 2);
	for (unsigned i = 0; i < STEPS; i++) {
		act(&seed);
		if (i % 500 == 0)
			compare();
	}
	compare();
	for (unsigned m = 0; m < MACHINES; m++)
		end_life(m);
	print_message("shared %llu, moved %llu, ballooned %llu, chunks emptied %llu\n", (unsigned long long)sums[0],
		      (unsigned long long)sums[1], (unsigned long long)sums[2],
		      (unsigned long long)(mm_counters.chunks_emptied - whole));
	assert_true(sums[0] > 1000 && sums[1] > 1000 && sums[2] > 1000 && mm_counters.chunks_emptied - whole > 20);
	assert_int_equal(totals_now().shared_pages + totals_now().private_pages, 0);
}

/* Chunks that say that they are a machine's which isn't there. */
static unsigned left_behind(void)
{
	unsigned count = 0;

	for (uint64_t i = 0; i < chunks.count; i++)
		count += (chunks.table[i].kind == CHUNK_SPLIT || chunks.table[i].kind == CHUNK_LARGE) &&
			 chunks.table[i].owner && !accounts[chunks.table[i].owner];
	return count;
}

static void test_thousand_lives(void **state)
{
	uint64_t seed = 1111, before;

	chunk_drop_spares();
	before = totals_now().free_chunks;
	for (lives = 0; lives < 1000;) {
		unsigned m = (unsigned)(random_of(&seed) % MACHINES);

		for (unsigned i = random_of(&seed) % 32; i; i--)
			act(&seed);
		if (!host[m].pgm)
			continue;
		end_life(m);
		assert_int_equal(left_behind(), 0);
	}
	for (unsigned m = 0; m < MACHINES; m++)
		if (host[m].pgm)
			end_life(m);
	assert_int_equal(left_behind(), 0);
	print_message("%llu chunks free before, %llu after\n", (unsigned long long)before,
		      (unsigned long long)totals_now().free_chunks);
	assert_true(totals_now().free_chunks >= before - before / 100);
	assert_int_equal(totals_now().shared_pages + totals_now().private_pages, 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_chunks_come_back),
		cmocka_unit_test(test_idle),
		cmocka_unit_test(test_idle_when_chunks_are_few),
		cmocka_unit_test(test_left_alone),
		cmocka_unit_test(test_nowhere_to_go),
		cmocka_unit_test(test_write_before_the_flush),
		cmocka_unit_test(test_departed_machine),
		cmocka_unit_test(test_attack4_failures),
		cmocka_unit_test(test_at_random),
		cmocka_unit_test(test_thousand_lives),
		cmocka_unit_test(test_failing_memory),
	};

	pgm_world_start(64 * MIB);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
