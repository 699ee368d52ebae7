/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The hypervisor's own accesses where handlers are: cut as a bus would do it (at most eight bytes, never across a natural
 * boundary) and at the ends of handlers, since those of kind WRITE may cover part of a page. What no handler
 * covers, and what a handler says is not its own, goes past them to memory.
 *
 * Handlers are called without any PGM lock.
 */
#include <string.h>

#include "pgm/internal.h"

#define BUS_BYTES 8u

/* The next piece at `where`: its size, and the handler that covers all of it. False: none covers any of it. */
static bool next_piece(struct pgm *pgm, uint64_t where, size_t length, unsigned *size, struct handler_node *n)
{
	bool found = handler_find(&pgm->handlers, where, n);
	uint64_t bound = length;

	if (found)
		bound = min_u64(length - 1, n->last - where) + 1;
	else if (handler_next(&pgm->handlers, where, n) && n->first > where)
		bound = min_u64(length, n->first - where);
	*size = BUS_BYTES;
	while (*size > bound || (where & (*size - 1)))
		*size >>= 1;
	return found;
}

/* NOT_FOUND: the access is an ordinary one. */
static enum status call(struct pgm *pgm, const struct handler_node *n, struct pgm_access *access)
{
	const struct handler_kind_entry *type = &pgm->handlers.type[n->type];

	if (access->write || type->kind != HANDLER_KIND_WRITE) {
		COUNT(pgm, handler_hits);
		return type->callback(n->user, access);
	}
	return NOT_FOUND;
}

enum status handler_read(struct pgm *pgm, gpa_t from, uint8_t *to, size_t length, enum pgm_origin origin,
			 size_t *served)
{
	enum status status = OK;
	size_t at = 0;

	while (at < length) {
		struct pgm_access access = { .where = gpa(from.v + at), .origin = origin };
		struct handler_node n;

		if (next_piece(pgm, access.where.v, length - at, &access.size, &n)) {
			status = call(pgm, &n, &access);
		} else {
			COUNT(pgm, handler_misses);
			status = NOT_FOUND;
		}
		if (status == OK)
			memcpy(to + at, &access.value, access.size);
		else if (status == NOT_FOUND)
			status = phys_read_past(pgm, access.where, to + at, access.size);
		if (status != OK)
			break;
		at += access.size;
	}
	*served = at;
	return status;
}

enum status handler_write(struct pgm *pgm, gpa_t to, const uint8_t *from, size_t length, enum pgm_origin origin,
			  size_t *served)
{
	enum status status = OK;
	size_t at = 0;

	while (at < length) {
		struct pgm_access access = { .where = gpa(to.v + at), .write = true, .origin = origin };
		struct handler_node n;

		if (next_piece(pgm, access.where.v, length - at, &access.size, &n)) {
			memcpy(&access.value, from + at, access.size);
			status = call(pgm, &n, &access);
		} else {
			COUNT(pgm, handler_misses);
			status = NOT_FOUND;
		}
		if (status == NOT_FOUND)
			status = phys_write_past(pgm, access.where, from + at, access.size);
		if (status != OK)
			break;
		at += access.size;
	}
	*served = at;
	return status;
}
