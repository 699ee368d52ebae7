/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The one walker. It reads a format's entries from the top, collects the rights of all levels,
 * judges the access once at the leaf, and then sets accessed and dirty bits in place by
 * compare-and-exchange; if an entry changed under it, the whole walk starts again (at most a few times).
 */
#include "pgm/shadow/shadow.h"

#define RETRIES 8u
#define RWX (ACCESS_READ | ACCESS_WRITE | ACCESS_EXECUTE)

enum guest_mode guest_mode_of(uint64_t cr0, uint64_t cr4, uint64_t efer)
{
	bool nx = (efer & EFER_NXE) != 0;

	if (!(cr0 & CR0_PE))
		return MODE_REAL;
	if (!(cr0 & CR0_PG))
		return MODE_PROTECTED;
	if (efer & EFER_LMA)
		return cr4 & CR4_LA57 ? (nx ? MODE_LA57_NX : MODE_LA57) : (nx ? MODE_AMD64_NX : MODE_AMD64);
	if (cr4 & CR4_PAE)
		return nx ? MODE_PAE_NX : MODE_PAE;
	return MODE_32BIT;
}

static const struct {
	const char *name;
	const struct pt_format *format;
} modes[GUEST_MODES] = {
	[MODE_REAL] = { "REAL", NULL },
	[MODE_PROTECTED] = { "PROTECTED", NULL },
	[MODE_32BIT] = { "32BIT", &pt_32bit },
	[MODE_PAE] = { "PAE", &pt_pae },
	[MODE_PAE_NX] = { "PAE_NX", &pt_pae },
	[MODE_AMD64] = { "AMD64", &pt_4level },
	[MODE_AMD64_NX] = { "AMD64_NX", &pt_4level },
	[MODE_LA57] = { "LA57", &pt_5level },
	[MODE_LA57_NX] = { "LA57_NX", &pt_5level },
};

const char *guest_mode_name(enum guest_mode mode)
{
	return (unsigned)mode < GUEST_MODES ? modes[mode].name : "?";
}

const struct pt_format *guest_mode_format(enum guest_mode mode)
{
	return (unsigned)mode < GUEST_MODES ? modes[mode].format : NULL;
}

/* One walk in progress. */
struct walk {
	struct pgm *pgm;
	const struct walk_context *c;
	const struct pt_format *f;
	struct walk_result *r;
	gva_t where;
	unsigned access;
	uint64_t reserved; /* in every entry */
	bool user;         /* the access counts as a user's */
	bool write_ok, user_ok, execute_ok;
};

static enum status fault(struct walk *w, uint32_t code)
{
	bool nx_counts = ((w->c->cr4 & CR4_PAE) && (w->c->efer & EFER_NXE)) || (w->c->cr4 & CR4_SMEP);

	if (w->access & ACCESS_WRITE)
		code |= PF_W;
	if (w->user)
		code |= PF_U;
	if ((w->access & ACCESS_EXECUTE) && nx_counts)
		code |= PF_I;
	w->r->error_code = code;
	return GUEST_FAULT;
}

/* The second translation, if there is one; access: ACCESS_*, and WALK_TABLE for an entry. */
static inline enum status outer(struct walk *w, gpa_t where, unsigned access, gpa_t *to)
{
	enum status status;

	*to = where;
	if (likely(!w->c->outer))
		return OK;
	status = shadow_walk(w->pgm, w->c->outer, where, access | (w->access & (WALK_PEEK | WALK_TRY)), to,
			     &w->r->outer);
	w->r->outer.linear = w->where;
	w->r->outer.linear_valid = true;
	return status;
}

static enum status read_entry(struct walk *w, gpa_t where, uint64_t *entry)
{
	*entry = 0;
	TRY(outer(w, where, ACCESS_READ | WALK_TABLE, &where));
	if (likely(w->f->entry_size == sizeof(*entry)) && likely(pgm_read_entry(w->pgm, where, entry)))
		return OK;
	return pgm_read(w->pgm, where, entry, w->f->entry_size, ORIGIN_GUEST, NULL);
}

