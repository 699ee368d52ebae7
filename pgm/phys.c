/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Physical access by the hypervisor itself: devices, loaders, guest-table walks, the emulator.
 * Memory is copied under the block's lock, so no frame can be taken away under the copy. An access may cross pages and ranges; it is
 * cut at page ends. What a handler covers goes to handler/access.c.
 */
#include <string.h>

#include "pgm/copy.h"
#include "pgm/internal.h"

/* What one page-sized piece turned out to be. */
enum piece { PIECE_DONE, PIECE_HANDLER, PIECE_NOTHING, PIECE_FAILED };

/* An untouched block, or none: zero where there is RAM or ROM. */
static enum piece read_untouched(struct pgm *pgm, gpa_t from, void *to, size_t length)
{
	if (type_is_mmio(range_type(pgm, from)))
		return PIECE_NOTHING;
	memset(to, 0, length);
	return PIECE_DONE;
}

static inline enum piece read_record(page_record r, gpa_t from, void *to, size_t length, unsigned way)
{
	if (page_is_device(r))
		return PIECE_NOTHING;
	if (page_get_handler(r) == HANDLER_ALL && !(way & WAY_PAST))
		return PIECE_HANDLER;
	if (page_has_frame(r))
		copy_out(hpa(page_frame(r).v | (from.v & (PAGE_SIZE - 1))), to, length);
	else
		memset(to, 0, length);
	return PIECE_DONE;
}

/* Within one page. Inlined: whoever reads single entries and instructions pays for nothing else. */
static inline __attribute__((always_inline)) enum piece read_piece(struct pgm *pgm, gpa_t from, void *to, size_t length,
								   unsigned way)
{
	struct block *b = block_find(pgm, from);

	/* Without its lock, which would tell of the same moment: a device's page is such a one. */
	if (unlikely(!b || block_kind(b) == BLOCK_UNTOUCHED))
		return read_untouched(pgm, from, to, length);
	HOLD_BLOCK(b);
	if (block_kind(b) == BLOCK_LARGE) {
		copy_out(hpa(block_address(b).v | (from.v & (BLOCK_SIZE - 1))), to, length);
		return PIECE_DONE;
	}
	return block_kind(b) == BLOCK_DETAILED ? read_record(*page_of(b, from), from, to, length, way)
					       : read_untouched(pgm, from, to, length);
}

/* What is to be changed within one page, from open_piece() to close_piece(). */
struct target {
	struct block *b; /* NULL: nothing is there, or it failed; else locked */
	hpa_t frame;
	enum piece piece;
	enum status status; /* of PIECE_FAILED */
	struct gather gather;
};

/* The frame behind the page, made if need be. Locked. */
static enum piece writable_frame(struct pgm *pgm, gpa_t to, unsigned way, struct target *t)
{
	struct block *b = t->b;
	page_record *r;

	if (block_kind(b) < BLOCK_LARGE) {
		bool plain = block_plain(pgm, to);

		if (!plain && type_is_mmio(range_type(pgm, to)))
			return PIECE_NOTHING;
		if (!plain || !pgm->config.large_pages || block_make_large(pgm, b, to, &t->gather) != OK)
			t->status = block_make_detailed(pgm, b, to, &t->gather);
		if (t->status != OK)
			return PIECE_FAILED;
	}
	if (block_kind(b) == BLOCK_LARGE) {
		t->frame = page_frame(block_record(b, to));
		return PIECE_DONE;
	}
	if (unlikely(b->flags & BLOCK_COLLAPSING))
		collapse_touched(pgm, to);
	r = page_of(b, to);
	if (page_is_device(*r))
		return PIECE_NOTHING;
	if (page_get_handler(*r) >= HANDLER_WRITE && !(way & WAY_PAST))
		return PIECE_HANDLER;
	if (page_get_type(*r) == PAGE_ROM || (r->bits & PAGE_READ_ONLY)) {
		t->status = rom_write_frame(pgm, b, to, way & WAY_ROM, &t->frame, &t->gather);
		return t->status == OK ? PIECE_DONE : PIECE_FAILED;
	}
	t->status = page_own(pgm, b, to, &t->gather);
	if (t->status != OK)
		return PIECE_FAILED;
	if (page_get_type(*r) == PAGE_MMIO2)
		mmio2_written(r);
	t->frame = page_frame(*r);
	return PIECE_DONE;
}

