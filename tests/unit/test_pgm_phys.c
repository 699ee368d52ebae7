/* SPDX-License-Identifier: Apache-2.0 */
// sources: mm/*.c pgm/*.c pgm/*/*.c arch/x86_64/pt_format.c lib/format.c lib/hash.c lib/status.c
/* Physical access and handlers: who is called with what, what goes past, what is told when something fails half-way. */
#include "common/pgm_world.h"
#include "pgm/fetch.h"
#include "pgm/slat/tables.h"

#define WORLD (64 * MIB)
#define WHERE (32 * MIB)
#define DEVICE (3584 * MIB)

struct call {
	uint64_t where, value;
	unsigned size;
	bool write;
};

static struct call calls[64];
static unsigned call_count;
static uint64_t fail_at = UINT64_MAX;
static bool not_mine;

static enum status record_call(void *user, struct pgm_access *access)
{
	assert_ptr_equal(user, calls);
	if (access->where.v == fail_at)
		return BAD_STATE;
	assert_true(call_count < ARRAY_SIZE(calls));
	calls[call_count++] = (struct call){ access->where.v, access->value, access->size, access->write };
	if (not_mine)
		return NOT_FOUND;
	if (!access->write)
		access->value = 0x0807060504030201;
	return OK;
}

static handler_type type_of(struct pgm *pgm, enum handler_kind kind)
{
	handler_type type;

	call_count = 0;
	not_mine = false;
	fail_at = UINT64_MAX;
	assert_int_equal(pgm_handler_type_register(pgm, kind, 0, record_call, "test", &type), OK);
	return type;
}

static void add(struct pgm *pgm, handler_type type, uint64_t first, uint64_t last)
{
	assert_int_equal(pgm_handler_register(pgm, type, gpa(first), gpa(last), calls, "test"), OK);
}

static void expect_sizes(uint64_t where, const unsigned *sizes, unsigned count)
{
	assert_int_equal(call_count, count);
	for (unsigned i = 0; i < count; i++) {
		assert_int_equal(calls[i].where, where);
		assert_int_equal(calls[i].size, sizes[i]);
		where += sizes[i];
	}
}

static void test_mmio_sizes(void **state)
{
	struct pgm *pgm = make_pgm(64 * MIB);
	handler_type type = type_of(pgm, HANDLER_KIND_MMIO);
	uint8_t bytes[40];

	add(pgm, type, DEVICE, DEVICE + PAGE_SIZE - 1);
	assert_int_equal(pgm_fault(pgm, gpa(DEVICE), ACCESS_READ), PGM_EMULATE);
	assert_int_equal(pgm_read(pgm, gpa(DEVICE + 1), bytes, 26, ORIGIN_GUEST, NULL), OK);
	expect_sizes(DEVICE + 1, (unsigned[]){ 1, 2, 4, 8, 8, 2, 1 }, 7);
	for (unsigned i = 0; i < 26; i++)
		assert_int_equal(bytes[i], i < 1    ? 1
					   : i < 3  ? i
					   : i < 7  ? i - 2
					   : i < 23 ? (i - 7) % 8 + 1
					   : i < 25 ? i - 22
						    : 1);
	call_count = 0;
	for (unsigned i = 0; i < 12; i++)
		bytes[i] = (uint8_t)(0x10 + i);
	assert_int_equal(pgm_write(pgm, gpa(DEVICE + 4), bytes, 12, ORIGIN_GUEST, NULL), OK);
	expect_sizes(DEVICE + 4, (unsigned[]){ 4, 8 }, 2);
	assert_int_equal(calls[0].value, 0x13121110);
	assert_int_equal(calls[1].value, 0x1b1a191817161514);
	/* Past its end nothing is: all ones, and a write is ignored. */
	call_count = 0;
	assert_int_equal(pgm_read(pgm, gpa(DEVICE + PAGE_SIZE - 4), bytes, 8, ORIGIN_GUEST, NULL), OK);
	expect_sizes(DEVICE + PAGE_SIZE - 4, (unsigned[]){ 4 }, 1);
	assert_memory_equal(bytes, "\1\2\3\4\xff\xff\xff\xff", 8);
	assert_int_equal(pgm_read_simple(pgm, gpa(DEVICE), bytes, 8), HANDLER);
	assert_int_equal(pgm_compare_exchange(pgm, gpa(DEVICE), 0, 1, 4, &(uint64_t){ 0 }), HANDLER);
	assert_int_equal(pgm_add_ram(pgm, gpa(DEVICE - MIB), 2 * MIB, "over"), CONFLICT);
	end_pgm(pgm);
}