/* Bits that must be zero in this entry on this processor and in this mode. */
static uint64_t reserved_bits(const struct walk *w, unsigned level, bool leaf)
{
	const struct pt_format *f = w->f;
	uint64_t reserved = w->reserved | (leaf ? f->reserved_leaf[level] : f->reserved_table[level]);

	if (f->entry_size == 4 && leaf && level == 1 && w->c->physical_bits < 40)
		reserved |= w->c->physical_bits <= 32 ? BITS(21, 13) : BITS(21, 13 + w->c->physical_bits - 32);
	if (level == 2 && (f->large_levels & 1u << 2) && !w->c->page_1g)
		reserved |= f->large;
	if (level >= 2 && !leaf && f->canonical && w->c->bit8_reserved)
		reserved |= f->global;
	return reserved;
}

static bool is_leaf(const struct walk *w, unsigned level, uint64_t entry)
{
	if (w->f == &pt_32bit && level == 1 && !(w->c->cr4 & CR4_PSE))
		return false;
	if (level == 2 && (w->f->large_levels & 1u << 2) && !w->c->page_1g)
		return false;
	return pt_is_leaf(w->f, level, entry);
}

static gpa_t leaf_address(const struct walk *w, unsigned level, uint64_t entry, uint64_t where)
{
	uint64_t offset = BIT(pt_shift(w->f, level)) - 1;
	uint64_t base = entry & w->f->address & ~offset;

	if (w->f->entry_size == 4 && level == 1)
		base |= (entry & BITS(20, 13)) << (32 - 13);
	return gpa(base | (where & offset));
}

/* Rights at the leaf (section 4.6.1). */
static bool allowed(const struct walk *w)
{
	const struct walk_context *c = w->c;
	bool user_page = w->user_ok;

	if (w->access & WALK_PEEK)
		return true;
	if (w->user && !user_page)
		return false;
	if (w->access & ACCESS_EXECUTE) {
		if (!w->execute_ok)
			return false;
		return w->user || !user_page || !(c->cr4 & CR4_SMEP);
	}
	if (!w->user && user_page && (c->cr4 & CR4_SMAP) && ((w->access & WALK_SYSTEM) || !(c->rflags & RFLAGS_AC)))
		return false;
	if ((w->access & ACCESS_WRITE) && !w->write_ok && (w->user || (c->cr0 & CR0_WP)))
		return false;
	return true;
}

/* Protection keys (section 4.6.2): user pages in 64-bit paging, data accesses only. */
static bool key_denies(const struct walk *w, uint64_t leaf)
{
	unsigned key = (unsigned)(leaf >> 59) & 15;
	uint32_t bits = w->c->pkru >> (2 * key) & 3;

	if (!(w->c->cr4 & CR4_PKE) || !(w->c->efer & EFER_LMA) || !w->user_ok ||
	    (w->access & (ACCESS_EXECUTE | WALK_PEEK)))
		return false;
	return (bits & 1) || ((bits & 2) && (w->access & ACCESS_WRITE) && (w->user || (w->c->cr0 & CR0_WP)));
}

/* Sets `bits` in an entry that was read as `seen`. BUSY: it has changed meanwhile. */
static enum status set_bits(struct walk *w, const struct walk_step *step, uint64_t bits)
{
	uint64_t seen = 0;
	enum status status;
	gpa_t where;

	if ((step->entry & bits) == bits)
		return OK;
	status = outer(w, step->where, ACCESS_READ | ACCESS_WRITE | WALK_TABLE, &where);
	if (unlikely(status != OK))
		return status;
	status = pgm_compare_exchange(w->pgm, where, step->entry, step->entry | bits, w->f->entry_size, &seen);
	if (status == HANDLER || status == BAD_ADDRESS)
		return OK; /* a table in ROM or in nothing keeps its bits, as on a real bus */
	return status == OK && seen != step->entry ? BUSY : status;
}

static uint64_t marks(const struct pt_format *f, unsigned access, const struct walk_result *r, unsigned index)
{
	if (f == &pt_pae && r->step[index].level == 2)
		return 0;
	return f->accessed | (index + 1 == r->steps && (access & ACCESS_WRITE) ? f->dirty : 0);
}

