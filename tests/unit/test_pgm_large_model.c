/* SPDX-License-Identifier: Apache-2.0 */
// sources: mm/*.c pgm/*.c pgm/*/*.c arch/x86_64/pt_format.c lib/format.c lib/hash.c lib/status.c
/*
 * Random sequences of guest and device accesses, handlers, pins, failing allocations and background work, against a plain copy
 * of the guest's bytes. The guest's processor keeps every translation it ever used until a flush: so a frame that is
 * freed, moved or made read-only without one shows as a wrong byte. Frames are poisoned as they are freed.
 */
#define WORLD_STRICT 17u
#include "common/pgm_world.h"

#define WORLD (64 * MIB)
#define RAM (12 * MIB)
#define SEEDS 16u
#define OPERATIONS 1500u
#define LOG 24u
#define PAGES (RAM / PAGE_SIZE)

static struct pgm *pgm;
static uint8_t model[RAM];
static uint64_t seed, seed_name;
static struct {
	uint64_t frame;
	unsigned rights;
} tlb[PAGES];
static bool handled[PAGES];
static struct {
	uint64_t page;
	bool write;
	uint8_t *pointer;
} pinned[8];
static char lines[LOG][80];
static unsigned logged;
static const char owner[] = "model";

#define NOTE(...) ((void)snprintf(lines[logged++ % LOG], sizeof(lines[0]), __VA_ARGS__))

static void wrong(const char *what, uint64_t where)
{
	fprintf(stderr, "seed %llu: %s at %#llx; the last operations:\n", (unsigned long long)seed_name, what,
		(unsigned long long)where);
	for (unsigned i = logged > LOG ? logged - LOG : 0; i < logged; i++)
		fprintf(stderr, "  %u %s\n", i, lines[i % LOG]);
	fail_msg("%s", what);
}

static uint64_t random_below(uint64_t below)
{
	return random_of(&seed) % below;
}

/* An address in RAM, mostly in two blocks. */
static uint64_t random_address(void)
{
	uint64_t where = random_below(3) ? 2 * MIB + random_below(2 * BLOCK_SIZE) : random_below(RAM);

	return where >= 0xa0000 && where < MIB ? where + MIB : where;
}

static void forget(void)
{
	memset(tlb, 0, sizeof(tlb));
}

/* The byte's place if the processor may access it so, by what it remembers or by the tables. */
static uint8_t *translate(uint64_t where, unsigned access)
{
	uint64_t page = where / PAGE_SIZE;

	if (!(tlb[page].rights & access)) {
		hpa_t frame;
		unsigned rights = granted(pgm, where, &frame);

		if (!(rights & access))
			return NULL;
		tlb[page].frame = frame.v;
		tlb[page].rights = rights;
	}
	return host_memory_at(hpa(tlb[page].frame + where % PAGE_SIZE));
}

static bool out_of_memory(enum status status)
{
	return status == NO_MEMORY || status == OVER_QUOTA;
}

static void device_write(uint64_t where, enum pgm_origin origin)
{
	uint8_t bytes[600];
	size_t length = min_u64(1 + random_below(sizeof(bytes)), RAM - where), done;
	enum status status;

	if (where < MIB)
		length = min_u64(length, 0xa0000 - where);
	for (size_t i = 0; i < length; i++)
		bytes[i] = (uint8_t)random_of(&seed);
	status = pgm_write(pgm, gpa(where), bytes, length, origin, &done);
	NOTE("write %#llx+%zu: %s", (unsigned long long)where, length, status_text(status));
	if (status != OK && !out_of_memory(status))
		wrong("a write failed", where);
	memcpy(&model[where], bytes, done);
}

static void guest_write(uint64_t where)
{
	uint8_t *place = translate(where, ACCESS_WRITE);
	enum pgm_verdict verdict = PGM_RESUME;

	if (!place) {
		verdict = pgm_fault(pgm, gpa(where), ACCESS_WRITE);
		if (verdict == PGM_RESUME) {
			tlb[where / PAGE_SIZE].rights = 0; /* a fault drops the entry that caused it */
			place = translate(where, ACCESS_WRITE);
		}
	}
	NOTE("guest write %#llx: verdict %u", (unsigned long long)where, verdict);
	if (verdict == PGM_EMULATE) {
		if (!handled[where / PAGE_SIZE])
			wrong("a write to plain memory is to be emulated", where);
		device_write(where, ORIGIN_GUEST);
	} else if (verdict == PGM_RESUME) {
		if (!place)
			wrong("resumed without a translation", where);
		if (handled[where / PAGE_SIZE])
			wrong("the guest could write past a handler", where);
		model[where] = *place = (uint8_t)random_of(&seed);
	}
}

