/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Pins: a page that someone outside (a device, a mapping of the emulator's, hardware later) holds by its frame. While it is pinned
 * the frame stays behind the page: it isn't moved, shared, ballooned, collapsed or taken away.
 *
 * Pins are rare, so a record has one bit only; who pinned a page, and how often to read and to write, stands in this side
 * table, one entry per page and owner, counted in 32 bits that never wrap. The bit is set exactly while the table has an entry
 * for the page; both are changed under the block's lock, the table under its own besides.
 */
#include "lib/format.h"
#include "pgm/internal.h"

static struct pin **bucket_of(struct pins *pins, gpa_t page)
{
	return &pins->bucket[(page.v >> PAGE_SHIFT) * UINT64_C(0x9e3779b97f4a7c15) >> 56];
}
_Static_assert(PIN_BUCKETS == 256, "a bucket is eight bits of the hash");

/* Under the table's lock: the link to the entry, or to the end. */
static struct pin **find(struct pins *pins, gpa_t page, const char *owner)
{
	struct pin **link = bucket_of(pins, page);

	while (*link && ((*link)->page.v != page.v || (owner && (*link)->owner != owner)))
		link = &(*link)->next;
	return link;
}

static uint32_t *count_of(struct pin *pin, bool write)
{
	return write ? &pin->writes : &pin->reads;
}

static uint64_t *pages_of(struct pins *pins, bool write)
{
	return write ? &pins->write_pages : &pins->read_pages;
}

/* *fresh is used and becomes NULL if the page has no entry of this owner yet. */
static enum status pin_add(struct pins *pins, gpa_t page, bool write, const char *owner, struct pin **fresh)
{
	HOLD(&pins->lock);
	struct pin **link = find(pins, page, owner);
	if (*link ? *count_of(*link, write) == UINT32_MAX : pins->count >= PIN_LIMIT)
		return LIMIT;
	if (!*link) {
		(*fresh)->page = page;
		(*fresh)->owner = owner;
		*link = *fresh;
		*fresh = NULL;
		pins->count++;
	}
	*pages_of(pins, write) += (*count_of(*link, write))++ == 0;
	return OK;
}

/* NOT_FOUND: not pinned so. *left: the page has other pins. *gone: an entry to be freed. */
static enum status pin_remove(struct pins *pins, gpa_t page, bool write, const char *owner, bool *left,
			      struct pin **gone)
{
	enum status status = NOT_FOUND;

	HOLD(&pins->lock);
	struct pin **link = find(pins, page, owner);
	if (*link && *count_of(*link, write)) {
		status = OK;
		*pages_of(pins, write) -= --*count_of(*link, write) == 0;
		if (!(*link)->reads && !(*link)->writes) {
			*gone = *link;
			*link = (*link)->next;
			pins->count--;
		}
	}
	*left = *find(pins, page, NULL) != NULL;
	return status;
}

/* Locked and detailed: may this page be pinned, and has it a frame of its own? */
static enum status make_pinnable(struct pgm *pgm, struct block *b, gpa_t page, bool write, struct gather *gather)
{
	page_record *r = page_of(b, page);
	enum page_type type = page_get_type(*r);
	enum page_handler handler = page_get_handler(*r);

	if (type == PAGE_INVALID || type == PAGE_MMIO)
		return BAD_ADDRESS;
	if (handler == HANDLER_ALL || (write && handler == HANDLER_WRITE))
		return HANDLER;
	if (write && type == PAGE_ROM)
		return DENIED;
	return page_get_state(*r) == PAGE_BALLOONED ? CONFLICT : page_own(pgm, b, page, gather);
}

/* What a write through the pin does to the record, and to the dirty log: at its begin and at its end; see also pins_note(). */
static void note_write(struct pgm *pgm, gpa_t page, page_record *r)
{
	dirty_written(pgm, page);
	if (page_get_state(*r) == PAGE_MONITORED)
		page_set(r, PAGE_ALLOCATED, page_frame(*r));
	r->bits |= PAGE_WRITTEN;
}

static enum status pin_locked(struct pgm *pgm, struct block *b, gpa_t page, bool write, const char *owner,
			      struct pin **fresh, struct gather *gather)
{
	struct pgm_range range;
	enum status status;

	if (block_kind(b) == BLOCK_UNTOUCHED && !pgm_range_find(pgm, page, &range))
		return BAD_ADDRESS;
	status = block_make_detailed(pgm, b, page, gather);
	if (status == OK)
		status = make_pinnable(pgm, b, page, write, gather);
	if (status == OK)
		status = pin_add(&pgm->pins, page, write, owner, fresh);
	if (status != OK)
		return status;
	page_of(b, page)->bits |= PAGE_PINNED;
	if (write)
		note_write(pgm, page, page_of(b, page));
	b->flags &= ~(uint32_t)BLOCK_COLLAPSING;
	return OK;
}

enum status pgm_pin(struct pgm *pgm, gpa_t where, bool write, const char *owner, hpa_t *frame)
{
	gpa_t page = gpa(align_down(where.v, PAGE_SIZE));
	struct pin *fresh = heap_alloc(sizeof(*fresh));
	struct gather gather;
	enum status status;
	struct block *b;

	if (!fresh)
		return NO_MEMORY;
	status = block_get(pgm, page, &b);
	if (status == OK) {
		gather_begin(&gather, &pgm->flush, &pgm->account);
		block_lock(b);
		status = pin_locked(pgm, b, page, write, owner, &fresh, &gather);
		if (status == OK)
			*frame = page_frame(*page_of(b, page));
		block_unlock(b);
		gather_finish(&gather);
		handy_settle(pgm, local_of(pgm));
	}
	heap_free(fresh, sizeof(*fresh));
	return status;
}

enum status pgm_unpin(struct pgm *pgm, gpa_t where, bool write, const char *owner)
{
	gpa_t page = gpa(align_down(where.v, PAGE_SIZE));
	struct block *b = block_find(pgm, page);
	struct pin *gone = NULL;
	enum status status;
	bool left;

	if (!b)
		return NOT_FOUND;
	block_lock(b);
	status = pin_remove(&pgm->pins, page, write, owner, &left, &gone);
	if (status == OK) {
		/* A pinned page's records stay: no collapse, reset or removal takes them (PAGE_PINNED), and pins end before the machine. */
		panic_unless(block_kind(b) == BLOCK_DETAILED);
		if (write && page_has_frame(*page_of(b, page))) /* MMIO2 may have moved away from under it */
			note_write(pgm, page, page_of(b, page));
		if (!left)
			page_of(b, page)->bits &= ~PAGE_PINNED;
	}
	block_unlock(b);
	heap_free(gone, sizeof(*gone));
	return status;
}

bool pgm_pin_find(struct pgm *pgm, gpa_t where, struct pgm_pin_info *out)
{
	struct pin *pin;

	*out = (struct pgm_pin_info){ 0 };
	HOLD(&pgm->pins.lock);
	for (pin = *bucket_of(&pgm->pins, gpa(align_down(where.v, PAGE_SIZE))); pin; pin = pin->next) {
		if (pin->page.v != align_down(where.v, PAGE_SIZE))
			continue;
		out->reads += pin->reads;
		out->writes += pin->writes;
		out->owner = pin->owner;
		out->owners++;
	}
	return out->owners != 0;
}

void pgm_pin_totals(struct pgm *pgm, uint64_t *read_pages, uint64_t *write_pages)
{
	HOLD(&pgm->pins.lock);
	*read_pages = pgm->pins.read_pages;
	*write_pages = pgm->pins.write_pages;
}

void pins_note(struct pgm *pgm, uint64_t first, uint64_t count)
{
	HOLD(&pgm->pins.lock);
	for (unsigned i = 0; pgm->pins.write_pages && i < PIN_BUCKETS; i++)
		for (const struct pin *pin = pgm->pins.bucket[i]; pin; pin = pin->next)
			if (pin->writes && (pin->page.v >> PAGE_SHIFT) - first < count)
				pgm_dirty_note(pgm, pin->page);
}

void pins_destroy(struct pgm *pgm)
{
	if (pgm->pins.count)
		log_line(LOG_ERROR "pgm: %u pages were still pinned at the machine's end", pgm->pins.count);
	for (unsigned i = 0; i < PIN_BUCKETS; i++) {
		while (pgm->pins.bucket[i]) {
			struct pin *pin = pgm->pins.bucket[i];

			pgm->pins.bucket[i] = pin->next;
			heap_free(pin, sizeof(*pin));
		}
	}
	pgm->pins.count = 0;
}