/* True: t->frame is to be changed. */
static inline bool open_piece(struct pgm *pgm, gpa_t to, unsigned way, struct target *t)
{
	struct block *b = block_find(pgm, to);

	t->b = NULL;
	t->piece = PIECE_NOTHING;
	t->status = OK;
	if (unlikely(!b || block_kind(b) == BLOCK_UNTOUCHED)) {
		if (block_nothing(pgm, to))
			return false;
		t->piece = PIECE_FAILED;
		t->status = block_get(pgm, to, &b);
		if (t->status != OK)
			return false;
	}
	gather_begin(&t->gather, &pgm->flush, &pgm->account);
	block_lock(b);
	t->b = b;
	t->piece = writable_frame(pgm, to, way, t);
	return t->piece == PIECE_DONE && !hpa_is_none(t->frame);
}

static inline void close_piece(struct pgm *pgm, struct target *t)
{
	if (unlikely(!t->b))
		return;
	block_unlock(t->b);
	if (t->gather.flush || t->gather.count)
		gather_finish(&t->gather);
	handy_settle(pgm, local_of(pgm));
}

/* Within one page. PIECE_FAILED: *status says why. */
static enum piece write_piece(struct pgm *pgm, gpa_t to, const void *from, size_t length, unsigned way,
			      enum status *status)
{
	struct target t;

	if (open_piece(pgm, to, way, &t)) {
		copy_in(hpa(t.frame.v | (to.v & (PAGE_SIZE - 1))), from, length);
		dirty_written(pgm, to);
	}
	close_piece(pgm, &t);
	*status = t.status;
	return t.piece;
}

enum status pgm_read(struct pgm *pgm, gpa_t from, void *to, size_t length, enum pgm_origin origin, size_t *done)
{
	enum status status = OK;
	size_t at = 0;

	for (size_t piece; at < length && status == OK; at += piece) {
		gpa_t where = gpa(from.v + at);

		piece = to_page_end(where, length - at);
		if (unlikely(read_piece(pgm, where, (uint8_t *)to + at, piece, 0) != PIECE_DONE))
			status = handler_read(pgm, where, (uint8_t *)to + at, piece, origin, &piece);
	}
	COUNT(pgm, reads);
	COUNT_BY(pgm, read_bytes, at);
	if (done)
		*done = at;
	return status;
}

bool pgm_read_entry(struct pgm *pgm, gpa_t from, uint64_t *entry)
{
	if (read_piece(pgm, from, entry, sizeof(*entry), 0) != PIECE_DONE)
		return false;
	COUNT(pgm, reads);
	COUNT_BY(pgm, read_bytes, sizeof(*entry));
	return true;
}

enum status pgm_write(struct pgm *pgm, gpa_t to, const void *from, size_t length, enum pgm_origin origin, size_t *done)
{
	unsigned way = origin == ORIGIN_DEBUGGER ? WAY_ROM : 0;
	enum status status = OK;
	size_t at = 0;

	for (size_t piece; at < length && status == OK; at += piece) {
		gpa_t where = gpa(to.v + at);
		enum piece what;

		piece = to_page_end(where, length - at);
		what = write_piece(pgm, where, (const uint8_t *)from + at, piece, way, &status);
		if (unlikely(what == PIECE_FAILED))
			break;
		if (unlikely(what != PIECE_DONE))
			status = handler_write(pgm, where, (const uint8_t *)from + at, piece, origin, way, &piece);
	}
	COUNT(pgm, writes);
	COUNT_BY(pgm, write_bytes, at);
	if (done)
		*done = at;
	return status;
}