static void guest_read(uint64_t where)
{
	uint8_t *place = translate(where, ACCESS_READ);

	if (!place && pgm_fault(pgm, gpa(where), ACCESS_READ) == PGM_RESUME)
		place = translate(where, ACCESS_READ);
	NOTE("guest read %#llx", (unsigned long long)where);
	if (place && *place != model[where])
		wrong("the guest reads another byte", where);
}

static void device_read(uint64_t where)
{
	uint8_t bytes[64];
	size_t length = min_u64(sizeof(bytes), PAGE_SIZE - where % PAGE_SIZE);

	assert_int_equal(pgm_read(pgm, gpa(where), bytes, length, ORIGIN_DEVICE, NULL), OK);
	if (memcmp(bytes, &model[where], length))
		wrong("a device reads other bytes", where);
}

static enum status pass(void *user, struct pgm_access *access)
{
	return NOT_FOUND;
}

static void toggle_handler(handler_type type, uint64_t where)
{
	uint64_t page = align_down(where, PAGE_SIZE);
	enum status status;

	if (handled[page / PAGE_SIZE]) {
		status = pgm_handler_deregister(pgm, gpa(page));
		assert_int_equal(status, OK);
		handled[page / PAGE_SIZE] = false;
	} else {
		status = pgm_handler_register(pgm, type, gpa(page), gpa(page + PAGE_SIZE - 1), NULL, "model");
		handled[page / PAGE_SIZE] = status == OK;
	}
	NOTE("handler %#llx: %s", (unsigned long long)page, status_text(status));
	if (status != OK && !out_of_memory(status) && status != LIMIT)
		wrong("no handler", page);
}

static void toggle_pin(uint64_t where)
{
	unsigned slot = (unsigned)random_below(ARRAY_SIZE(pinned));
	bool write = random_below(2);
	enum status status;
	hpa_t frame;

	if (pinned[slot].pointer) {
		uint64_t page = pinned[slot].page;

		if (memcmp(pinned[slot].pointer, &model[page], PAGE_SIZE))
			wrong("a pinned page moved", page);
		if (pinned[slot].write)
			model[page + 8] = pinned[slot].pointer[8] = (uint8_t)random_of(&seed);
		assert_int_equal(pgm_unpin(pgm, gpa(page), pinned[slot].write, owner), OK);
		pinned[slot].pointer = NULL;
		NOTE("unpin %#llx", (unsigned long long)page);
		return;
	}
	status = pgm_pin(pgm, gpa(where), write, owner, &frame);
	NOTE("pin %#llx %u: %s", (unsigned long long)where, write, status_text(status));
	if (status == OK) {
		pinned[slot].page = align_down(where, PAGE_SIZE);
		pinned[slot].write = write;
		pinned[slot].pointer = host_memory_at(frame);
	} else if (!out_of_memory(status) && !(status == HANDLER && write && handled[where / PAGE_SIZE])) {
		wrong("no pin", where);
	}
}

/* Every page of a block, in single frames. */
static void fill_block(uint64_t base)
{
	NOTE("fill %#llx", (unsigned long long)base);
	inject_arm(MM_SITE_LARGE, 0, 1, 0);
	for (uint64_t a = base; a < base + BLOCK_SIZE; a += PAGE_SIZE)
		device_write(a + random_below(512), ORIGIN_DEVICE);
	inject_disarm(MM_SITE_LARGE);
}

static void release_everything(void)
{
	for (unsigned i = 0; i < ARRAY_SIZE(pinned); i++) {
		if (pinned[i].pointer)
			assert_int_equal(pgm_unpin(pgm, gpa(pinned[i].page), pinned[i].write, owner), OK);
		pinned[i].pointer = NULL;
	}
	for (uint64_t page = 0; page < PAGES; page++) {
		if (handled[page])
			assert_int_equal(pgm_handler_deregister(pgm, gpa(page * PAGE_SIZE)), OK);
		handled[page] = false;
	}
}