/* What is remembered of the page that a vcpu fetches from: as long as a processor would, and only what it could execute. */
static void test_fetch(void **state)
{
	for (unsigned large = 0; large < 2; large++) {
		struct pgm_config config = plain_config(64 * MIB);
		struct pgm_fetch fetch;
		struct pgm *pgm;
		uint8_t bytes[16];

		config.large_pages = large;
		config.misconfig_exit = true;
		pgm = make_pgm_of(&config);
		add(pgm, type_of(pgm, HANDLER_KIND_MMIO), DEVICE, DEVICE + PAGE_SIZE - 1);
		pgm_fetch_init(&fetch, pgm);
		assert_false(pgm_fetch_again(&fetch, gpa(0), bytes, 15));
		assert_int_equal(pgm_write(pgm, gpa(WHERE + 0x5007), "fifteen bytes!!", 15, ORIGIN_DEVICE, NULL), OK);
		/* Not in the tables yet: read, but not remembered. */
		assert_int_equal(pgm_fetch(pgm, &fetch, gpa(WHERE + 0x5007), bytes, 15), OK);
		assert_memory_equal(bytes, "fifteen bytes!!", 15);
		assert_false(pgm_fetch_again(&fetch, gpa(WHERE + 0x5007), bytes, 15));
		assert_int_equal(pgm_fault(pgm, gpa(WHERE + 0x5000), ACCESS_EXECUTE), PGM_RESUME);
		assert_int_equal(pgm_fetch(pgm, &fetch, gpa(WHERE + 0x5000), bytes, 15), OK);
		memset(bytes, 0, sizeof(bytes));
		assert_int_equal(pgm_fetch_again(&fetch, gpa(WHERE + 0x5007), bytes, 15), !secret_free);
		assert_memory_equal(bytes, "fifteen bytes!!", secret_free ? 0 : 15);
		assert_false(pgm_fetch_again(&fetch, gpa(WHERE + 0x6007), bytes, 15));
		/* A flush ends it, and no other page's fetch brings it back. */
		pgm_tables_drop(pgm);
		assert_false(pgm_fetch_again(&fetch, gpa(WHERE + 0x5007), bytes, 15));
		assert_int_equal(pgm_fault(pgm, gpa(DEVICE), ACCESS_READ), PGM_EMULATE);
		assert_int_equal(pgm_fetch(pgm, &fetch, gpa(DEVICE), bytes, 15), HANDLER);
		assert_false(pgm_fetch_again(&fetch, gpa(DEVICE), bytes, 15));
		assert_false(pgm_fetch_again(&fetch, gpa(WHERE + 0x5007), bytes, 15));
		end_pgm(pgm);
	}
}

