/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A handler's single pages set free: switched off, or shown as another page, until its reset.
 *
 * An aliased page's record has the frame that it shows and a type of its own; it holds no frame in the sense of the
 * accounts (page_owns_frame). The frame's owner must undo the alias before it lets the frame go.
 */
#include "pgm/handler/mark.h"

static bool is_its_page(const struct handler_node *n, gpa_t page)
{
	return is_aligned(page.v, PAGE_SIZE) && page.v <= n->last && page.v + PAGE_SIZE - 1 >= n->first;
}

/* A page that it covers whole: off in the record, which must be there since the page is marked. */
static bool switch_record_off(struct pgm *pgm, gpa_t page)
{
	struct block *b = block_find(pgm, page);
	bool was_on;

	/* handler_mark() made the records when the handler came, and a page with a mark keeps them (block.special). */
	panic_unless(b && block_kind(b) == BLOCK_DETAILED);
	block_lock(b);
	was_on = page_get_handler(*page_of(b, page)) != HANDLER_DISABLED;
	page_set_handler(page_of(b, page), HANDLER_DISABLED);
	block_unlock(b);
	return was_on;
}

enum status pgm_handler_page_off(struct pgm *pgm, gpa_t first, gpa_t page)
{
	struct handler_operation o;
	enum status status = handler_begin_at(&o, pgm, first);

	if (status != OK)
		return status;
	if (handler_is_mmio(pgm, &o.node)) {
		status = NOT_SUPPORTED;
	} else if (!is_its_page(&o.node, page)) {
		status = BAD_VALUE;
	} else if (handler_covers_page(&o.node, page.v)) {
		o.node.pages_off += switch_record_off(pgm, page);
		handler_write_back(&o);
	} else if (!handler_edge_is_off(&o.node, page.v)) {
		o.node.edges_off |= handler_edge(&o.node, page.v);
		o.node.pages_off++;
		handler_write_back(&o);
		handler_remark(&o, page.v, page.v, false);
	}
	handler_end(&o);
	return status;
}

/* Block locked. *fresh: it wasn't shown before. */
static enum status show(struct handler_operation *o, struct block *b, gpa_t page, hpa_t frame, enum page_type type,
			bool *fresh)
{
	enum status status = block_make_detailed(o->pgm, b, page, &o->gather);
	page_record *r, shown = { 0 };

	if (status != OK)
		return status;
	r = page_of(b, page);
	*fresh = !page_is_alias(*r);
	page_set_type(&shown, type);
	page_set(&shown, PAGE_ALLOCATED, frame);
	page_set_handler(&shown, HANDLER_DISABLED);
	if (!*fresh)
		return page_get_type(*r) == type && page_frame(*r).v == frame.v ? OK : CONFLICT;
	slat_drop_page(&o->pgm->slat, b->slot, page, &o->gather);
	gather_settle(&o->gather); /* another frame that was shown here is out of everybody's sight first */
	*r = shown;
	return OK;
}

static enum status alias(struct pgm *pgm, gpa_t first, gpa_t page, hpa_t frame, enum page_type type)
{
	struct handler_operation o;
	bool fresh = false;
	struct block *b;
	enum status status = handler_begin_at(&o, pgm, first);

	if (status != OK)
		return status;
	if (!handler_is_mmio(pgm, &o.node))
		status = NOT_SUPPORTED;
	else
		status = is_its_page(&o.node, page) ? block_get(pgm, page, &b) : BAD_VALUE;
	if (status == OK) {
		block_lock(b);
		status = show(&o, b, page, frame, type, &fresh);
		block_unlock(b);
	}
	if (fresh) {
		o.node.pages_aliased++;
		handler_write_back(&o);
	}
	handler_end(&o);
	return status;
}

/* The frame behind a page of MMIO2 now. */
static enum status mmio2_frame(struct pgm *pgm, gpa_t page, hpa_t *frame)
{
	struct block *b = block_find(pgm, page);
	enum status status = BAD_ADDRESS;
	struct pgm_range range;

	if (!is_aligned(page.v, PAGE_SIZE))
		return BAD_VALUE;
	if (!pgm_range_find(pgm, page, &range) || range.type != PAGE_MMIO2)
		return BAD_VALUE;
	if (!b)
		return BAD_ADDRESS;
	block_lock(b);
	if (block_kind(b) == BLOCK_DETAILED && page_has_frame(*page_of(b, page))) {
		*frame = page_frame(*page_of(b, page));
		status = OK;
	}
	block_unlock(b);
	return status;
}

enum status pgm_handler_alias_mmio2(struct pgm *pgm, gpa_t first, gpa_t page, gpa_t mmio2_page)
{
	enum status status;
	hpa_t frame;

	status = mmio2_frame(pgm, mmio2_page, &frame);
	return status == OK ? alias(pgm, first, page, frame, PAGE_MMIO2_ALIAS_MMIO) : status;
}

enum status pgm_handler_alias_frame(struct pgm *pgm, gpa_t first, gpa_t page, hpa_t frame)
{
	if (!is_aligned(frame.v, PAGE_SIZE) || frame.v >> (PAGE_FRAME_BITS + PAGE_SHIFT))
		return BAD_VALUE;
	return alias(pgm, first, page, frame, PAGE_SPECIAL_ALIAS_MMIO);
}
