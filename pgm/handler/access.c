/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Our own accesses to pages that are no memory or that a handler watches: who gets which bytes.
 *
 * An access is cut where handlers begin and end, and for them at eight bytes as a bus would do it. What no armed
 * handler covers, or what one declines (NOT_FOUND), is the ordinary access to what lies below: memory, or nothing,
 * which reads all ones and drops writes.
 */
#include <string.h>

#include "pgm/internal.h"

/* Up to eight bytes that don't cross a natural boundary. */
static unsigned handler_size(uint64_t where, size_t length)
{
	unsigned size = 8;

	while (size > length || (where & (size - 1)))
		size >>= 1;
	return size;
}

static inline bool wants(const struct handler_node *n, uint64_t where, bool write)
{
	return (write || n->kind != HANDLER_KIND_WRITE) && !handler_part_is_off(n, where);
}

static inline enum status call(struct handler_table *t, struct handler_node *n, struct pgm_access *access)
{
	struct handler_calls *calls = &t->calls[cpu_index()];
	enum status status = NOT_FOUND;

	if (!(n->flags & HANDLER_KEEP_LOCK) || calls->holds_lock)
		return n->callback(n->user, access);
	/* The lock is taken once, however deep handlers nest. The node may have gone before we got it. */
	HOLD(&t->lock);
	calls->holds_lock = true;
	if (handler_find(t, access->where.v, n) && wants(n, access->where.v, access->write))
		status = n->callback(n->user, access);
	calls->holds_lock = false;
	return status;
}

/*
 * Serves the bytes at access->where, access->size of them at most, which is set to how many it took. NOT_FOUND: no
 * handler wants these, do the ordinary access.
 */
static enum status serve(struct pgm *pgm, struct pgm_access *access, size_t length)
{
	struct handler_table *t = &pgm->handlers;
	uint64_t where = access->where.v;
	enum status status = NOT_FOUND;
	struct handler_node n;

	handler_call_begin(t);
	if (handler_find_recent(t, where, &n)) {
		length = min_u64(length, n.last - where + 1);
		if (wants(&n, where, access->write)) {
			access->size = handler_size(where, length);
			if (access->write)
				access->value &= byte_mask(access->size);
			status = call(t, &n, access);
			length = access->size;
		}
	} else {
		COUNT_VCPU(handlers_unhandled);
		if (handler_next(t, where, &n) && n.first > where)
			length = min_u64(length, n.first - where);
	}
	handler_call_end(t);
	access->size = (unsigned)length;
	return status;
}

static enum status go_through(struct pgm *pgm, struct pgm_access access, uint8_t *bytes, size_t length, unsigned way,
			      size_t *served)
{
	enum status status = OK;
	uint64_t first = access.where.v;
	size_t at = 0;

	while (at < length) {
		size_t left = length - at;

		access.where = gpa(first + at);
		access.value = 0;
		if (access.write)
			memcpy(&access.value, bytes + at, min_u64(left, sizeof(access.value)));
		status = serve(pgm, &access, left);
		if (status == OK && !access.write)
			memcpy(bytes + at, &access.value, access.size);
		else if (status == NOT_FOUND && access.write)
			status = phys_write_past(pgm, access.where, bytes + at, access.size, way);
		else if (status == NOT_FOUND)
			status = phys_read_past(pgm, access.where, bytes + at, access.size);
		if (status != OK)
			break;
		at += access.size;
	}
	*served = at;
	return status;
}

enum status handler_read(struct pgm *pgm, gpa_t from, uint8_t *to, size_t length, enum pgm_origin origin,
			 size_t *served)
{
	return go_through(pgm, (struct pgm_access){ .where = from, .origin = origin }, to, length, 0, served);
}

enum status handler_write(struct pgm *pgm, gpa_t to, const uint8_t *from, size_t length, enum pgm_origin origin,
			  unsigned way, size_t *served)
{
	/* Not written to: the access is a write. */
	return go_through(pgm, (struct pgm_access){ .where = to, .write = true, .origin = origin }, (uint8_t *)from,
			  length, way, served);
}

enum status pgm_device_access(struct pgm *pgm, struct pgm_access *access)
{
	uint64_t where = access->where.v, last = where + access->size - 1;
	struct handler_table *t = &pgm->handlers;
	enum status status = NOT_FOUND;
	struct handler_node n;

	if (where & (access->size - 1))
		return NOT_FOUND;
	handler_call_begin(t);
	/* Where one of kind MMIO is there is no memory. */
	if ((likely(handler_try_recent(t, where, &n)) || handler_find_recent(t, where, &n)) && last <= n.last &&
	    n.kind == HANDLER_KIND_MMIO && wants(&n, where, access->write))
		status = call(t, &n, access);
	handler_call_end(t);
	return status;
}

bool handler_wants_write(struct pgm *pgm, gpa_t where, size_t length)
{
	uint64_t from = where.v, last = where.v + length - 1;
	struct handler_node n;

	while (from <= last && handler_next(&pgm->handlers, from, &n) && n.first <= last) {
		if (wants(&n, max_u64(n.first, from), true))
			return true;
		from = n.last + 1;
	}
	return false;
}
