/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Types of handlers: what is called, and how. A handle is a random tag with the slot's number in its low bits; a slot
 * that is used again gets another tag, so an old handle is refused. Each node has all that a call needs of its type, so
 * nothing but operations, under the lock, looks here.
 */
#include "arch/x86_64/cpu.h"
#include "pgm/internal.h"

#define TYPE_INDEX(t) ((t) & (HANDLER_TYPES - 1))
#define TYPE_TAG(t) ((t) & ~(HANDLER_TYPES - 1))
_Static_assert((HANDLER_TYPES & (HANDLER_TYPES - 1)) == 0, "the index is the handle's low bits");

/* Not 0, and not the tag that the slot had last. */
static uint32_t fresh_tag(struct handler_table *t, uint32_t last)
{
	uint32_t tag;

	do {
		t->seed = (t->seed ^ rdtsc()) * UINT64_C(0x9e3779b97f4a7c15);
		tag = TYPE_TAG((uint32_t)(t->seed >> 32));
	} while (!tag || tag == last);
	return tag;
}

enum status pgm_handler_type_register(struct pgm *pgm, enum handler_kind kind, unsigned flags, pgm_handler callback,
				      const char *description, handler_type *out)
{
	struct handler_table *t = &pgm->handlers;
	struct handler_operation o;
	enum status status;
	uint32_t i = 0;

	if (!callback || (unsigned)kind > HANDLER_KIND_WRITE ||
	    (flags & ~(HANDLER_KEEP_LOCK | HANDLER_NOT_IN_HARDWARE)) ||
	    (kind == HANDLER_KIND_MMIO && (flags & HANDLER_NOT_IN_HARDWARE)))
		return BAD_VALUE;
	status = handler_begin(&o, pgm, false);
	while (i < HANDLER_TYPES && t->type[i].tag)
		i++;
	if (status == OK && i == HANDLER_TYPES)
		status = LIMIT;
	if (status == OK) {
		uint32_t tag = fresh_tag(t, t->type[i].last_tag);

		t->type[i].tag = t->type[i].last_tag = tag;
		t->type[i].node = (struct handler_node){ .callback = callback,
							 .kind = (uint8_t)kind,
							 .flags = (uint8_t)flags,
							 .type = (uint8_t)i,
							 .type_description = description };
		*out = tag | i;
	}
	return handler_end(&o, status);
}

struct handler_type_entry *handler_type_entry(struct pgm *pgm, handler_type type)
{
	struct handler_type_entry *e = &pgm->handlers.type[TYPE_INDEX(type)];

	return e->tag && e->tag == TYPE_TAG(type) ? e : NULL;
}

enum status pgm_handler_type_deregister(struct pgm *pgm, handler_type type)
{
	struct handler_type_entry *e = NULL;
	struct handler_operation o;
	enum status status = handler_begin(&o, pgm, true);

	if (status == OK) {
		e = handler_type_entry(pgm, type);
		status = !e ? NOT_FOUND : e->users ? BUSY : OK;
	}
	if (status == OK)
		e->tag = 0;
	return handler_end(&o, status);
}