static void test_partial_progress(void **state)
{
	struct pgm *pgm = make_pgm(64 * MIB);
	handler_type type = type_of(pgm, HANDLER_KIND_ALL);
	uint8_t bytes[3 * PAGE_SIZE];
	size_t done = 99;

	add(pgm, type, WHERE + PAGE_SIZE, WHERE + 2 * PAGE_SIZE - 1);
	fail_at = WHERE + PAGE_SIZE + 24;
	memset(bytes, 7, sizeof(bytes));
	assert_int_equal(pgm_write(pgm, gpa(WHERE + 16), bytes, sizeof(bytes), ORIGIN_DEVICE, &done), BAD_STATE);
	assert_int_equal(done, PAGE_SIZE - 16 + 24);
	assert_int_equal(pgm_read(pgm, gpa(WHERE + 16), bytes, sizeof(bytes), ORIGIN_DEVICE, &done), BAD_STATE);
	assert_int_equal(done, PAGE_SIZE - 16 + 24);
	assert_int_equal(bytes[PAGE_SIZE - 17], 7);
	/* No frame for the second page. */
	inject_arm(MM_SITE_LARGE, 0, 1, 0);
	fail_at = UINT64_MAX;
	assert_int_equal(pgm_write(pgm, gpa(16 * MIB - 100), bytes, 50, ORIGIN_DEVICE, &done), OK);
	assert_int_equal(done, 50);
	inject_arm(MM_SITE_TABLE, 0, 1, 0);
	assert_int_equal(pgm_write(pgm, gpa(16 * MIB - 100), bytes, 200, ORIGIN_DEVICE, &done), NO_MEMORY);
	assert_int_equal(done, 100);
	inject_disarm(MM_SITE_TABLE);
	inject_disarm(MM_SITE_LARGE);
	end_pgm(pgm);
}

static void test_across_ranges(void **state)
{
	struct pgm *pgm = make_pgm(64 * MIB);
	uint8_t out[32], in[32];

	for (unsigned i = 0; i < sizeof(out); i++)
		out[i] = (uint8_t)i;
	/* RAM, then the hole below 1 MiB. */
	assert_int_equal(pgm_write(pgm, gpa(0xa0000 - 16), out, 32, ORIGIN_GUEST, NULL), OK);
	assert_int_equal(pgm_read(pgm, gpa(0xa0000 - 16), in, 32, ORIGIN_GUEST, NULL), OK);
	assert_memory_equal(in, out, 16);
	for (unsigned i = 16; i < 32; i++)
		assert_int_equal(in[i], 0xff);
	/* A page end, a block end, the end of memory. */
	assert_int_equal(pgm_write(pgm, gpa(WHERE - 11), out, 32, ORIGIN_GUEST, NULL), OK);
	assert_int_equal(pgm_read(pgm, gpa(WHERE - 11), in, 32, ORIGIN_GUEST, NULL), OK);
	assert_memory_equal(in, out, 32);
	assert_int_equal(pgm_write(pgm, gpa(64 * MIB - 16), out, 32, ORIGIN_GUEST, NULL), OK);
	assert_int_equal(pgm_read(pgm, gpa(64 * MIB - 16), in, 32, ORIGIN_GUEST, NULL), OK);
	assert_memory_equal(in, out, 16);
	assert_int_equal(in[16], 0xff);
	assert_int_equal(pgm_read_simple(pgm, gpa(WHERE - 1), in, 2), BAD_VALUE);
	assert_int_equal(pgm_write_simple(pgm, gpa(WHERE - 1), in, 2), BAD_VALUE);
	assert_int_equal(pgm_read_simple(pgm, gpa(WHERE - 1), in, 1), OK);
	assert_int_equal(in[0], 10);
	end_pgm(pgm);
}

static void test_rom(void **state)
{
	struct pgm *pgm = make_pgm(64 * MIB);
	uint8_t byte = 0x5a;
	uint64_t seen, base;

	assert_int_equal(pgm_add_rom(pgm, gpa(0xe0000), 0x20000, "rom"), OK);
	assert_int_equal(pgm_rom_load(pgm, gpa(0xe1000), &byte, 1), OK);
	base = base_pages(pgm);
	byte = 0;
	assert_int_equal(pgm_write(pgm, gpa(0xe1000), &byte, 1, ORIGIN_GUEST, NULL), OK);
	assert_int_equal(pgm_write(pgm, gpa(0xe2000), "\7", 1, ORIGIN_DEVICE, NULL), OK);
	assert_int_equal(pgm_compare_exchange(pgm, gpa(0xe1000), 0x5a, 1, 1, &seen), HANDLER);
	assert_int_equal(base_pages(pgm), base);
	assert_int_equal(pgm_read(pgm, gpa(0xe1000), &byte, 1, ORIGIN_GUEST, NULL), OK);
	assert_int_equal(byte, 0x5a);
	assert_int_equal(pgm_read(pgm, gpa(0xe2000), &byte, 1, ORIGIN_GUEST, NULL), OK);
	assert_int_equal(byte, 0);
	assert_int_equal(pgm_fault(pgm, gpa(0xe2000), ACCESS_READ), PGM_RESUME);
	assert_int_equal(granted(pgm, 0xe2000, NULL), RX);
	end_pgm(pgm);
}

