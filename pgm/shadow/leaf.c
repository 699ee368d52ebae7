/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Composed leaves: never more than L1's tables and the first ones grant, the smaller of both, entered in the reverse map and put in
 * under the lock of the block that they show; so whoever narrows the first tables finds them.
 *
 * Dirty: whoever reads dirty bits reads them in the first tables. What may be written through a composed entry is dirty
 * there; and in L1's own tables, if it keeps such bits: until then the right to write is withheld.
 */
#include "pgm/shadow/fill.h"

uint64_t fill_derive(struct fill *f, const struct side *l1, unsigned access, unsigned *level)
{
	const struct hv_nested_slat *key = &f->root->key;
	const struct slat *first = &f->pgm->slat;
	unsigned first_level, rights;
	uint64_t *entry = slat_find_in(first, f->block->slot, l1->target, &first_level), value = *entry, leaf;
	uint64_t offset = l1->target.v & (BIT(pt_shift(f->format, first_level)) - 1);
	uint64_t trap = key->traps ? key->trapped.v ^ l1->target.v : ~UINT64_C(0);

	if (!(trap >> PAGE_SHIFT))
		return 0;
	rights = slat_rights(first, value) & f->path->rights;
	*level = l1->level && first_level && (trap >> BLOCK_SHIFT);
	if (*level)
		rights &= first->large_access;
	if (misconfig_is_mark(f->pgm, value) || !rights || (access & ~rights))
		return 0;
	if (access & ACCESS_WRITE) {
		__atomic_fetch_or(entry, f->format->dirty, __ATOMIC_RELAXED);
		dirty_written(f->pgm, l1->target); /* a processor's own list would have L2's address */
	} else if (!(value & f->format->dirty) || (key->accessed_dirty && !(l1->entry & f->format->dirty))) {
		rights &= ~ACCESS_WRITE;
	}
	leaf = (slat_frame(first, first_level, value).v + offset) & ~((*level ? BLOCK_SIZE : PAGE_SIZE) - 1);
	leaf |= f->format->rights_bits[rights] | f->format->accessed | f->format->dirty;
	leaf |= key->on ? l1->entry & f->format->type_mask : f->format->type_bits[MEMORY_TYPE_WB];
	/* Our own leaves can always be read. */
	return (rights & ACCESS_READ ? leaf : leaf & ~f->format->read) | (*level ? f->format->large : 0);
}

enum status fill_install(struct fill *f, struct shadow_table *t, unsigned index, gpa_t target, uint64_t leaf)
{
	const struct pt_format *s = f->format;
	uint64_t *entry = &t->entry[index], old = __atomic_load_n(entry, __ATOMIC_RELAXED);

	TRY(old ? OK : reverse_add(f->pgm, f->block, target, entry, t->level, &f->gather));
	if (old && ((old & ~leaf & (s->present | s->read | s->write | s->execute)) | (leaf & ~old & s->no_execute)))
		gather_flush(&f->gather);
	if (!old)
		__atomic_fetch_or(&t->live, BIT(index / SHADOW_CHUNK), __ATOMIC_RELAXED);
	__atomic_store_n(entry, leaf, __ATOMIC_RELEASE);
	return OK;
}

/* Neighbours in L1's table that differ from the path's leaf in their address only. */
static unsigned neighbours(const struct fill *f, uint64_t entry)
{
	/* An accessed bit that L1 keeps is set where the path ends, and must be here. */
	const uint64_t alike =
		~(f->format->address | f->format->dirty | (f->root->key.accessed_dirty ? 0 : f->format->accessed));
	unsigned found = 0;

	for (unsigned i = 0; i < GROUP; i++)
		found |= (unsigned)!((f->near[i] ^ entry) & alike) << i;
	return found;
}

/* Parts of the same leaf, or neighbours in L1's table with the same rights: those that the first tables map already. */
void fill_around(struct fill *f, struct shadow_table *t, unsigned index)
{
	const struct walk_step *step = step_of(f->path, f->path->level);
	unsigned first = index & ~(GROUP - 1), level,
		 left = t->source ? neighbours(f, step->entry) : BITS(GROUP - 1, 0);

	for (left &= ~(1u << index % GROUP); left; left &= left - 1) {
		unsigned near = (unsigned)__builtin_ctz(left), i = first + near;
		struct side l1 = { .entry = t->source ? f->near[near] : step ? step->entry : 0 };
		uint64_t leaf;

		if (__atomic_load_n(&t->entry[i], __ATOMIC_RELAXED))
			continue;
		l1.target = t->source ? gpa(l1.entry & f->format->address) : shadow_target(t, i);
		if ((l1.target.v ^ f->path->target.v) >> BLOCK_SHIFT)
			continue;
		leaf = fill_derive(f, &l1, 0, &level);
		if (!leaf)
			continue;
		if (t->source)
			t->source[i] = l1.entry;
		if (fill_install(f, t, i, l1.target, leaf) != OK)
			return;
	}
}
