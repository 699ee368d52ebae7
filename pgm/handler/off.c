/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A handler's single pages set free: switched off, or shown as another page, until its reset.
 *
 * An aliased page's record has the frame that it shows and a type of its own; it holds no frame in the sense of the
 * accounts (page_owns_frame). The frame's owner must undo the alias before it lets the frame go.
 */
#include "pgm/internal.h"

/* A page that it covers whole is off in the record; with a type it also shows the frame. CONFLICT: it shows another. */
static enum status set_record(struct handler_operation *o, gpa_t page, enum page_type type, hpa_t frame)
{
	bool alias = type != PAGE_INVALID;
	page_record *r, fresh;
	struct block *b;

	TRY(block_get(o->pgm, page, &b));
	HOLD_BLOCK(b);
	TRY(block_make_detailed(o->pgm, b, page, &o->gather));
	r = page_of(b, page);
	fresh = *r;
	if (alias) {
		page_set_type(&fresh, type);
		page_set(&fresh, PAGE_ALLOCATED, frame);
	}
	page_set_handler(&fresh, HANDLER_DISABLED);
	if (page_is_alias(*r) && fresh.bits != r->bits)
		return CONFLICT;
	if (alias) { /* what was seen here is out of everybody's sight first */
		page_unmap(o->pgm, b, page, &o->gather);
		gather_settle(&o->gather);
	}
	if (type == PAGE_MMIO2_ALIAS_MMIO && !page_is_alias(*r))
		__atomic_fetch_add(&o->pgm->aliases, 1, __ATOMIC_RELAXED);
	*r = fresh;
	return OK;
}

static enum status set_free(struct pgm *pgm, gpa_t first, gpa_t page, enum page_type type, hpa_t frame)
{
	struct handler_operation o;
	struct handler_node *n = &o.node;
	uint64_t last = page.v + PAGE_SIZE - 1;
	enum status status = handler_begin_at(&o, pgm, first, false);

	if (status == OK && (n->kind == HANDLER_KIND_MMIO) != (type != PAGE_INVALID))
		status = NOT_SUPPORTED;
	if (status == OK && (!is_aligned(page.v, PAGE_SIZE) || page.v > n->last || last < n->first))
		status = BAD_VALUE;
	if (status == OK && !handler_open_ends(n, page.v)) {
		status = set_record(&o, page, type, frame);
		n->off |= HANDLER_OFF_WHOLE;
	} else if (status == OK) {
		n->off |= (uint8_t)handler_open_ends(n, page.v);
		handler_mark_area(&o, 0, page.v, page.v);
	}
	handler_put_in(&o, n);
	return handler_end(&o, status);
}

enum status pgm_handler_page_off(struct pgm *pgm, gpa_t first, gpa_t page)
{
	return set_free(pgm, first, page, PAGE_INVALID, hpa(0));
}

enum status pgm_handler_alias_mmio2(struct pgm *pgm, gpa_t first, gpa_t page, gpa_t mmio2_page)
{
	enum status status;
	bool fresh;
	hpa_t frame;

	if (!is_aligned(mmio2_page.v, PAGE_SIZE) || range_type(pgm, mmio2_page) != PAGE_MMIO2)
		return BAD_VALUE;
	/* One more than there is meanwhile, or the page would be taken for one without aliases. */
	__atomic_fetch_add(&pgm->aliases, 1, __ATOMIC_ACQ_REL);
	status = mmio2_alias(pgm, mmio2_page, &frame, &fresh);
	if (status == OK) {
		status = set_free(pgm, first, page, PAGE_MMIO2_ALIAS_MMIO, frame);
		if (status != OK && status != BUSY && fresh)
			mmio2_unalias(pgm, mmio2_page);
	}
	__atomic_fetch_sub(&pgm->aliases, 1, __ATOMIC_RELEASE);
	return status;
}

enum status pgm_handler_alias_frame(struct pgm *pgm, gpa_t first, gpa_t page, hpa_t frame)
{
	if (!is_aligned(frame.v, PAGE_SIZE) || frame.v >> (PAGE_FRAME_BITS + PAGE_SHIFT))
		return BAD_VALUE;
	return set_free(pgm, first, page, PAGE_SPECIAL_ALIAS_MMIO, frame);
}
