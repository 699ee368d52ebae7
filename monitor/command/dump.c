/* SPDX-License-Identifier: Apache-2.0 */
/* Memory as text, piece by piece, while the guest runs: each line is of one moment, the whole is not. */
#include "monitor/command/dump.h"

#include "lib/format.h"
#include "lib/hash.h"
#include "monitor/command/command.h"
#include "monitor/command/page_walk.h"

#define STEP_PIECES 1024u

static struct {
	struct page_walk walk;
	bool no_zero;
	uint64_t zero_from; /* up to where all is written */
	uint64_t end;       /* of the pieces so far */
	uint64_t data_bytes, watched;
	uint32_t crc;
} dump;
static uint8_t bytes[PAGE_SIZE] __attribute__((aligned(8)));

void dump_base64(char *to, const uint8_t *from, size_t length)
{
	static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

	for (size_t i = 0; i < length; i += 3) {
		size_t have = length - i;
		uint32_t word = (uint32_t)from[i] << 16;

		word |= have > 1 ? (uint32_t)from[i + 1] << 8 : 0;
		word |= have > 2 ? from[i + 2] : 0;
		*to++ = digits[word >> 18];
		*to++ = digits[word >> 12 & 63];
		*to++ = have > 1 ? digits[word >> 6 & 63] : '=';
		*to++ = have > 2 ? digits[word & 63] : '=';
	}
	*to = 0;
}

void dump_line(char text[DUMP_LINE_TEXT + 1], uint64_t where, const uint8_t *from)
{
	size_t used = format_string(text, DUMP_LINE_TEXT + 1, "d 0x%lx ", where);

	dump_base64(text + used, from, DUMP_LINE_BYTES);
	used += (DUMP_LINE_BYTES + 2) / 3 * 4;
	format_string(text + used, DUMP_LINE_TEXT + 1 - used, " %08x", hash_crc32(0, from, DUMP_LINE_BYTES));
}

static void put_zeros(struct output *out, uint64_t end)
{
	char text[48];

	if (!dump.no_zero && end > dump.zero_from) {
		format_string(text, sizeof(text), "z 0x%lx 0x%lx", dump.zero_from, end - dump.zero_from);
		output_list_item(out, text);
	}
	dump.zero_from = end;
}

static void put_page(struct output *out, uint64_t where)
{
	char text[DUMP_LINE_TEXT + 1];

	put_zeros(out, where);
	for (unsigned at = 0; at < PAGE_SIZE; at += DUMP_LINE_BYTES) {
		dump_line(text, where + at, bytes + at);
		output_list_item(out, text);
	}
	dump.crc = hash_crc32(dump.crc, bytes, PAGE_SIZE);
	dump.data_bytes += PAGE_SIZE;
	dump.zero_from = where + PAGE_SIZE;
}

/* Returns whether it wrote something. */
static bool take_piece(struct output *out, const struct page_piece *piece)
{
	dump.end = piece->first + piece->pages * PAGE_SIZE;
	if (!piece->has_frame)
		return false;
	if (pgm_read_simple(dump.walk.pgm, gpa(piece->first), bytes, PAGE_SIZE) != OK) {
		dump.watched++; /* a handler answers for all of it: it is no memory */
		return false;
	}
	if (hash_is_zero(bytes, PAGE_SIZE))
		return false;
	put_page(out, piece->first);
	return true;
}

static bool step(struct output *out, bool cancelled)
{
	struct page_piece piece;
	bool more = true, wrote = false;

	for (unsigned i = 0; more && !wrote && !cancelled && i < STEP_PIECES; i++) {
		more = page_walk_next(&dump.walk, &piece);
		wrote = more && take_piece(out, &piece);
	}
	if (more && !cancelled)
		return true;
	put_zeros(out, dump.end);
	output_list_end(out);
	output_fields(out, BOOL("complete", !more), HEX_OF(dump, end), NUMBER_OF(dump, data_bytes),
		      NUMBER("watched_pages", dump.watched), HEX("crc32", dump.crc));
	return false;
}

void dump_begin(struct output *out, struct pgm *pgm, bool no_zero)
{
	dump.walk = (struct page_walk){ .pgm = pgm, .rom = true };
	dump.no_zero = no_zero;
	dump.zero_from = dump.end = dump.data_bytes = dump.watched = 0;
	dump.crc = 0;
	output_list_begin(out, "lines");
	command_go_on(step);
}
