/* SPDX-License-Identifier: Apache-2.0 */
// sources: mm/*.c lib/format.c
/*
 * mm against a reference model. Random sequences of operations over a few machines; the model knows who must own
 * which frame, and after each sequence all of memory is compared with it. Each sequence runs in a child process, so a
 * panic or a sanitizer's abort is a failure like any other. A failing sequence is shrunk (operations
 * are left out as long as it still fails) and printed with its seed:
 *   test_mm_model SEED runs that one sequence alone.
 */
#include <sys/wait.h>

#define WORLD_STRICT 17u
#include "test_mm_world.h"

#define WORLD (24 * MIB)
#define FRAMES (WORLD / PAGE_SIZE)
#define MACHINES 4u
#define THINGS 6000u
#define OPERATIONS 400u

enum operation {
	OPEN,
	CLOSE,
	FRAME,
	FIXED,
	MANY,
	TABLE,
	BLOCK,
	SPLIT,
	FREE,
	FREE_MANY,
	FREE_ALL,
	PREZERO,
	HEAP,
	HEAP_FREE,
	INJECT,
	RESIZE,
	CHECK,
	OPERATION_KINDS
};

static const char *const names[] = { "open",  "close",     "frame",  "fixed",     "many",     "table",
				     "block", "split",     "free",   "free many", "free all", "prezero",
				     "heap",  "heap free", "inject", "resize",    "check" };

struct step {
	uint8_t what, machine;
	uint32_t a, b;
};

/* One thing that a machine (or the heap, machine 0) has: a frame or a block. */
struct thing {
	uint8_t machine; /* 1 .. MACHINES; 0: unused */
	uint8_t kind;    /* account kind, or 9 for a block */
	uint64_t frame, page;
};

static struct thing things[THINGS];
static unsigned thing_count;
static struct account machines[MACHINES + 1];
static bool is_open[MACHINES + 1];
static struct {
	uint8_t *at;
	size_t size;
} objects[64];
static uint8_t owner_of[FRAMES]; /* the model: machine, or 100 for the heap's large objects */

