/* SPDX-License-Identifier: Apache-2.0 */
// sources: mm/*.c pgm/*.c pgm/*/*.c lib/format.c lib/hash.c lib/status.c arch/x86_64/pt_format.c
/*
 * Random operations on handlers against a model that is nothing but a list of byte ranges: after each, the status,
 * the marks, what the tables grant, which handler was given which bytes, and the memory itself must be what the
 * model says. Eight pages of RAM around the border of two blocks, and four of MMIO.
 */
#include "test_pgm_handler_world.h"

#define RAM_PAGES 8u
#define FIRST_PAGE (RAM_BASE + BLOCK_SIZE - RAM_PAGES / 2 * PAGE_SIZE)
#define RAM_BYTES (RAM_PAGES * PAGE_SIZE)
#define MMIO_PAGES 4u
#define SLOTS 12u
#define STEPS 2000u
#define SEEDS 8u

struct entry {
	bool used, declines;
	enum handler_kind kind;
	bool software;
	uint64_t first, last;
	bool off[RAM_PAGES]; /* MMIO: aliased */
	uint64_t bytes;      /* given to it, by the model */
	struct note note;    /* given to it in fact */
};

static struct entry entries[SLOTS];
static uint8_t memory[RAM_BYTES];
static char history[STEPS][96];
static unsigned steps;
static uint64_t seed, seed_of_run;
static struct pgm *pgm;
static handler_type types[3][2];

static void fail_with_history(const char *what, int line)
{
	fprintf(stderr, "line %d: %s\nseed %#llx, steps:\n", line, what, (unsigned long long)seed_of_run);
	for (unsigned i = 0; i < steps; i++)
		fprintf(stderr, "  %s\n", history[i]);
	abort();
}