uint64_t guest_walk_marks(const struct walk_context *c, unsigned access, const struct walk_result *r, unsigned index)
{
	const struct pt_format *f = guest_mode_format(guest_mode_of(c->cr0, c->cr4, c->efer));

	return f ? marks(f, access, r, index) : 0;
}

static enum status update_accessed_dirty(struct walk *w)
{
	struct walk_result *r = w->r;
	enum status status = OK;

	if (w->access & (WALK_PEEK | WALK_TRY))
		return OK;
	for (unsigned i = 0; i < r->steps && status == OK; i++)
		status = set_bits(w, &r->step[i], marks(w->f, w->access, r, i));
	return status;
}

static enum status at_leaf(struct walk *w, gva_t where, unsigned level, uint64_t entry)
{
	enum status status;
	bool key;

	w->r->level = level;
	w->r->entry = entry;
	w->r->inner = w->r->gpa = gpa(leaf_address(w, level, entry, where.v).v & ~w->c->a20_mask);
	/* The key's flag tells of the key alone, whatever else forbids the access (section 4.7). */
	key = key_denies(w, entry);
	if (key || !allowed(w))
		return fault(w, PF_P | (key ? PF_PK : 0));
	status = update_accessed_dirty(w);
	return status == OK ? outer(w, w->r->inner, w->access & RWX, &w->r->gpa) : status;
}

static enum status descend(struct walk *w, gva_t where)
{
	const struct pt_format *f = w->f;
	uint64_t table = w->c->cr3 & (f == &pt_32bit ? BITS(31, 12) : f == &pt_pae ? BITS(31, 5) : f->address);
	uint64_t in_all = ~UINT64_C(0), in_any = 0;

	w->r->steps = 0;
	for (unsigned level = f->levels - 1u;; level--) {
		struct walk_step *step = &w->r->step[w->r->steps++];
		enum status status = OK;
		bool leaf;

		step->level = (uint8_t)level;
		step->where = gpa((table + (uint64_t)pt_index(f, level, where.v) * f->entry_size) & ~w->c->a20_mask);
		if (f == &pt_pae && level == 2)
			step->entry = w->c->pdpte[pt_index(f, level, where.v)];
		else
			status = read_entry(w, step->where, &step->entry);
		if (status != OK)
			return status;
		if (!(step->entry & f->present))
			return fault(w, 0);
		leaf = is_leaf(w, level, step->entry);
		if (step->entry & reserved_bits(w, level, leaf))
			return fault(w, PF_P | PF_RSVD);
		if (f != &pt_pae || level != 2) {
			in_all &= step->entry;
			in_any |= step->entry;
		}
		if (leaf) {
			w->write_ok = in_all & f->write;
			w->user_ok = in_all & f->user;
			w->execute_ok = !(in_any & f->no_execute);
			return at_leaf(w, where, level, step->entry);
		}
		table = step->entry & f->address;
	}
}

enum status guest_walk(struct pgm *pgm, const struct walk_context *context, gva_t where, unsigned access,
		       struct walk_result *result)
{
	const struct pt_format *f = guest_mode_format(guest_mode_of(context->cr0, context->cr4, context->efer));
	struct walk w = { .pgm = pgm,
			  .c = context,
			  .f = f,
			  .r = result,
			  .where = where,
			  .access = access,
			  .user = context->cpl == 3 && !(access & WALK_SYSTEM) };
	enum status status = BUSY;

	if (!f) {
		result->inner = gpa(where.v & BITS(31, 0) & ~context->a20_mask);
		result->steps = 0;
		result->level = 0;
		result->entry = 0;
		return outer(&w, result->inner, access & RWX, &result->gpa);
	}
	w.reserved = f->entry_size == 8 ? BITS(51, 12) & ~(BIT(context->physical_bits) - 1) : 0;
	if (!(context->efer & EFER_NXE))
		w.reserved |= f->no_execute;
	if (f->canonical ? sign_extend(where.v, f->linear_bits) != where.v : where.v >> f->linear_bits)
		return BAD_VALUE;
	for (unsigned i = 0; status == BUSY && i < RETRIES; i++)
		status = descend(&w, where);
	return status;
}
