/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Types of handlers: what is called, and how. A handle is a random tag with the slot's number in its low bits; a slot
 * that is used again gets another tag, so an old handle is refused.
 */
#include "pgm/handler/mark.h"

#define TYPE_INDEX(t) ((t) & (HANDLER_TYPES - 1))
#define TYPE_TAG(t) ((t) & ~(HANDLER_TYPES - 1))
_Static_assert((HANDLER_TYPES & (HANDLER_TYPES - 1)) == 0, "the index is the handle's low bits");

static uint64_t mix(uint64_t x)
{
	x = (x ^ x >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
	x = (x ^ x >> 27) * UINT64_C(0x94d049bb133111eb);
	return x ^ x >> 31;
}

/* Not 0, and not the tag that the slot had last. */
static uint32_t fresh_tag(struct handler_table *t, const struct handler_type_entry *slot)
{
	uint32_t tag;

	do {
		t->seed += UINT64_C(0x9e3779b97f4a7c15) ^ __builtin_ia32_rdtsc();
		tag = TYPE_TAG((uint32_t)mix(t->seed));
	} while (!tag || tag == slot->last_tag);
	return tag;
}

enum status pgm_handler_type_register(struct pgm *pgm, enum handler_kind kind, unsigned flags, pgm_handler callback,
				      const char *description, handler_type *out)
{
	struct handler_table *t = &pgm->handlers;
	struct handler_operation o;
	enum status status;

	if (!callback || (unsigned)kind > HANDLER_KIND_WRITE ||
	    (flags & ~(HANDLER_KEEP_LOCK | HANDLER_NOT_IN_HARDWARE)) ||
	    (kind == HANDLER_KIND_MMIO && (flags & HANDLER_NOT_IN_HARDWARE)))
		return BAD_VALUE;
	status = handler_begin(&o, pgm);
	if (status != OK)
		return status;
	status = LIMIT;
	for (uint32_t i = 0; i < HANDLER_TYPES && status != OK; i++) {
		uint32_t tag = t->type[i].tag;

		if (tag)
			continue;
		tag = fresh_tag(t, &t->type[i]);
		t->type[i] = (struct handler_type_entry){ .tag = tag,
							  .last_tag = tag,
							  .kind = (uint8_t)kind,
							  .flags = (uint8_t)flags,
							  .callback = callback,
							  .description = description };
		*out = tag | i;
		status = OK;
	}
	handler_end(&o);
	return status;
}

struct handler_type_entry *handler_type_entry(struct pgm *pgm, handler_type type)
{
	struct handler_type_entry *e = &pgm->handlers.type[TYPE_INDEX(type)];

	return e->tag && e->tag == TYPE_TAG(type) ? e : NULL;
}

static enum status unused_type(struct pgm *pgm, handler_type type)
{
	const struct handler_type_entry *e = handler_type_entry(pgm, type);

	if (!e)
		return NOT_FOUND;
	return e->users ? BUSY : OK;
}

/* A retired handler's last call may still look at the type: the slot is emptied only after a quiet moment. */
enum status pgm_handler_type_deregister(struct pgm *pgm, handler_type type)
{
	struct handler_operation o;
	enum status status;

	if (handler_inside_call(&pgm->handlers))
		return BUSY;
	status = handler_begin(&o, pgm);
	if (status != OK)
		return status;
	status = handler_end_quiet(&o, unused_type(pgm, type));
	if (status != OK)
		return status;
	status = handler_begin(&o, pgm);
	if (status != OK)
		return status;
	status = unused_type(pgm, type);
	if (status == OK)
		handler_type_entry(pgm, type)->tag = 0;
	handler_end(&o);
	return status;
}
