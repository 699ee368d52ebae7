/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The names that a guest has given, in an array that doubles when it is full, so that each way through it is short: by a binary search.
 * What the array takes is promised to the machine before, by its account for tables. All under pgm->lock.
 */
#include <string.h>

#include "pgm/internal.h"

_Static_assert(PGM_MAX_GPA >> PAGE_SHIFT <= BIT(40) && MODULE_PAGES < BIT(24), "a region's fields have room");
_Static_assert(MODULES_MOST * sizeof(struct module) <= BLOCK_SIZE / 2, "the array is one piece of the heap");

/* Where it is, or belongs. */
static unsigned place_of(const struct modules *s, uint64_t name)
{
	unsigned first = 0, end = s->count;

	while (first < end) {
		unsigned middle = (first + end) / 2;

		if (s->module[middle].name < name)
			first = middle + 1;
		else
			end = middle;
	}
	return first;
}

static struct module *find(const struct modules *s, uint64_t name)
{
	unsigned at = place_of(s, name);

	return at < s->count && s->module[at].name == name ? &s->module[at] : NULL;
}

static void let_wait(struct modules *s, struct module *m, enum module_look look)
{
	unsigned waiting = s->waiting - (m->look != MODULE_SEEN) + (look != MODULE_SEEN);

	m->look = look;
	__atomic_store_n(&s->waiting, waiting, __ATOMIC_RELAXED);
}

static enum status grow(struct pgm *pgm, struct modules *s)
{
	unsigned more = s->pages ? s->pages : 1;
	struct module *array = heap_alloc((s->pages + more) * PAGE_SIZE);
	enum status status = array ? account_adjust(&pgm->account, ACCOUNT_TABLE, more) : NO_MEMORY;

	if (status != OK) {
		heap_free(array, (s->pages + more) * PAGE_SIZE);
		return status;
	}
	if (s->count)
		memcpy(array, s->module, s->count * sizeof(*array));
	heap_free(s->module, s->pages * PAGE_SIZE);
	s->module = array;
	s->pages += more;
	return OK;
}

static enum status insert(struct pgm *pgm, struct modules *s, uint64_t name)
{
	unsigned at = place_of(s, name);

	if (s->count == MODULES_MOST)
		return LIMIT;
	if (s->count == s->pages * PAGE_SIZE / sizeof(*s->module))
		TRY(grow(pgm, s));
	memmove(&s->module[at + 1], &s->module[at], (s->count - at) * sizeof(*s->module));
	s->module[at] = (struct module){ .name = name };
	s->count++;
	return OK;
}

enum status pgm_module_add(struct pgm *pgm, uint64_t name, gpa_t base, uint64_t pages)
{
	struct modules *s = &pgm->modules;
	struct pgm_range range;
	struct module *m;
	unsigned i = 0;

	if (!pgm->config.share_group)
		return NOT_SUPPORTED;
	if (!is_aligned(base.v, PAGE_SIZE) || !pages || pages > MODULE_PAGES || !pgm_range_find(pgm, base, &range) ||
	    range.type != PAGE_RAM || pages > (range.base + range.size - base.v) / PAGE_SIZE)
		return BAD_ADDRESS;
	HOLD(&pgm->lock);
	if (!find(s, name))
		TRY(insert(pgm, s, name));
	m = find(s, name);
	while (i < MODULE_REGIONS && m->region[i].pages && m->region[i].page != base.v >> PAGE_SHIFT)
		i++;
	if (i == MODULE_REGIONS)
		return LIMIT;
	m->region[i].page = base.v >> PAGE_SHIFT;
	m->region[i].pages = pages;
	let_wait(s, m, MODULE_FRESH);
	return OK;
}

enum status pgm_module_remove(struct pgm *pgm, uint64_t name)
{
	struct modules *s = &pgm->modules;
	struct module *m;

	HOLD(&pgm->lock);
	m = find(s, name);
	if (!m)
		return NOT_FOUND;
	let_wait(s, m, MODULE_SEEN);
	s->count--;
	memmove(m, m + 1, (size_t)(&s->module[s->count] - m) * sizeof(*m));
	return OK;
}

static bool region_of(const struct module *m, unsigned index, struct module_region *r)
{
	if (!m || index >= MODULE_REGIONS || !m->region[index].pages)
		return false;
	*r = (struct module_region){ m->name, m->region[index].page << PAGE_SHIFT, m->region[index].pages, index };
	return true;
}

bool pgm_module_get(struct pgm *pgm, struct module_region *region)
{
	const struct modules *s = &pgm->modules;
	unsigned at;

	HOLD(&pgm->lock);
	if (region_of(find(s, region->name), region->index, region))
		return true;
	at = place_of(s, region->name);
	at += region->index && find(s, region->name);
	return at < s->count && region_of(&s->module[at], 0, region);
}

bool modules_next(struct pgm *pgm, struct fusion *f)
{
	struct modules *s = &pgm->modules;
	struct module_region r = { .name = f->name };
	bool more;

	HOLD(&pgm->lock);
	more = region_of(find(s, f->name), f->region + 1, &r);
	for (unsigned i = place_of(s, f->name) + 1; !more && s->waiting; i++) {
		struct module *m = &s->module[i % s->count];

		f->fresh = m->look == MODULE_FRESH;
		if (m->look != MODULE_SEEN)
			more = region_of(m, 0, &r);
		let_wait(s, m, MODULE_SEEN);
	}
	if (more)
		*f = (struct fusion){ .cursor = r.base,
				      .end = r.base + r.pages * PAGE_SIZE,
				      .name = r.name,
				      .region = r.index,
				      .fresh = f->fresh && !r.index };
	return more;
}

void modules_wake(struct pgm *pgm, uint64_t name)
{
	struct module *m;

	HOLD(&pgm->lock);
	m = find(&pgm->modules, name);
	if (m && m->look == MODULE_SEEN)
		let_wait(&pgm->modules, m, MODULE_WOKEN);
}

void modules_clear(struct pgm *pgm)
{
	HOLD(&pgm->lock);
	pgm->modules.count = 0;
	__atomic_store_n(&pgm->modules.waiting, 0, __ATOMIC_RELAXED);
}