static void compare_all(void)
{
	static uint8_t bytes[PAGE_SIZE];

	for (uint64_t a = 0; a < RAM; a += PAGE_SIZE) {
		if (a >= 0xa0000 && a < MIB)
			continue;
		assert_int_equal(pgm_read(pgm, gpa(a), bytes, PAGE_SIZE, ORIGIN_DEVICE, NULL), OK);
		if (memcmp(bytes, &model[a], PAGE_SIZE))
			wrong("the memory differs", a);
	}
}

static void disarm_all(void)
{
	for (unsigned site = 0; site < MM_SITES; site++)
		inject_disarm((enum mm_site)site);
}

static void operation(handler_type type)
{
	uint64_t where = random_address();

	switch (random_below(24)) {
	case 0:
	case 1:
	case 2: guest_write(where); break;
	case 3:
	case 4: guest_read(where); break;
	case 5: device_write(where, ORIGIN_DEVICE); break;
	case 6: device_read(where); break;
	case 7: toggle_handler(type, where); break;
	case 8: toggle_pin(where); break;
	case 9:
		if (random_below(4) == 0)
			fill_block(align_down(random_address(), BLOCK_SIZE) ? 2 * MIB + random_below(2) * BLOCK_SIZE
									    : 4 * MIB);
		break;
	case 10: {
		enum mm_site site = (enum mm_site)random_below(MM_SITES);

		NOTE("inject %u", site);
		inject_arm(site, random_below(3), 1 + random_below(3), 1 + random_below(1000));
		break;
	}
	case 11:
	case 12: disarm_all(); break;
	case 13:
		for (unsigned i = 0; i < 200; i++)
			(void)pgm_idle_step(pgm);
		NOTE("much idle; block of the collapse %p", (void *)pgm->collapse.block);
		break;
	default: (void)pgm_idle_step(pgm); NOTE("idle; phase %u", pgm->collapse.phase);
	}
}

static void one_seed(void)
{
	handler_type type;

	pgm = make_pgm(RAM);
	memset(model, 0, sizeof(model));
	forget();
	assert_int_equal(pgm_handler_type_register(pgm, HANDLER_KIND_WRITE, 0, pass, "pass", &type), OK);
	logged = 0;
	for (unsigned i = 0; i < OPERATIONS; i++) {
		operation(type);
		if (i % 250 == 0) {
			disarm_all();
			compare_all();
			if (pgm_check(pgm, print_finding, NULL) || frame_check(print_finding, NULL))
				wrong("the check has findings", i);
		}
	}
	disarm_all();
	release_everything();
	for (unsigned i = 0; i < 3000; i++)
		(void)pgm_idle_step(pgm);
	compare_all();
}

static void test_model(void **state)
{
	uint64_t collapsed = 0, reused = 0, overflow = 0, refused = 0, split = 0;

	at_flush = forget;
	for (unsigned i = 0; i < SEEDS; i++) {
		seed_name = 0x1234567 + i * 7919;
		seed = seed_name;
		one_seed();
		collapsed += pgm->common.counters.large_collapsed;
		reused += pgm->common.counters.large_reused;
		overflow += pgm->common.counters.large_overflow;
		refused += pgm->common.counters.large_refused;
		split += pgm->common.counters.split;
		end_pgm(pgm);
	}
	/* The sequences must have met what they are meant to meet. */
	print_message("collapsed %llu, reused %llu, given up %llu, refused %llu, split %llu\n",
		      (unsigned long long)collapsed, (unsigned long long)reused, (unsigned long long)overflow,
		      (unsigned long long)refused, (unsigned long long)split);
	assert_true(collapsed && reused && refused && split);
}

static int setup(void **state)
{
	pgm_world_start(WORLD);
	return 0;
}

int main(void)
{
	const struct CMUnitTest tests[] = { cmocka_unit_test(test_model) };

	return cmocka_run_group_tests(tests, setup, NULL);
}