#define must(condition)                                                                                                \
	do {                                                                                                           \
		if (!(condition))                                                                                      \
			fail_with_history(#condition, __LINE__);                                                       \
	} while (0)

#define step(...) ((void)snprintf(history[steps], sizeof(history[0]), __VA_ARGS__))

static uint64_t below(uint64_t n)
{
	return random_of(&seed) % n;
}

static uint64_t area_of(enum handler_kind kind)
{
	return kind == HANDLER_KIND_MMIO ? MMIO_BASE : FIRST_PAGE;
}

static bool is_mmio(const struct entry *e)
{
	return e->kind == HANDLER_KIND_MMIO;
}

static unsigned page_index(const struct entry *e, uint64_t where)
{
	return (unsigned)((where - area_of(e->kind)) / PAGE_SIZE);
}

static struct entry *at_start(uint64_t first)
{
	for (unsigned i = 0; i < SLOTS; i++)
		if (entries[i].used && entries[i].first == first)
			return &entries[i];
	return NULL;
}

static bool overlaps(uint64_t first, uint64_t last, const struct entry *but)
{
	for (unsigned i = 0; i < SLOTS; i++)
		if (entries[i].used && &entries[i] != but && entries[i].first <= last && entries[i].last >= first)
			return true;
	return false;
}

static void random_range(enum handler_kind kind, bool pages, uint64_t *first, uint64_t *last)
{
	uint64_t total = kind == HANDLER_KIND_MMIO ? MMIO_PAGES : RAM_PAGES;

	if (pages) {
		*first = area_of(kind) + below(total) * PAGE_SIZE;
		*last = *first + (1 + below(3)) * PAGE_SIZE - 1;
	} else {
		*first = area_of(kind) + below(total * PAGE_SIZE);
		*last = *first + (below(2) ? below(64) : below(3 * PAGE_SIZE));
	}
	if (*last >= area_of(kind) + total * PAGE_SIZE)
		*last = area_of(kind) + total * PAGE_SIZE - 1;
}

static void do_register(void)
{
	enum handler_kind kind = (enum handler_kind)below(3);
	bool software = kind != HANDLER_KIND_MMIO && !below(6);
	struct entry *e = NULL;
	uint64_t first, last;
	enum status status;

	for (unsigned i = 0; i < SLOTS && !e; i++)
		e = entries[i].used ? NULL : &entries[i];
	if (!e)
		return;
	random_range(kind, kind != HANDLER_KIND_WRITE || software || !below(3), &first, &last);
	*e = (struct entry){ .kind = kind, .software = software, .first = first, .last = last, .declines = below(2) };
	e->note = (struct note){ .answer = e->declines ? NOT_FOUND : OK, .give = 0x6d6d6d6d6d6d6d6d };
	step("register kind %d software %d %llx..%llx", kind, software, (unsigned long long)first,
	     (unsigned long long)last);
	status = pgm_handler_register(pgm, types[kind][software], gpa(first), gpa(last), &e->note, "model");
	must(status == (overlaps(first, last, NULL) ? CONFLICT : OK));
	e->used = status == OK;
}

static struct entry *any(void)
{
	struct entry *e = &entries[below(SLOTS)];

	return e->used ? e : NULL;
}

static void do_deregister(struct entry *e)
{
	step("deregister %llx", (unsigned long long)e->first);
	must(pgm_handler_deregister(pgm, gpa(e->first)) == OK);
	must(pgm_handler_deregister(pgm, gpa(e->first)) == NOT_FOUND);
	e->used = false;
}

static void do_reset(struct entry *e)
{
	step("reset %llx", (unsigned long long)e->first);
	must(pgm_handler_reset(pgm, gpa(e->first)) == OK);
	memset(e->off, 0, sizeof(e->off));
}

static void do_off(struct entry *e)
{
	uint64_t page = align_down(e->first + below(e->last - e->first + 1), PAGE_SIZE);

	step("off %llx page %llx", (unsigned long long)e->first, (unsigned long long)page);
	if (is_mmio(e)) {
		must(pgm_handler_page_off(pgm, gpa(e->first), gpa(page)) == NOT_SUPPORTED);
		must(pgm_handler_alias_mmio2(pgm, gpa(e->first), gpa(page), gpa(MMIO2_BASE)) == OK);
	} else {
		must(pgm_handler_page_off(pgm, gpa(e->first), gpa(page)) == OK);
		must(pgm_handler_alias_mmio2(pgm, gpa(e->first), gpa(page), gpa(MMIO2_BASE)) == NOT_SUPPORTED);
	}
	e->off[page_index(e, page)] = true;
}

static void do_split(struct entry *e)
{
	uint64_t at = e->first + below(e->last - e->first + 2);
	struct entry *right = NULL;
	enum status status;

	if (below(2))
		at = align_down(at, PAGE_SIZE);
	for (unsigned i = 0; i < SLOTS && !right; i++)
		right = entries[i].used ? NULL : &entries[i];
	if (!right)
		return;
	step("split %llx at %llx", (unsigned long long)e->first, (unsigned long long)at);
	status = pgm_handler_split(pgm, gpa(e->first), gpa(at));
	if (at <= e->first || at > e->last ||
	    (!is_aligned(at, PAGE_SIZE) && (is_mmio(e) || e->software || e->kind == HANDLER_KIND_ALL))) {
		must(status == BAD_VALUE);
		return;
	}
	must(status == OK);
	if (!is_aligned(at, PAGE_SIZE))
		e->off[page_index(e, at)] = false;
	*right = *e;
	right->first = at;
	right->bytes = 0;
	right->note.bytes = 0;
	e->last = at - 1;
	for (unsigned i = 0; i < RAM_PAGES; i++) {
		right->off[i] = right->off[i] && i >= page_index(e, at);
		e->off[i] = e->off[i] && i <= page_index(e, e->last);
	}
	must(pgm_handler_change_user(pgm, gpa(at), &right->note) == OK);
}

static void do_join(struct entry *e)
{
	struct entry *next = at_start(e->last + 1);
	unsigned seam;
	bool both;

	if (!next || next->kind != e->kind || next->software != e->software || next->declines != e->declines)
		return;
	step("join %llx and %llx", (unsigned long long)e->first, (unsigned long long)next->first);
	must(pgm_handler_join(pgm, gpa(e->first), gpa(next->first)) == CONFLICT);
	must(pgm_handler_change_user(pgm, gpa(next->first), &e->note) == OK);
	must(pgm_handler_join(pgm, gpa(e->first), gpa(next->first)) == OK);
	seam = page_index(e, next->first);
	both = e->off[seam] && next->off[seam];
	for (unsigned i = 0; i < RAM_PAGES; i++)
		e->off[i] |= next->off[i];
	if (!is_aligned(next->first, PAGE_SIZE))
		e->off[seam] = both;
	e->last = next->last;
	next->used = false;
}

static void do_modify(struct entry *e)
{
	uint64_t first, last;
	enum status status;

	random_range(e->kind, e->kind != HANDLER_KIND_WRITE || e->software, &first, &last);
	step("modify %llx to %llx..%llx", (unsigned long long)e->first, (unsigned long long)first,
	     (unsigned long long)last);
	status = pgm_handler_modify(pgm, gpa(e->first), gpa(first), gpa(last));
	must(status == (overlaps(first, last, e) ? CONFLICT : OK));
	if (status != OK)
		return;
	e->first = first;
	e->last = last;
	memset(e->off, 0, sizeof(e->off));
}

/* Who has this byte, if it wants such an access. */
static struct entry *taker(uint64_t where, bool write)
{
	for (unsigned i = 0; i < SLOTS; i++) {
		struct entry *e = &entries[i];

		if (e->used && where >= e->first && where <= e->last)
			return !e->off[page_index(e, where)] && (write || e->kind != HANDLER_KIND_WRITE) ? e : NULL;
	}
	return NULL;
}

static void do_access(void)
{
	uint64_t offset = below(RAM_BYTES - 300), length = 1 + (below(4) ? below(16) : below(300));
	uint8_t bytes[300], want[300];
	bool write = below(2);

	step("%s %llx + %llu", write ? "write" : "read", (unsigned long long)(FIRST_PAGE + offset),
	     (unsigned long long)length);
	for (unsigned i = 0; i < length; i++) {
		struct entry *e = taker(FIRST_PAGE + offset + i, write);

		bytes[i] = (uint8_t)below(256);
		if (e)
			e->bytes++;
		if (write && (!e || e->declines))
			memory[offset + i] = bytes[i];
		want[i] = !write && e && !e->declines ? 0x6d : memory[offset + i];
	}
	if (write) {
		must(pgm_write(pgm, gpa(FIRST_PAGE + offset), bytes, length, ORIGIN_DEVICE, NULL) == OK);
	} else {
		must(pgm_read(pgm, gpa(FIRST_PAGE + offset), bytes, length, ORIGIN_DEVICE, NULL) == OK);
		must(memcmp(bytes, want, length) == 0);
	}
	for (unsigned i = 0; i < SLOTS; i++)
		must(!entries[i].used || entries[i].bytes == entries[i].note.bytes);
}

/* What the model says of a page: its mark, and whether the hardware sees it. */
static enum page_handler model_mark(uint64_t page, bool *software)
{
	enum page_handler mark = HANDLER_NONE;

	*software = false;
	for (unsigned i = 0; i < SLOTS; i++) {
		struct entry *e = &entries[i];
		enum page_handler one;

		if (!e->used || e->first > page + PAGE_SIZE - 1 || e->last < page)
			continue;
		one = e->kind == HANDLER_KIND_ALL ? HANDLER_ALL : HANDLER_WRITE;
		if (e->off[page_index(e, page)])
			one = HANDLER_DISABLED;
		else if (is_mmio(e))
			one = HANDLER_NONE;
		mark = one > mark ? one : mark;
		*software |= e->software;
	}
	return mark;
}

/* The guest touches a page: the verdict, and what the tables grant before and after. */
static void check_touch(uint64_t page, enum page_handler mark)
{
	unsigned may = mark == HANDLER_ALL ? 0 : mark == HANDLER_WRITE ? 5 : 7;
	unsigned access = below(2) ? ACCESS_WRITE : ACCESS_READ;

	must(!(granted(pgm, page, NULL) & ~may));
	if (below(2))
		return;
	must(pgm_fault(pgm, gpa(page), access) == (access & may ? PGM_RESUME : PGM_EMULATE));
	must(!(granted(pgm, page, NULL) & ~may));
	must(!(access & may) || (granted(pgm, page, NULL) & access));
}

static void check_all(void)
{
	bool software;

	for (unsigned i = 0; i < RAM_PAGES; i++) {
		uint64_t page = FIRST_PAGE + i * PAGE_SIZE;
		enum page_handler mark = model_mark(page, &software);

		must(mark_at(pgm, page) == mark);
		check_touch(page, software ? HANDLER_DISABLED : mark);
	}
	for (unsigned i = 0; i < MMIO_PAGES; i++) {
		uint64_t page = MMIO_BASE + i * PAGE_SIZE;
		enum page_handler mark = model_mark(page, &software);

		must(mark_at(pgm, page) == mark);
		check_touch(page, mark == HANDLER_DISABLED ? HANDLER_DISABLED : HANDLER_ALL);
	}
	if (steps % 8 == 0)
		must(pgm_check(pgm, print_finding, NULL) == 0);
}

static void one_step(void)
{
	struct entry *e = any();

	history[steps][0] = 0;
	switch (below(16)) {
	case 0:
	case 1:
	case 2: do_register(); break;
	case 3:
		if (e)
			do_deregister(e);
		break;
	case 4:
		if (e)
			do_reset(e);
		break;
	case 5:
	case 6:
		if (e)
			do_off(e);
		break;
	case 7:
	case 8:
		if (e)
			do_split(e);
		break;
	case 9:
	case 10:
		if (e)
			do_join(e);
		break;
	case 11:
		if (e)
			do_modify(e);
		break;
	default: do_access(); break;
	}
	if (history[steps][0])
		steps++;
	check_all();
}

static void test_model(void **state)
{
	for (unsigned run = 0; run < SEEDS; run++) {
		seed = seed_of_run = 0x1234567 * (run + 1);
		steps = 0;
		memset(entries, 0, sizeof(entries));
		memset(memory, 0, sizeof(memory));
		pgm = machine_of(run % 2, 64);
		store(pgm, MMIO2_BASE, 1, 1);
		for (unsigned kind = 0; kind < 3; kind++)
			for (unsigned software = 0; software < (kind == HANDLER_KIND_MMIO ? 1u : 2u); software++)
				types[kind][software] =
					type_of(pgm, (enum handler_kind)kind, software ? HANDLER_NOT_IN_HARDWARE : 0);
		for (unsigned i = 0; i < STEPS; i++)
			one_step();
		must(pgm->handlers.used < SLOTS + 1);
		end_machine(pgm);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = { cmocka_unit_test(test_model) };

	world_start(64 * MIB);
	assert_int_equal(pgm_start(), OK);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