/* Whatever took from the reserve fills it again, an exchange too. */
static void test_exchange_refills(void **state)
{
	struct pgm_config config = plain_config(WORLD);
	struct pgm *pgm;
	uint64_t seen;

	config.large_pages = false;
	pgm = make_pgm_of(&config);
	assert_int_equal(pgm->common.handy.count, 0);
	assert_int_equal(pgm_compare_exchange(pgm, gpa(WHERE), 0, 1, 8, &seen), OK);
	assert_in_range(pgm->common.handy.count, HANDY_REFILL - 7, HANDY_REFILL);
	end_pgm(pgm);
}

static void test_compare_exchange(void **state)
{
	struct pgm *pgm = make_pgm(64 * MIB);
	uint64_t seen, value = 0;

	for (unsigned size = 1; size <= 8; size *= 2) {
		uint64_t at = WHERE + 64 * size, mask = byte_mask(size);

		assert_int_equal(pgm_compare_exchange(pgm, gpa(at), 0, 0x1122334455667788 & mask, size, &seen), OK);
		assert_int_equal(seen, 0);
		assert_int_equal(pgm_compare_exchange(pgm, gpa(at), 5, 9, size, &seen), OK);
		assert_int_equal(seen, 0x1122334455667788 & mask);
		value = 0;
		assert_int_equal(pgm_read(pgm, gpa(at), &value, 8, ORIGIN_GUEST, NULL), OK);
		assert_int_equal(value, 0x1122334455667788 & mask);
	}
	assert_int_equal(pgm_compare_exchange(pgm, gpa(WHERE + 4), 0, 1, 8, &seen), BAD_VALUE);
	assert_int_equal(pgm_compare_exchange(pgm, gpa(WHERE), 0, 1, 3, &seen), BAD_VALUE);
	assert_int_equal(pgm_compare_exchange(pgm, gpa(WHERE), 0, 1, 16, &seen), BAD_VALUE);
	end_pgm(pgm);
}

/* Write handlers over parts of a page: called for their own bytes only; the rest of the page is memory. */
static void test_part_of_a_page(void **state)
{
	struct pgm *pgm = make_pgm(64 * MIB);
	handler_type type = type_of(pgm, HANDLER_KIND_WRITE);
	uint8_t out[16] = { 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16 }, in[16];

	add(pgm, type, WHERE + 5, WHERE + 6);
	add(pgm, type, WHERE + 100, WHERE + 199);
	assert_int_equal(pgm_fault(pgm, gpa(WHERE), ACCESS_READ), PGM_RESUME);
	assert_int_equal(granted(pgm, WHERE, NULL), RX);
	assert_int_equal(pgm_fault(pgm, gpa(WHERE), ACCESS_WRITE), PGM_EMULATE);
	assert_int_equal(pgm_write(pgm, gpa(WHERE), out, 16, ORIGIN_GUEST, NULL), OK);
	expect_sizes(WHERE + 5, (unsigned[]){ 1, 1 }, 2);
	assert_int_equal(pgm_read(pgm, gpa(WHERE), in, 16, ORIGIN_GUEST, NULL), OK);
	assert_memory_equal(in, "\1\2\3\4\5\0\0\10\11\12\13\14\15\16\17\20", 16);
	assert_int_equal(call_count, 2);
	/* One of the two goes: the page stays protected for the other. */
	assert_int_equal(pgm_handler_deregister(pgm, gpa(WHERE + 5)), OK);
	assert_int_equal(pgm_fault(pgm, gpa(WHERE), ACCESS_WRITE), PGM_EMULATE);
	call_count = 0;
	assert_int_equal(pgm_write(pgm, gpa(WHERE + 96), out, 8, ORIGIN_GUEST, NULL), OK);
	expect_sizes(WHERE + 100, (unsigned[]){ 4 }, 1);
	assert_int_equal(calls[0].value, 0x08070605);
	assert_int_equal(pgm_handler_deregister(pgm, gpa(WHERE + 100)), OK);
	assert_int_equal(pgm_fault(pgm, gpa(WHERE), ACCESS_WRITE), PGM_RESUME);
	assert_int_equal(granted(pgm, WHERE, NULL), RWX);
	end_pgm(pgm);
}