#define must(condition)                                                                                                \
	do {                                                                                                           \
		if (!(condition)) {                                                                                    \
			fprintf(stderr, "%s:%d: %s fails\n", __FILE__, __LINE__, #condition);                          \
			_exit(3);                                                                                      \
		}                                                                                                      \
	} while (0)

static uint64_t held(unsigned machine, unsigned kind)
{
	uint64_t sum = 0;

	for (unsigned i = 0; i < thing_count; i++) {
		if (things[i].machine == machine &&
		    (things[i].kind == kind || (things[i].kind == 9 && kind == ACCOUNT_BASE)))
			sum += things[i].kind == 9 ? 512 : 1;
	}
	return sum;
}

static void gain(unsigned machine, unsigned kind, hpa_t frame, uint64_t page)
{
	unsigned pages = kind == 9 ? 512 : 1;

	must(is_aligned(frame.v, PAGE_SIZE * pages) && frame.v + pages * PAGE_SIZE <= WORLD);
	for (unsigned i = 0; i < pages; i++) {
		must(!owner_of[frame.v / PAGE_SIZE + i]);
		owner_of[frame.v / PAGE_SIZE + i] = (uint8_t)machine;
	}
	if (kind != 9)
		must(is_zero(frame, PAGE_SIZE));
	/* Secrets that nobody else may ever see. */
	memset(host_memory_at(frame), 0x80 + (int)machine, kind == 9 ? BLOCK_SIZE : PAGE_SIZE);
	things[thing_count++] = (struct thing){ (uint8_t)machine, (uint8_t)kind, frame.v, page };
}

static void lose(unsigned index, struct gather *gather)
{
	struct thing thing = things[index];
	unsigned pages = thing.kind == 9 ? 512 : 1;
	const uint8_t *bytes = host_memory_at(hpa(thing.frame));

	for (unsigned i = 0; i < pages; i++) {
		must(owner_of[thing.frame / PAGE_SIZE + i] == thing.machine);
		must(bytes[i * PAGE_SIZE] == 0x80 + thing.machine &&
		     bytes[i * PAGE_SIZE + 4095] == 0x80 + thing.machine);
		owner_of[thing.frame / PAGE_SIZE + i] = 0;
	}
	if (thing.kind == 9)
		gather_block(gather, hpa(thing.frame));
	else
		gather_frame(gather, hpa(thing.frame), thing.kind);
	things[index] = things[--thing_count];
}

/* The n-th thing of this machine, counted round; -1: it has none. */
static int pick(unsigned machine, unsigned n, int kind)
{
	for (unsigned i = 0; i < thing_count; i++) {
		unsigned at = (n + i) % thing_count;

		if (things[at].machine == machine && (kind < 0 || things[at].kind == kind))
			return (int)at;
	}
	return -1;
}

static void expect_failure(enum status status, unsigned machine, unsigned kind, uint64_t pages)
{
	struct account *account = &machines[machine];

	if (status == OVER_QUOTA)
		must(held(machine, kind) + pages > account->reserved[kind]);
	else
		must(status == NO_MEMORY);
}

static void do_open(const struct step *step)
{
	struct account_request request = { .pages = { step->a % 3000, step->b % 40, step->b % 50 } };
	char why[256];

	if (!is_open[step->machine])
		is_open[step->machine] = account_open(&machines[step->machine], &request, why, sizeof(why)) == OK;
}

static void free_some(unsigned machine, unsigned n, unsigned count)
{
	struct gather gather;

	gather_begin(&gather, NULL, &machines[machine]);
	for (; count--; n = n * 31 + 7) {
		int at = thing_count ? pick(machine, n % thing_count, -1) : -1;

		if (at < 0)
			break;
		lose((unsigned)at, &gather);
	}
	gather_finish(&gather);
}

static void do_close(const struct step *step)
{
	bool empty = pick(step->machine, 0, -1) < 0;

	must(account_close(&machines[step->machine]) == (empty ? OK : BAD_STATE));
	if (empty)
		is_open[step->machine] = false;
}

static void do_one(const struct step *step, enum account_kind kind)
{
	struct account *account = &machines[step->machine];
	uint64_t page = step->a % BIT(36);
	enum status status;
	hpa_t frame;

	if (thing_count == THINGS)
		return;
	status = kind == ACCOUNT_TABLE ? table_alloc(account, &frame)
				       : frame_alloc(account, kind, gpa(page << PAGE_SHIFT), &frame);
	if (status == OK)
		gain(step->machine, kind, frame, page);
	else
		expect_failure(status, step->machine, kind, 1);
}

static void do_many(const struct step *step)
{
	hpa_t frames[128];
	unsigned count = 1 + step->a % 128, got;
	enum status status;

	if (thing_count + count > THINGS)
		return;
	status = frame_alloc_many(&machines[step->machine], ACCOUNT_BASE, count, frames, &got);
	must((status == OK) == (got != 0) && got <= count);
	if (status != OK)
		expect_failure(status, step->machine, ACCOUNT_BASE, 1);
	for (unsigned i = 0; i < got; i++) {
		if (step->b & 1)
			frame_assign(frames[i], gpa((uint64_t)i << PAGE_SHIFT));
		gain(step->machine, ACCOUNT_BASE, frames[i], step->b & 1 ? i : PAGE_UNASSIGNED.v >> PAGE_SHIFT);
	}
}

static void do_block(const struct step *step)
{
	uint64_t page = (uint64_t)(step->a % 1000) * 512;
	enum status status;
	hpa_t block;
	bool zero;

	if (thing_count == THINGS)
		return;
	status = block_alloc(&machines[step->machine], gpa(page << PAGE_SHIFT), &block, &zero);
	if (status != OK) {
		expect_failure(status, step->machine, ACCOUNT_BASE, 512);
		return;
	}
	if (zero)
		must(is_zero(block, BLOCK_SIZE));
	gain(step->machine, 9, block, page);
}

static void do_split(const struct step *step)
{
	int at = pick(step->machine, step->a % (thing_count + 1), 9);
	struct thing block;

	if (at < 0 || thing_count + 512 > THINGS)
		return;
	block = things[at];
	if (block_split(&machines[step->machine], hpa(block.frame)) != OK)
		return;
	things[at] = things[--thing_count];
	for (unsigned i = 0; i < 512; i++)
		things[thing_count++] =
			(struct thing){ block.machine, ACCOUNT_BASE, block.frame + i * PAGE_SIZE, block.page + i };
}

static void do_heap(const struct step *step)
{
	unsigned at = step->a % ARRAY_SIZE(objects);
	size_t size = step->b % 10 ? step->b % 5000 : step->b % (2 * MIB);

	if (objects[at].at)
		return;
	objects[at].at = heap_alloc(size);
	objects[at].size = size;
	if (!objects[at].at)
		return;
	for (size_t i = 0; i < size; i++)
		must(!objects[at].at[i]);
	memset(objects[at].at, 0x77, size);
	if (size < PAGE_SIZE)
		return;
	for (size_t i = 0; i < size; i += PAGE_SIZE) {
		uint8_t *owner = &owner_of[(direct_address(objects[at].at).v + i) / PAGE_SIZE];

		must(!*owner);
		*owner = 100;
	}
}

static void do_heap_free(unsigned at)
{
	size_t size = objects[at].size;

	for (size_t i = 0; objects[at].at && i < size; i++)
		must(objects[at].at[i] == 0x77);
	for (size_t i = 0; objects[at].at && size >= PAGE_SIZE && i < size; i += PAGE_SIZE)
		owner_of[(direct_address(objects[at].at).v + i) / PAGE_SIZE] = 0;
	heap_free(objects[at].at, size);
	objects[at].at = NULL;
}

/* All of memory against the model. */
static void compare(void)
{
	uint64_t free = 0, private = 0, tables = 0;
	struct frame_totals totals;
	struct frame_info info;

	for (unsigned i = 0; i < thing_count; i++) {
		const struct thing *thing = &things[i];

		for (unsigned j = 0; j < (thing->kind == 9 ? 512u : 1u); j++) {
			frame_describe(hpa(thing->frame + j * PAGE_SIZE), &info);
			must(info.owner == machines[thing->machine].owner && info.large == (thing->kind == 9));
			must(info.state == (thing->kind == ACCOUNT_TABLE ? FRAME_TABLE : FRAME_PRIVATE));
			if (thing->kind != ACCOUNT_TABLE)
				must(info.page.v >> PAGE_SHIFT == thing->page + j);
		}
	}
	for (uint64_t i = 0; i < FRAMES; i++) {
		frame_describe(hpa(i * PAGE_SIZE), &info);
		free += info.state == FRAME_FREE;
		private += info.state == FRAME_PRIVATE;
		tables += info.state == FRAME_TABLE;
		must(!owner_of[i] == (info.state != FRAME_PRIVATE && info.state != FRAME_TABLE) ||
		     info.state == FRAME_KERNEL);
		if (info.state == FRAME_FREE && info.zero)
			must(is_zero(hpa(i * PAGE_SIZE), PAGE_SIZE));
	}
	frame_totals(&totals);
	must(free == totals.free_pages && private == totals.private_pages && tables == totals.table_pages);
	must(totals.record_bytes <= chunks.count * 64 + (totals.split_chunks + totals.kernel_chunks) * PAGE_SIZE);
	for (unsigned i = 1; i <= MACHINES; i++) {
		for (unsigned kind = 0; is_open[i] && kind < ACCOUNT_KINDS; kind++)
			must(machines[i].allocated[kind] == held(i, kind));
	}
	must(frame_check(print_finding, NULL) == 0);
}

static void run_step(const struct step *step)
{
	uint32_t injected = inject_armed;

	if (step->what != OPEN && step->what < PREZERO && !is_open[step->machine])
		return;
	switch (step->what) {
	case OPEN: do_open(step); break;
	case CLOSE: do_close(step); break;
	case FRAME: do_one(step, ACCOUNT_BASE); break;
	case FIXED: do_one(step, ACCOUNT_FIXED); break;
	case TABLE: do_one(step, ACCOUNT_TABLE); break;
	case MANY: do_many(step); break;
	case BLOCK: do_block(step); break;
	case SPLIT: do_split(step); break;
	case FREE: free_some(step->machine, step->a, 1); break;
	case FREE_MANY: free_some(step->machine, step->a, step->b % 300); break;
	case FREE_ALL: free_some(step->machine, step->a, THINGS); break;
	case PREZERO:
		for (unsigned i = 0; i < step->a % 1500 && frame_prezero_step(); i++)
			;
		break;
	case HEAP: do_heap(step); break;
	case HEAP_FREE: do_heap_free(step->a % ARRAY_SIZE(objects)); break;
	case INJECT:
		if (injected)
			inject_disarm(step->a % MM_SITES);
		else
			inject_arm(step->a % MM_SITES, 0, 2, step->b | 1);
		break;
	case RESIZE:
		if (is_open[step->machine] &&
		    account_resize(&machines[step->machine], step->a % 3, step->b % 3000) == OK)
			must(machines[step->machine].reserved[step->a % 3] == step->b % 3000);
		break;
	default:
		inject_armed = 0;
		compare();
		inject_armed = injected;
	}
}

/* All given back: memory is as it was. */
static void finish(uint64_t pages_free)
{
	inject_armed = 0;
	compare();
	for (unsigned i = 1; i <= MACHINES; i++) {
		if (!is_open[i])
			continue;
		free_some(i, 0, THINGS);
		must(account_close(&machines[i]) == OK);
		is_open[i] = false;
	}
	for (unsigned i = 0; i < ARRAY_SIZE(objects); i++)
		do_heap_free(i);
	compare();
	must(totals_now().split_chunks == 0 && totals_now().large_chunks == 0 && totals_now().reserved_pages == 0);
	/* One slab of each of the 15 sizes may stay, and so a kernel chunk or two. */
	must(totals_now().free_pages + 15 + 2 >= pages_free);
}

static uint64_t random_next(uint64_t *seed)
{
	*seed = *seed * 6364136223846793005u + 1442695040888963407u;
	return *seed >> 29;
}

static void make_steps(uint64_t seed, struct step *steps)
{
	/* Operations that matter come often. */
	static const uint8_t often[] = { OPEN, OPEN, OPEN,      FRAME,     FRAME, FRAME, FRAME,     FIXED,
					 MANY, MANY, MANY,      TABLE,     TABLE, BLOCK, BLOCK,     SPLIT,
					 FREE, FREE, FREE_MANY, FREE_MANY, HEAP,  HEAP,  HEAP_FREE, PREZERO };

	seed = seed * 0x9e3779b97f4a7c15u + 1;
	for (unsigned i = 0; i < OPERATIONS; i++) {
		uint64_t which = random_next(&seed) % (ARRAY_SIZE(often) + OPERATION_KINDS);

		steps[i].what = which < ARRAY_SIZE(often) ? often[which] : (uint8_t)(which - ARRAY_SIZE(often));
		steps[i].machine = 1 + random_next(&seed) % MACHINES;
		steps[i].a = (uint32_t)random_next(&seed);
		steps[i].b = (uint32_t)random_next(&seed);
	}
}

static bool fails(const struct step *steps, unsigned count, bool loud)
{
	int status;
	pid_t child;

	fflush(NULL);
	child = fork();
	if (!child) {
		uint64_t pages_free = totals_now().free_pages;

		if (!loud && !freopen("/dev/null", "w", stderr))
			_exit(4);
		for (unsigned i = 0; i < count; i++)
			run_step(&steps[i]);
		finish(pages_free);
		_exit(0);
	}
	must(waitpid(child, &status, 0) == child);
	return status != 0;
}

/* Leaves out ever smaller stretches while it still fails. */
static unsigned shrink(struct step *steps, unsigned count)
{
	static struct step fewer[OPERATIONS];

	for (unsigned stretch = count / 2; stretch; stretch /= 2) {
		for (unsigned at = 0; at + stretch <= count;) {
			memcpy(fewer, steps, at * sizeof(*steps));
			memcpy(fewer + at, steps + at + stretch, (count - at - stretch) * sizeof(*steps));
			if (fails(fewer, count - stretch, false)) {
				count -= stretch;
				memcpy(steps, fewer, count * sizeof(*steps));
			} else {
				at += stretch;
			}
		}
	}
	return count;
}

static unsigned first_seed = 1, seeds = 60;

static void test_sequences(void **state)
{
	static struct step steps[OPERATIONS];

	for (uint64_t seed = first_seed; seed < first_seed + seeds; seed++) {
		unsigned count = OPERATIONS;

		make_steps(seed, steps);
		if (!fails(steps, count, false))
			continue;
		count = shrink(steps, count);
		fprintf(stderr, "seed %llu fails; %u operations suffice:\n", (unsigned long long)seed, count);
		for (unsigned i = 0; i < count; i++)
			fprintf(stderr, "  %s machine %u, %u, %u\n", names[steps[i].what], steps[i].machine, steps[i].a,
				steps[i].b);
		fails(steps, count, true);
		fail_msg("seed %llu", (unsigned long long)seed);
	}
}

/* The model itself must be able to see a fault: an account that is charged one page too many. */
static void test_model_sees(void **state)
{
	static struct step steps[OPERATIONS];

	make_steps(1, steps);
	chunks.pages++;
	assert_true(fails(steps, OPERATIONS, false));
	chunks.pages--;
	assert_false(fails(steps, 0, true));
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = { cmocka_unit_test(test_model_sees), cmocka_unit_test(test_sequences) };

	if (argc > 1) {
		first_seed = (unsigned)atoi(argv[1]);
		seeds = argc > 2 ? (unsigned)atoi(argv[2]) : 1;
	}
	world_start(WORLD);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
