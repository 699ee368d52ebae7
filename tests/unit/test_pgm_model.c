/* SPDX-License-Identifier: Apache-2.0 */
// sources: mm/*.c pgm/*.c pgm/*/*.c arch/x86_64/pt_format.c lib/format.c lib/hash.c lib/status.c
/*
 * Random operations on a machine's memory against a small model: what each byte is, who swallows writes to it, and
 * what a vcpu's TLB may still hold since the last flush. Guests use that TLB, so a flush that is missing
 * shows as a write gone astray. Allocations fail at random all the while. A failing sequence is shrunk and printed.
 *
 * Each run is a child process. Arguments: [first seed [number of seeds]].
 */
#include <sys/wait.h>

#define WORLD_STRICT 17u
#include "common/pgm_world.h"

#define RAM (24 * MIB)
#define PAGES (RAM / PAGE_SIZE)
#define ROM UINT64_C(0xe0000)
#define ROM_SIZE UINT64_C(0x20000)
#define OPERATIONS 1200u
#define HANDLERS 24u

enum kind {
	FAULT,
	GUEST_WRITE,
	GUEST_READ,
	DEVICE_WRITE,
	DEVICE_READ,
	EXCHANGE,
	ADD,
	REMOVE,
	LARGE_PAGES,
	INFLATE,
	DEFLATE,
	DISCARD,
	FAIL,
	HEAL,
	KINDS
};
static const char *const names[] = { "fault",    "guest write", "guest read",     "device write", "device read",
				     "exchange", "add handler", "remove handler", "large pages",  "inflate",
				     "deflate",  "discard",     "fail",           "heal" };

struct operation {
	enum kind kind;
	uint64_t where, argument;
};

static struct pgm *pgm;
static uint8_t bytes[RAM]; /* the model's memory */
static struct {
	uint64_t first, last;
	bool all;
} handlers[HANDLERS];
static unsigned handler_count;
static handler_type swallow, refuse;
static struct {
	uint64_t frame;
	unsigned rights;
} tlb[PAGES];
static char failure[200];