/* A handler that says "not mine": the ordinary access happens. */
static void test_not_mine(void **state)
{
	struct pgm *pgm = make_pgm(64 * MIB);
	handler_type type = type_of(pgm, HANDLER_KIND_ALL);
	uint64_t word = 0x1234;

	add(pgm, type, WHERE, WHERE + PAGE_SIZE - 1);
	assert_int_equal(pgm_fault(pgm, gpa(WHERE), ACCESS_READ), PGM_EMULATE);
	not_mine = true;
	assert_int_equal(pgm_write(pgm, gpa(WHERE + 8), &word, 8, ORIGIN_GUEST, NULL), OK);
	word = 0;
	assert_int_equal(pgm_read(pgm, gpa(WHERE + 8), &word, 8, ORIGIN_GUEST, NULL), OK);
	assert_int_equal(word, 0x1234);
	assert_int_equal(call_count, 2);
	not_mine = false;
	assert_int_equal(pgm_read(pgm, gpa(WHERE + 8), &word, 8, ORIGIN_GUEST, NULL), OK);
	assert_int_equal(word, 0x0807060504030201);
	end_pgm(pgm);
}

static void test_refusals(void **state)
{
	struct pgm *pgm = make_pgm(64 * MIB);
	handler_type mmio = type_of(pgm, HANDLER_KIND_MMIO), all = type_of(pgm, HANDLER_KIND_ALL);
	handler_type write = type_of(pgm, HANDLER_KIND_WRITE), more;
	struct pgm_handler_info info;
	unsigned types = 3, count = 0;

	add(pgm, mmio, DEVICE, DEVICE + 0xfff);
	assert_int_equal(pgm_handler_register(pgm, mmio, gpa(DEVICE), gpa(DEVICE + 0xfff), calls, ""), CONFLICT);
	assert_int_equal(pgm_handler_register(pgm, mmio, gpa(WHERE), gpa(WHERE + 0xfff), calls, ""), CONFLICT);
	assert_int_equal(pgm_handler_register(pgm, mmio, gpa(DEVICE + 1), gpa(DEVICE + 0x1fff), calls, ""), BAD_VALUE);
	assert_int_equal(pgm_handler_register(pgm, all, gpa(WHERE), gpa(WHERE + 0xffe), calls, ""), BAD_VALUE);
	assert_int_equal(pgm_handler_register(pgm, all, gpa(WHERE), gpa(WHERE - 1), calls, ""), BAD_VALUE);
	assert_int_equal(pgm_handler_register(pgm, all, gpa(0x9f000), gpa(0xa0fff), calls, ""), BAD_ADDRESS);
	assert_int_equal(pgm_handler_register(pgm, write, gpa(DEVICE), gpa(DEVICE), calls, ""), BAD_ADDRESS);
	assert_int_equal(pgm_handler_register(pgm, write, gpa(0), gpa(UINT64_MAX), calls, ""), BAD_VALUE);
	assert_int_equal(pgm_handler_register(pgm, write + HANDLER_TYPES, gpa(WHERE), gpa(WHERE), calls, ""),
			 NOT_FOUND);
	assert_int_equal(pgm_handler_register(pgm, 0, gpa(WHERE), gpa(WHERE), calls, ""), NOT_FOUND);
	assert_int_equal(pgm_handler_deregister(pgm, gpa(WHERE)), NOT_FOUND);
	assert_int_equal(pgm_handler_deregister(pgm, gpa(DEVICE + 1)), NOT_FOUND);
	for (uint64_t at = WHERE; count < 63; at += PAGE_SIZE, count++)
		add(pgm, write, at + 8, at + 15);
	assert_int_equal(pgm_handler_register(pgm, all, gpa(WHERE - 0x1000), gpa(WHERE - 1), calls, ""), LIMIT);
	count = 0;
	for (uint64_t at = 0; pgm_handler_next(pgm, gpa(at), &info); at = info.last + 1)
		count++;
	assert_int_equal(count, 64);
	assert_int_equal(info.first, DEVICE);
	while (pgm_handler_type_register(pgm, HANDLER_KIND_ALL, 0, record_call, "", &more) == OK)
		types++;
	assert_int_equal(types, HANDLER_TYPES);
	end_pgm(pgm);
}