enum status phys_read_past(struct pgm *pgm, gpa_t from, void *to, size_t length)
{
	if (read_piece(pgm, from, to, length, WAY_PAST) != PIECE_DONE) {
		COUNT_VCPU(invalid_phys);
		memset(to, 0xff, length);
	}
	return OK;
}

enum status phys_write_past(struct pgm *pgm, gpa_t to, const void *from, size_t length, unsigned way)
{
	enum status status;
	enum piece piece = write_piece(pgm, to, from, length, way | WAY_PAST, &status);

	if (piece == PIECE_NOTHING)
		COUNT_VCPU(invalid_phys);
	return piece == PIECE_FAILED ? status : OK;
}

/* What a simple access answers. */
static enum status simple_status(struct pgm *pgm, gpa_t where, enum piece piece, enum status failure)
{
	struct handler_node n;

	if (piece == PIECE_NOTHING)
		return handler_next(&pgm->handlers, where.v, &n) && n.first <= where.v ? HANDLER : BAD_ADDRESS;
	return piece == PIECE_DONE ? OK : piece == PIECE_HANDLER ? HANDLER : failure;
}

enum status pgm_read_simple(struct pgm *pgm, gpa_t from, void *to, size_t length)
{
	struct pgm_local *local = local_of(pgm);
	enum piece piece;

	if (to_page_end(from, length) != length)
		return BAD_VALUE;
	LOCAL_COUNT(local, simple_reads, 1);
	piece = read_piece(pgm, from, to, length, 0);
	LOCAL_COUNT(local, simple_read_bytes, piece == PIECE_DONE ? length : 0);
	return likely(piece == PIECE_DONE) ? OK : simple_status(pgm, from, piece, OK);
}

enum status pgm_write_simple(struct pgm *pgm, gpa_t to, const void *from, size_t length)
{
	enum status status = OK;
	enum piece piece;

	if (to_page_end(to, length) != length)
		return BAD_VALUE;
	piece = write_piece(pgm, to, from, length, 0, &status);
	/* Beside the handlers that share the page it is memory like any other. */
	if (piece == PIECE_HANDLER && !handler_wants_write(pgm, to, length))
		piece = write_piece(pgm, to, from, length, WAY_PAST, &status);
	COUNT(pgm, simple_writes);
	COUNT_BY(pgm, simple_write_bytes, piece == PIECE_DONE ? length : 0);
	return simple_status(pgm, to, piece, status);
}

/* *value: expected, then what was there. Where reads and writes go to different copies, nothing can be exchanged in place. */
static enum piece exchange_piece(struct pgm *pgm, gpa_t where, uint64_t *value, uint64_t desired, unsigned size,
				 unsigned way, enum status *status)
{
	struct target t;

	if (open_piece(pgm, where, way, &t) && page_get_type(block_record(t.b, where)) != PAGE_ROM) {
		uint8_t *bytes = frame_map(hpa(t.frame.v | (where.v & (PAGE_SIZE - 1))));

		*value = copy_exchange(bytes, *value, desired, size);
		frame_unmap(bytes);
		dirty_written(pgm, where);
	} else if (t.piece == PIECE_DONE) {
		t.piece = PIECE_HANDLER;
	}
	close_piece(pgm, &t);
	*status = t.status;
	return t.piece;
}

enum status pgm_compare_exchange(struct pgm *pgm, gpa_t where, uint64_t expected, uint64_t desired, unsigned size,
				 uint64_t *seen)
{
	uint64_t value = expected;
	enum status status = OK;
	enum piece piece;

	if ((size != 1 && size != 2 && size != 4 && size != 8) || (where.v & (size - 1)))
		return BAD_VALUE;
	piece = exchange_piece(pgm, where, &value, desired, size, 0, &status);
	if (piece == PIECE_HANDLER && !handler_wants_write(pgm, where, size))
		piece = exchange_piece(pgm, where, &value, desired, size, WAY_PAST, &status);
	if (piece == PIECE_DONE)
		*seen = value;
	return simple_status(pgm, where, piece, status);
}