#define expect(condition)                                                                                              \
	do {                                                                                                           \
		if (!(condition) && !failure[0])                                                                       \
			snprintf(failure, sizeof(failure), "line %d: %s", __LINE__, #condition);                       \
	} while (0)

static bool exists(uint64_t where)
{
	return where < 0xa0000 || (where >= ROM && where < RAM);
}

static bool is_rom(uint64_t where)
{
	return where >= ROM && where < ROM + ROM_SIZE;
}

static void tlb_flush(void)
{
	memset(tlb, 0, sizeof(tlb));
}

/* Writes to what kind WRITE covers are swallowed; kind ALL says that they aren't its own. */
static enum status on_swallow(void *user, struct pgm_access *access)
{
	expect(access->write);
	return OK;
}

static enum status on_refuse(void *user, struct pgm_access *access)
{
	return NOT_FOUND;
}

static int handler_at(uint64_t where)
{
	for (unsigned i = 0; i < handler_count; i++)
		if (where >= handlers[i].first && where <= handlers[i].last)
			return (int)i;
	return -1;
}

static bool covered(uint64_t page, bool for_write)
{
	for (unsigned i = 0; i < handler_count; i++)
		if (handlers[i].first <= page + PAGE_SIZE - 1 && handlers[i].last >= page &&
		    (for_write || handlers[i].all))
			return true;
	return false;
}

static void model_write(uint64_t where, const uint8_t *data, size_t length)
{
	for (size_t i = 0; i < length; i++) {
		int handler = handler_at(where + i);

		if (exists(where + i) && where + i < RAM && !is_rom(where + i) &&
		    (handler < 0 || handlers[handler].all))
			bytes[where + i] = data[i];
	}
}

static uint8_t model_byte(uint64_t where)
{
	return where < RAM && exists(where) ? bytes[where] : 0xff;
}

static void device_write(uint64_t where, uint64_t argument)
{
	uint8_t data[9000];
	size_t length = argument % sizeof(data), done = 0;
	enum status status;

	for (size_t i = 0; i < length; i++)
		data[i] = (uint8_t)(argument >> 8) + (uint8_t)i * 7;
	status = pgm_write(pgm, gpa(where), data, length, ORIGIN_DEVICE, &done);
	expect(status == OK || ((status == NO_MEMORY || status == OVER_QUOTA) && inject_armed));
	expect(status == OK ? done == length : done < length);
	model_write(where, data, done);
}

static void device_read(uint64_t where, uint64_t argument)
{
	uint8_t data[9000];
	size_t length = argument % sizeof(data), done = 0;

	expect(pgm_read(pgm, gpa(where), data, length, ORIGIN_DEVICE, &done) == OK);
	expect(done == length);
	/* By pages, which are there or not: byte by byte this takes half of the program's time. */
	for (size_t i = 0, n; i < length; i += n) {
		n = min_u64(length - i, PAGE_SIZE - (where + i) % PAGE_SIZE);
		if (where + i < RAM && exists(where + i))
			expect(!memcmp(data + i, bytes + where + i, n));
		else
			expect(data[i] == 0xff && !memcmp(data + i, data + i + 1, n - 1));
	}
}

/* What the verdict must be when memory isn't short. */
static enum pgm_verdict expected_verdict(uint64_t where, unsigned access)
{
	uint64_t page = align_down(where, PAGE_SIZE);

	if (!exists(where) || covered(page, access & ACCESS_WRITE) || (is_rom(where) && (access & ACCESS_WRITE)))
		return PGM_EMULATE;
	return PGM_RESUME;
}

static enum pgm_verdict touch(uint64_t where, unsigned access)
{
	enum pgm_verdict want = expected_verdict(where, access), got = pgm_fault(pgm, gpa(where), access);

	expect(got == want || (got == PGM_NO_MEMORY && inject_armed));
	if (got == PGM_RESUME && where < RAM) {
		hpa_t frame = HPA_NONE;
		unsigned rights = granted(pgm, where, &frame);

		expect((rights & access) == access);
		tlb[where >> PAGE_SHIFT].frame = frame.v;
		tlb[where >> PAGE_SHIFT].rights = rights;
	}
	return got;
}

/* As a vcpu: through its TLB, then the tables, then a fault, then the emulator. */
static void guest_access(uint64_t where, uint64_t value, bool write)
{
	unsigned access = write ? ACCESS_WRITE : ACCESS_READ;
	uint64_t page, now;
	hpa_t frame;

	where = align_down(where, 8) % RAM;
	page = where >> PAGE_SHIFT;
	if (!(tlb[page].rights & access)) {
		tlb[page].rights = granted(pgm, where, &frame);
		tlb[page].frame = frame.v;
	}
	if (!(tlb[page].rights & access) && touch(where, access) != PGM_RESUME) {
		size_t done = 0;

		if (!write) {
			expect(pgm_read(pgm, gpa(where), &now, 8, ORIGIN_GUEST, NULL) == OK);
			for (unsigned i = 0; i < 8; i++)
				expect((uint8_t)(now >> 8 * i) == model_byte(where + i));
			return;
		}
		if (pgm_write(pgm, gpa(where), &value, 8, ORIGIN_GUEST, &done) != OK)
			expect(inject_armed);
		model_write(where, (uint8_t *)&value, done);
		return;
	}
	if (failure[0])
		return;
	if (write) {
		*(uint64_t *)host_memory_at(hpa(tlb[page].frame + where % PAGE_SIZE)) = value;
		memcpy(bytes + where, &value, 8);
	} else {
		now = *(uint64_t *)host_memory_at(hpa(tlb[page].frame + where % PAGE_SIZE));
		for (unsigned i = 0; i < 8; i++)
			expect((uint8_t)(now >> 8 * i) == model_byte(where + i));
	}
}

static void exchange_word(uint64_t where, uint64_t argument)
{
	uint64_t seen = 0, old = 0;
	bool handled = false; /* beside a handler on the same page it is memory */
	enum status status;

	where = align_down(where, 8);
	for (unsigned i = 0; i < 8; i++) {
		old |= (uint64_t)model_byte(where + i) << 8 * i;
		handled |= handler_at(where + i) >= 0;
	}
	status = pgm_compare_exchange(pgm, gpa(where), argument & 1 ? old : ~old, argument, 8, &seen);
	if (!exists(where) || is_rom(where) || handled) {
		expect(status == HANDLER || status == BAD_ADDRESS);
		return;
	}
	expect(status == OK || inject_armed);
	expect(status != OK || seen == old);
	if (status == OK && (argument & 1))
		memcpy(bytes + where, &argument, 8);
}

static void add_handler(uint64_t where, uint64_t argument)
{
	bool all = argument & 1;
	uint64_t first = where, last = where + (argument >> 1) % 6000;
	enum status status, want = OK;

	if (all) {
		first = align_down(first, PAGE_SIZE);
		last = align_down(last, PAGE_SIZE) + PAGE_SIZE * ((argument >> 20) % 700) + PAGE_SIZE - 1;
	}
	for (unsigned i = 0; i < handler_count; i++)
		if (first <= handlers[i].last && last >= handlers[i].first)
			want = CONFLICT;
	if (handler_count == HANDLERS)
		return;
	if (!exists(first) || !exists(last) || (first < 0xa0000) != (last < 0xa0000) || is_rom(first) != is_rom(last))
		want = BAD_ADDRESS;
	status = pgm_handler_register(pgm, all ? refuse : swallow, gpa(first), gpa(last), NULL, "");
	expect(status == want || (want == OK && status == NO_MEMORY && inject_armed));
	if (status == OK) {
		handlers[handler_count].first = first;
		handlers[handler_count].last = last;
		handlers[handler_count++].all = all;
	}
}

static void remove_handler(uint64_t argument)
{
	unsigned which;

	if (!handler_count)
		return;
	which = (unsigned)(argument % handler_count);
	expect(pgm_handler_deregister(pgm, gpa(handlers[which].first)) == OK);
	handlers[which] = handlers[--handler_count];
}

/* May the guest give this page away? */
static bool free_to_go(uint64_t page)
{
	return page < RAM && exists(page) && !is_rom(page) && !covered(page, true);
}

static void forget(uint64_t page)
{
	memset(bytes + page, 0, PAGE_SIZE);
}

/* One page, or at times as many as a driver sends at once; what is there already says what must come of it. */
static void balloon(uint64_t where, uint64_t argument, bool in)
{
	unsigned count = argument & 3 ? 1 : 256, done = 0;
	uint64_t ballooned = pgm->account.ballooned;
	uint32_t page[256];
	bool go[256];
	enum status status;

	where = align_down(where, count * PAGE_SIZE);
	for (unsigned i = 0; i < count; i++) {
		uint64_t at = where + i * PAGE_SIZE;
		struct pgm_page_info info;

		page[i] = (uint32_t)(at >> PAGE_SHIFT);
		pgm_page_describe(pgm, gpa(at), &info);
		go[i] = free_to_go(at) && (page_get_state(info.record) == PAGE_BALLOONED) != in;
		done += go[i];
	}
	status = pgm_balloon(pgm, in, page, count);
	if (status == NO_MEMORY || status == OVER_QUOTA) {
		expect(inject_armed);
		done = 0;
		for (unsigned i = 0; i < count; i++) {
			struct pgm_page_info info;

			pgm_page_describe(pgm, gpa((uint64_t)page[i] << PAGE_SHIFT), &info);
			go[i] &= (page_get_state(info.record) == PAGE_BALLOONED) == in;
			done += go[i];
		}
	} else {
		expect((status == OK) == (done == count));
	}
	expect(pgm->account.ballooned == ballooned + (in ? done : -(uint64_t)done));
	for (unsigned i = 0; i < count && in; i++)
		if (go[i])
			forget((uint64_t)page[i] << PAGE_SHIFT);
}

static void discard(uint64_t where, uint64_t argument)
{
	uint64_t length = argument % (argument & 256 ? 5 * MIB : 3 * PAGE_SIZE);
	uint64_t first = align_down(where + PAGE_SIZE - 1, PAGE_SIZE);
	struct pgm_page_info info;

	(void)pgm_discard(pgm, gpa(where), length);
	for (uint64_t at = first; at + PAGE_SIZE <= where + length; at += PAGE_SIZE) {
		pgm_page_describe(pgm, gpa(at), &info);
		if (free_to_go(at) && !page_has_frame(info.record))
			forget(at);
		else
			expect(!free_to_go(at) || inject_armed);
	}
}

static void arm(uint64_t argument)
{
	static const enum mm_site sites[] = { MM_SITE_CHUNK, MM_SITE_FRAME, MM_SITE_TABLE, MM_SITE_LARGE };

	inject_arm(sites[argument % ARRAY_SIZE(sites)], argument >> 8 & 3, 1 + (argument >> 12) % 3,
		   argument >> 20 & 255);
}

static void heal(void)
{
	for (unsigned site = 0; site < MM_SITES; site++)
		inject_disarm((enum mm_site)site);
}

static void on_finding(void *context, const char *line)
{
	if (!failure[0])
		snprintf(failure, sizeof(failure), "check: %s", line);
}

/* What a TLB holds must still be what the record says: else a flush is missing. */
static void look_at_tlb(void)
{
	for (uint64_t i = 0; i < PAGES && !failure[0]; i++) {
		struct pgm_page_info info;

		if (!tlb[i].rights)
			continue;
		pgm_page_describe(pgm, gpa(i << PAGE_SHIFT), &info);
		expect(!(tlb[i].rights & ~page_rights(info.record)));
		expect(page_has_frame(info.record) ? tlb[i].frame == info.frame.v
						   : tlb[i].frame - pgm_zero_block.v < BLOCK_SIZE);
	}
}

static void look_at_all(void)
{
	uint32_t armed = inject_armed;

	inject_armed = 0;
	pgm_check(pgm, on_finding, NULL);
	frame_check(on_finding, NULL);
	look_at_tlb();
	inject_armed = armed;
}

static void perform(const struct operation *o)
{
	switch (o->kind) {
	case FAULT: touch(o->where, 1u << o->argument % 3); break;
	case GUEST_WRITE: guest_access(o->where, o->argument, true); break;
	case GUEST_READ: guest_access(o->where, o->argument, false); break;
	case DEVICE_WRITE: device_write(o->where, o->argument); break;
	case DEVICE_READ: device_read(o->where, o->argument); break;
	case EXCHANGE: exchange_word(o->where, o->argument); break;
	case ADD: add_handler(o->where, o->argument); break;
	case REMOVE: remove_handler(o->argument); break;
	case LARGE_PAGES: pgm->config.large_pages = o->argument & 1; break;
	case INFLATE: balloon(o->where, o->argument, true); break;
	case DEFLATE: balloon(o->where, o->argument, false); break;
	case DISCARD: discard(o->where, o->argument); break;
	case FAIL: arm(o->argument); break;
	default: heal(); break;
	}
}

static void run(const struct operation *list, unsigned count, uint64_t seed)
{
	struct pgm_config config = plain_config(RAM);

	config.slat = seed & 1 ? &pt_ept4 : &pt_npt4;
	pgm = make_pgm_of(&config);
	at_flush = tlb_flush;
	expect(pgm_add_rom(pgm, gpa(ROM), ROM_SIZE, "rom") == OK);
	expect(pgm_handler_type_register(pgm, HANDLER_KIND_WRITE, 0, on_swallow, "", &swallow) == OK);
	expect(pgm_handler_type_register(pgm, HANDLER_KIND_ALL, 0, on_refuse, "", &refuse) == OK);
	for (unsigned i = 0; i < count && !failure[0]; i++) {
		perform(&list[i]);
		if (i % 16 == 15)
			look_at_all();
	}
	heal();
	look_at_all();
	for (uint64_t at = 0; at < RAM && !failure[0]; at += 8192)
		device_read(at, 8192);
	if (!failure[0])
		end_pgm(pgm);
}

/* In a child. True: it failed; the text went to stderr if `loud`. */
static bool fails(const struct operation *list, unsigned count, uint64_t seed, bool loud)
{
	int status;
	pid_t child = fork();

	if (!child) {
		if (!loud && !freopen("/dev/null", "w", stderr))
			_exit(2);
		run(list, count, seed);
		if (failure[0])
			fprintf(stderr, "%s\n", failure);
		_exit(failure[0] != 0);
	}
	assert_true(child > 0);
	assert_int_equal(waitpid(child, &status, 0), child);
	return status != 0;
}

/* Takes out pieces, half of it first, then smaller ones, as long as it still fails. */
static unsigned shrink(struct operation *list, unsigned count, uint64_t seed)
{
	static struct operation less[OPERATIONS];

	for (unsigned piece = count / 2; piece; piece /= 2) {
		for (unsigned at = 0; at + piece <= count;) {
			memcpy(less, list, at * sizeof(*list));
			memcpy(less + at, list + at + piece, (count - at - piece) * sizeof(*list));
			if (fails(less, count - piece, seed, false)) {
				count -= piece;
				memcpy(list, less, count * sizeof(*list));
			} else {
				at += piece;
			}
		}
	}
	return count;
}

/* Most operations meet in a few places, so that they meddle with one another. */
static uint64_t random_place(uint64_t *seed)
{
	static const uint64_t places[] = { 0x1000,  0x9f000, ROM,      0x1ff000,    4 * MIB,
					   6 * MIB, 8 * MIB, 20 * MIB, RAM - 0x4000 };
	uint64_t r = random_of(seed);

	if (r % 8 == 0)
		return (r >> 8) % RAM;
	return places[(r >> 4) % ARRAY_SIZE(places)] + (r >> 8) % 0x5000;
}

static enum kind random_kind(uint64_t *seed)
{
	static const enum kind kinds[] = { FAULT,       FAULT,      FAULT,      GUEST_WRITE,  GUEST_WRITE,
					   GUEST_WRITE, GUEST_READ, GUEST_READ, DEVICE_WRITE, DEVICE_READ,
					   EXCHANGE,    ADD,        REMOVE,     LARGE_PAGES,  FAIL,
					   HEAL,        INFLATE,    INFLATE,    DEFLATE,      DISCARD };

	return kinds[random_of(seed) % ARRAY_SIZE(kinds)];
}

static uint64_t first_seed = 1, seeds = 60;

static void test_model(void **state)
{
	static struct operation list[OPERATIONS];

	for (uint64_t s = first_seed; s < first_seed + seeds; s++) {
		uint64_t seed = s * 0x9e3779b97f4a7c15 | 1;
		unsigned count = OPERATIONS;

		for (unsigned i = 0; i < count; i++)
			list[i] = (struct operation){ random_kind(&seed), random_place(&seed), random_of(&seed) };
		if (!fails(list, count, s, false))
			continue;
		count = shrink(list, count, s);
		fprintf(stderr, "seed %llu fails with:\n", (unsigned long long)s);
		for (unsigned i = 0; i < count; i++)
			fprintf(stderr, "  %-14s %#10llx %#llx\n", names[list[i].kind],
				(unsigned long long)list[i].where, (unsigned long long)list[i].argument);
		fails(list, count, s, true);
		fail();
	}
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = { cmocka_unit_test(test_model) };

	if (argc > 1)
		first_seed = strtoull(argv[1], NULL, 0);
	if (argc > 2)
		seeds = strtoull(argv[2], NULL, 0);
	pgm_world_start(64 * MIB);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