/* Registration over five blocks, large and untouched, with each allocation failing once: all or nothing, no panic. */
static void test_register_without_memory(void **state)
{
	bool succeeded = false;

	for (unsigned after = 0; after < 30; after++) {
		struct pgm *pgm = make_pgm(64 * MIB);
		handler_type type = type_of(pgm, HANDLER_KIND_WRITE);
		enum status status;

		assert_int_equal(pgm_fault(pgm, gpa(WHERE + BLOCK_SIZE), ACCESS_WRITE), PGM_RESUME);
		assert_int_equal(pgm_fault(pgm, gpa(WHERE + 3 * BLOCK_SIZE), ACCESS_WRITE), PGM_RESUME);
		inject_arm(MM_SITE_TABLE, after, 1, 0);
		status = pgm_handler_register(pgm, type, gpa(WHERE + 5 * PAGE_SIZE), gpa(WHERE + 5 * BLOCK_SIZE), calls,
					      "");
		while (status == BUSY)
			status = pgm_handlers_step(pgm);
		inject_disarm(MM_SITE_TABLE);
		assert_true(status == OK || status == NO_MEMORY);
		succeeded |= status == OK;
		check_silent(pgm);
		for (unsigned i = 0; i < 5; i++)
			assert_int_equal(pgm_fault(pgm, gpa(WHERE + i * BLOCK_SIZE + 6 * PAGE_SIZE), ACCESS_WRITE),
					 status == OK ? PGM_EMULATE : PGM_RESUME);
		end_pgm(pgm);
	}
	assert_true(succeeded);
}

/* A handler on one page of a large block: the others keep frame, content and rights; one flush; nothing moves. */
static void test_split_keeps(void **state)
{
	struct pgm *pgm = make_pgm(64 * MIB);
	handler_type type = type_of(pgm, HANDLER_KIND_ALL);
	hpa_t chunk, frame;

	for (unsigned i = 0; i < PAGES_PER_BLOCK; i++)
		assert_int_equal(pgm_write(pgm, gpa(WHERE + i * PAGE_SIZE), &i, 4, ORIGIN_DEVICE, NULL), OK);
	assert_int_equal(pgm_fault(pgm, gpa(WHERE), ACCESS_READ), PGM_RESUME);
	assert_int_equal(granted(pgm, WHERE, &chunk), RWX);
	flushes = 0;
	add(pgm, type, WHERE + 77 * PAGE_SIZE, WHERE + 78 * PAGE_SIZE - 1);
	assert_int_equal(flushes, 1);
	for (unsigned i = 0; i < PAGES_PER_BLOCK; i++) {
		unsigned back;

		if (i == 77) {
			assert_int_equal(granted(pgm, WHERE + i * PAGE_SIZE, NULL), 0);
			continue;
		}
		assert_int_equal(granted(pgm, WHERE + i * PAGE_SIZE, &frame), RWX);
		assert_int_equal(frame.v, chunk.v + i * PAGE_SIZE);
		assert_int_equal(pgm_read(pgm, gpa(WHERE + i * PAGE_SIZE), &back, 4, ORIGIN_DEVICE, NULL), OK);
		assert_int_equal(back, i);
	}
	assert_int_equal(pgm_handler_deregister(pgm, gpa(WHERE + 77 * PAGE_SIZE)), OK);
	assert_int_equal(pgm_fault(pgm, gpa(WHERE + 77 * PAGE_SIZE), ACCESS_READ), PGM_RESUME);
	assert_int_equal(granted(pgm, WHERE + 77 * PAGE_SIZE, &frame), RWX);
	assert_int_equal(frame.v, chunk.v + 77 * PAGE_SIZE);
	end_pgm(pgm);
}

