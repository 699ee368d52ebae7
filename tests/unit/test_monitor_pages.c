/* SPDX-License-Identifier: Apache-2.0 */
// sources: mm/*.c pgm/*.c pgm/*/*.c arch/x86_64/pt_format.c lib/format.c lib/status.c lib/hash.c monitor/command/page_walk.c monitor/command/duplicates.c monitor/command/dump.c monitor/text/output.c monitor/text/output_json.c
/* What goes through a machine's pages: the walk, the count of equal pages, and the dump, which is read back. */
#include "common/pgm_world.h"

#include "lib/format.h"
#include "lib/hash.h"
#include "monitor/command/command.h"
#include "monitor/command/dump.h"
#include "monitor/command/duplicates.h"
#include "monitor/command/page_walk.h"

#define RAM (16 * MIB)

static struct pgm *pgm;

static void put(uint64_t where, const void *bytes, size_t length)
{
	inject_arm(MM_SITE_LARGE, 0, 1, 0);
	assert_int_equal(pgm_write(pgm, gpa(where), bytes, length, ORIGIN_DEVICE, NULL), OK);
	inject_disarm(MM_SITE_LARGE);
}

/* ---- checksums: values of xxhash's and zlib's own tools ---- */
static void test_checksums(void **state)
{
	static uint64_t page[512];

	assert_int_equal(hash_crc32(0, "123456789", 9), 0xcbf43926);
	assert_int_equal(hash_crc32(hash_crc32(0, "1234", 4), "56789", 5), 0xcbf43926);
	assert_int_equal(hash_crc32(0, "", 0), 0);
	assert_int_equal(hash_xxh3("", 0), 0x2d06800538d394c2);
	assert_true(hash_is_zero(page, sizeof(page)));
	for (unsigned i = 0; i < 512; i++) {
		page[i] = 1ull << 63;
		assert_false(hash_is_zero(page, sizeof(page)));
		page[i] = 0;
	}
}

static void test_base64(void **state)
{
	static const struct {
		const char *plain, *coded;
	} pairs[] = { { "", "" },        { "f", "Zg==" },          { "fo", "Zm8=" },
		      { "foo", "Zm9v" }, { "foobar", "Zm9vYmFy" }, { "\xff\xff\xff", "////" },
		      { "\xfb", "+w==" } };
	char text[16];

	for (unsigned i = 0; i < ARRAY_SIZE(pairs); i++) {
		dump_base64(text, (const uint8_t *)pairs[i].plain, strlen(pairs[i].plain));
		assert_string_equal(text, pairs[i].coded);
	}
}

/* ---- equal pages ---- */
static void test_duplicates(void **state)
{
	static struct duplicates d;
	static uint64_t page[512];

	assert_true(duplicates_begin(&d, 100));
	duplicates_add(&d, page);
	for (unsigned i = 0; i < 30; i++) {
		page[i % 512] = i % 10 + 1; /* each page differs from the one before */
		duplicates_add(&d, page);
	}
	assert_int_equal(d.zero, 1);
	assert_int_equal(d.unique + d.duplicate, 30);
	duplicates_end(&d);
	memset(page, 0, sizeof(page));
	assert_true(duplicates_begin(&d, 100));
	for (unsigned i = 0; i < 300; i++) {
		page[511] = i < 200 ? i + 1 : i < 250 ? 1 : i; /* 1 comes 51 times, 250..299 of 200 are met anew */
		duplicates_add(&d, page);
	}
	/* 1..200 once each, then 50 times 1, then 250..299 once each. */
	assert_int_equal(d.unique, 199 + 50);
	assert_int_equal(d.duplicate, 51);
	assert_int_equal(d.used, 250);
	duplicates_end(&d);
}

/* A full table counts what it could not tell. */
static void test_duplicates_full(void **state)
{
	static struct duplicates d;
	static uint64_t page[512];

	assert_true(duplicates_begin(&d, 1));
	d.slots = 64; /* smaller than it ever is */
	for (unsigned i = 1; i <= 100; i++) {
		page[3] = i;
		duplicates_add(&d, page);
	}
	assert_int_equal(d.unique, 56);
	assert_int_equal(d.untold, 44);
	duplicates_end(&d);
	inject_arm(MM_SITE_HEAP, 1, 1, 0);
	assert_false(duplicates_begin(&d, 2 * DUPLICATE_PIECE));
	inject_disarm(MM_SITE_HEAP);
	assert_null(d.piece[0]);
}

/* ---- the walk ---- */
static void test_walk(void **state)
{
	struct page_walk walk;
	struct page_piece piece;
	uint64_t pages = 0, frames = 0, pieces = 0, last = 0;

	pgm = make_pgm(RAM);
	assert_int_equal(pgm_add_rom(pgm, gpa(0xe0000), 0x20000, "rom"), OK);
	put(4 * MIB, "a", 1);
	put(15 * MIB + PAGE_SIZE, "b", 1);
	for (unsigned rom = 0; rom < 2; rom++) {
		walk = (struct page_walk){ .pgm = pgm, .rom = rom };
		for (pages = frames = pieces = last = 0; page_walk_next(&walk, &piece); pieces++) {
			assert_true(piece.first >= last && piece.pages);
			last = piece.first + piece.pages * PAGE_SIZE;
			pages += piece.pages;
			frames += piece.has_frame;
		}
		assert_int_equal(pages, RAM / PAGE_SIZE - 96 + rom * 32);
		assert_int_equal(last, RAM);
		assert_int_equal(frames, 2);
		assert_true(pieces < 2 * 512 + 16);
	}
	end_pgm(pgm);
}