/* Whatever the page is, they come to what single copies do. */
static void test_parts(void **state)
{
	static const struct hv_nested_part parts[] = { { 8, 16 }, { 0x400, 0x270 } };
	struct pgm *pgm = make_pgm(64 * MIB);
	handler_type type = type_of(pgm, HANDLER_KIND_WRITE);
	uint64_t mode = 0;
	static uint8_t copy[PAGE_SIZE], seen[PAGE_SIZE];
	const uint64_t at[] = { 4 * MIB, 6 * MIB + PAGE_SIZE, 6 * MIB + 5 * PAGE_SIZE, 8 * MIB };

	(void)state;
	pgm_collapse_hold(pgm, true);
	assert_int_equal(pgm_write(pgm, gpa(4 * MIB), &mode, 8, ORIGIN_GUEST, NULL), OK);
	for (unsigned i = 0; i < ARRAY_SIZE(at); i++) {
		memset(copy, 0x5a, sizeof(copy));
		assert_int_equal(pgm_parts(pgm, gpa(at[i]), copy, parts, 2, false), OK);
		for (unsigned j = 0; j < PAGE_SIZE; j++)
			assert_int_equal(copy[j], (j >= 8 && j < 24) || (j >= 0x400 && j < 0x670) ? 0 : 0x5a);
		memset(copy, 0x11 * (int)(i + 1), sizeof(copy));
		assert_int_equal(pgm_dirty_start(pgm, DIRTY_WRITE_PROTECT), OK);
		assert_int_equal(pgm_parts(pgm, gpa(at[i]), copy, parts, 2, true), OK);
		assert_int_equal(pgm_parts(pgm, gpa(at[i]), copy, parts, 2, true), OK);
		assert_true(dirty_noted(pgm, gpa(at[i])) >> (at[i] >> PAGE_SHIFT & 63) & 1);
		assert_int_equal(pgm_dirty_stop(pgm), OK);
		assert_int_equal(pgm_read(pgm, gpa(at[i]), seen, PAGE_SIZE, ORIGIN_GUEST, NULL), OK);
		for (unsigned j = 0; j < PAGE_SIZE; j++)
			assert_int_equal(seen[j], (j >= 8 && j < 24) || (j >= 0x400 && j < 0x670) ? 0x11 * (i + 1) : 0);
	}
	add(pgm, type, 4 * MIB, 4 * MIB + PAGE_SIZE - 1);
	assert_int_equal(pgm_parts(pgm, gpa(4 * MIB), copy, parts, 2, true), HANDLER);
	assert_int_equal(pgm_parts(pgm, gpa(DEVICE), copy, parts, 2, false), BAD_ADDRESS);
	end_pgm(pgm);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_mmio_sizes),
		cmocka_unit_test(test_fetch),
		cmocka_unit_test(test_parts),
		cmocka_unit_test(test_partial_progress),
		cmocka_unit_test(test_across_ranges),
		cmocka_unit_test(test_rom),
		cmocka_unit_test(test_compare_exchange),
		cmocka_unit_test(test_exchange_refills),
		cmocka_unit_test(test_part_of_a_page),
		cmocka_unit_test(test_not_mine),
		cmocka_unit_test(test_refusals),
		cmocka_unit_test(test_register_without_memory),
		cmocka_unit_test(test_split_keeps),
	};

	pgm_world_start(WORLD);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