/* ---- the dump, written and read back ---- */
static bool (*pending)(struct output *out, bool cancelled);
static char *written;
static size_t used;
static uint8_t image[RAM];

void command_go_on(bool (*step)(struct output *out, bool cancelled))
{
	pending = step;
}

static void collect(void *context, const char *bytes, size_t length)
{
	written = realloc(written, used + length + 1);
	memcpy(written + used, bytes, length);
	used += length;
	written[used] = 0;
}

static unsigned digit(char c)
{
	static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

	assert_true(c && strchr(digits, c));
	return (unsigned)(strchr(digits, c) - digits);
}

static void decode(const char *text, uint8_t *to)
{
	for (unsigned i = 0; i < DUMP_LINE_BYTES; i += 3, text += 4) {
		uint32_t word = digit(text[0]) << 18 | digit(text[1]) << 12;

		word |= text[2] == '=' ? 0 : digit(text[2]) << 6;
		word |= text[3] == '=' ? 0 : digit(text[3]);
		for (unsigned j = 0; j < 3 && i + j < DUMP_LINE_BYTES; j++)
			to[i + j] = (uint8_t)(word >> (16 - 8 * j));
	}
}

/* Fills image from the lines; returns the count of z lines. */
static unsigned read_back(uint32_t *crc, uint64_t *data)
{
	unsigned zeros = 0;
	char *save;

	*crc = 0;
	*data = 0;
	memset(image, 0, sizeof(image));
	for (char *line = strtok_r(written, "\r\n", &save); line; line = strtok_r(NULL, "\r\n", &save)) {
		unsigned long long where, bytes;
		static char text[2000];
		unsigned sum;

		if (sscanf(line, "z 0x%llx 0x%llx", &where, &bytes) == 2) {
			zeros++;
			assert_true(where + bytes <= RAM);
		} else if (sscanf(line, "d 0x%llx %1999s %x", &where, text, &sum) == 3) {
			assert_true(where + DUMP_LINE_BYTES <= RAM);
			decode(text, image + where);
			assert_int_equal(hash_crc32(0, image + where, DUMP_LINE_BYTES), sum);
			*crc = hash_crc32(*crc, image + where, DUMP_LINE_BYTES);
			*data += DUMP_LINE_BYTES;
		}
	}
	return zeros;
}

static void run_dump(bool no_zero, unsigned most, char *tail)
{
	struct output out;
	unsigned steps = 0;
	bool more = true;

	used = 0;
	output_begin(&out, OUTPUT_TEXT, collect, NULL, "x");
	dump_begin(&out, pgm, no_zero);
	while (more)
		more = pending(&out, ++steps == most) && steps != most;
	(void)output_end(&out);
	strcpy(tail, strstr(written, "complete"));
}

static enum status never(void *user, struct pgm_access *access)
{
	fail_msg("a dump called a handler");
	return OK;
}

static void test_dump(void **state)
{
	static uint8_t page[PAGE_SIZE];
	char tail[400], expected[400];
	handler_type type;
	uint32_t crc;
	uint64_t data, seed = 7;

	pgm = make_pgm(RAM);
	assert_int_equal(pgm_add_rom(pgm, gpa(0xe0000), 0x20000, "rom"), OK);
	for (unsigned i = 0; i < 40; i++) {
		for (unsigned j = 0; j < PAGE_SIZE; j++)
			page[j] = (uint8_t)random_of(&seed);
		put(4 * MIB + i * 5 * PAGE_SIZE, page, PAGE_SIZE);
	}
	assert_int_equal(pgm_rom_load(pgm, gpa(0xe0000), page, PAGE_SIZE), OK);
	memset(page, 0, sizeof(page));
	put(6 * MIB, page, PAGE_SIZE); /* has a frame, and is zero */
	put(9 * MIB, "watched", 8);
	assert_int_equal(pgm_handler_type_register(pgm, HANDLER_KIND_ALL, 0, never, "", &type), OK);
	assert_int_equal(pgm_handler_register(pgm, type, gpa(9 * MIB), gpa(9 * MIB + PAGE_SIZE - 1), NULL, ""), OK);
	for (unsigned no_zero = 0; no_zero < 2; no_zero++) {
		run_dump(no_zero, 0, tail);
		assert_int_equal(read_back(&crc, &data) > 0, !no_zero);
		assert_int_equal(data, 41 * PAGE_SIZE);
		format_string(expected, sizeof(expected),
			      "complete: yes\r\nend: 0x%lx\r\ndata bytes: %lu\r\nwatched pages: 1\r\ncrc32: 0x%x\r\n",
			      RAM, 41 * PAGE_SIZE, crc);
		assert_string_equal(tail, expected);
		for (uint64_t a = 0; a < RAM; a += PAGE_SIZE) {
			if (a >= 0xa0000 && a < 0xe0000)
				continue;
			if (pgm_read_simple(pgm, gpa(a), page, PAGE_SIZE) == OK)
				assert_memory_equal(page, image + a, PAGE_SIZE);
			else
				assert_true(hash_is_zero(image + a, PAGE_SIZE));
		}
	}
	/* Given up in the middle: what is there is right, and it says that there's more. */
	run_dump(false, 7, tail);
	assert_non_null(strstr(tail, "complete: no"));
	(void)read_back(&crc, &data);
	assert_int_equal(data, 6 * PAGE_SIZE);
	end_pgm(pgm);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_checksums),  cmocka_unit_test(test_base64),
		cmocka_unit_test(test_duplicates), cmocka_unit_test(test_duplicates_full),
		cmocka_unit_test(test_walk),       cmocka_unit_test(test_dump),
	};

	pgm_world_start(96 * MIB);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
