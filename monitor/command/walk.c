/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Commands that follow addresses through tables: the guest's, and below them the second level's. While a guest of a guest runs (L2),
 * its hypervisor's own second-level tables (L1's) come between the two. pgmassertcr3, which goes through all of a guest's tables,
 * stands in assert.c.
 */
#include <string.h>

#include "monitor/command/assert.h"
#include "monitor/command/command.h"
#include "monitor/command/memory_map.h"
#include "monitor/command/registers.h"
#include "pgm/shadow/shadow.h"
#include "pgm/slat/tables.h"
#include "vm/vcpu/nested.h"

#define TOP_ENTRIES_MOST 1024u

/* What an entry's bits mean in this format: "P W U A D PS G NX". */
static void entry_flags(const struct pt_format *f, uint64_t entry, char *text, size_t size)
{
	const struct {
		uint64_t mask;
		const char *name;
	} flags[] = { { f->present, "P" }, { f->write, "W" },  { f->user, "U" },   { f->accessed, "A" },
		      { f->dirty, "D" },   { f->large, "PS" }, { f->global, "G" }, { f->no_execute, "NX" } };
	size_t used = 0;

	text[0] = 0;
	for (unsigned i = 0; i < ARRAY_SIZE(flags); i++) {
		size_t length = strlen(flags[i].name);

		if (!(entry & flags[i].mask) || used + length + 2 > size)
			continue;
		if (used)
			text[used++] = ' ';
		memcpy(text + used, flags[i].name, length + 1);
		used += length;
	}
}

static void show_steps(struct output *out, const struct pt_format *format, const struct walk_result *result,
		       uint64_t where)
{
	output_table_begin(out, "steps");
	for (unsigned i = 0; format && i < result->steps && i < PT_MAX_LEVELS; i++) {
		const struct walk_step *step = &result->step[i];
		char flags[32];

		entry_flags(format, step->entry, flags, sizeof(flags));
		output_row(out, NUMBER_OF(*step, level, 5), NUMBER("index", pt_index(format, step->level, where), 5),
			   HEX("table_entry_at", step->where.v, 16), HEX_OF(*step, entry, 18), TEXT("flags", flags));
	}
	output_table_end(out);
}

static void show_slat_of(struct output *out, struct pgm *pgm, const char *what, gpa_t where)
{
	static const char *const rights[] = { "-", "R", "W", "RW", "X", "RX", "WX", "RWX" };
	struct pgm_table_step step[PT_MAX_LEVELS];
	unsigned count = pgm_tables_walk(pgm, where, step);

	for (unsigned i = 0; i < count; i++)
		output_row(out, TEXT("of", what, 8), HEX("gpa", where.v, 14), NUMBER_OF(step[i], level, 5),
			   HEX("slat_entry_at", step[i].where.v, 14), HEX_OF(step[i], entry, 18),
			   TEXT("grants", rights[step[i].rights & 7]));
}

static void show_outer_of(struct output *out, struct pgm *pgm, const struct hv_nested_slat *outer, const char *what,
			  gpa_t where)
{
	struct hv_nested_fault fault;
	struct shadow_path path = { .steps = 0 };
	enum status status = shadow_path(pgm, outer, NULL, where, ACCESS_READ | WALK_PEEK, &path, &fault);

	for (unsigned i = 0; i < path.steps && i < PT_MAX_LEVELS; i++)
		output_row(out, TEXT("of", what, 8), HEX("l2_gpa", where.v, 14), NUMBER_OF(path.step[i], level, 5),
			   HEX("l1_entry_at", path.step[i].where.v, 14), HEX_OF(path.step[i], entry, 18),
			   TEXT("leads", status == OK ? "on" : "nowhere"));
}

/* L2's addresses in L1's tables, from their root. */
static void show_outer(struct output *out, struct pgm *pgm, const struct hv_nested_slat *outer, enum status status,
		       const struct walk_result *result)
{
	output_table_begin(out, "outer");
	for (unsigned i = 0; i < result->steps && i < PT_MAX_LEVELS; i++)
		show_outer_of(out, pgm, outer, "table", result->step[i].where);
	if (status == OK)
		show_outer_of(out, pgm, outer, "page", result->inner);
	output_table_end(out);
}

/* What the processor walks at each step of the guest's walk, too: the second-level tables, from the root. */
static void show_slat(struct output *out, struct pgm *pgm, const struct hv_nested_slat *outer, enum status status,
		      const struct walk_result *result)
{
	struct hv_nested_fault fault;

	output_table_begin(out, "slat");
	for (unsigned i = 0; i < result->steps && i < PT_MAX_LEVELS; i++) {
		gpa_t where = result->step[i].where;

		if (!outer || shadow_walk(pgm, outer, where, ACCESS_READ | WALK_PEEK, &where, &fault) == OK)
			show_slat_of(out, pgm, "table", where);
	}
	if (status == OK)
		show_slat_of(out, pgm, "page", result->gpa);
	output_table_end(out);
}

static void show_outcome(struct output *out, struct machine *m, enum status status, const struct walk_result *result)
{
	if (status == GUEST_FAULT)
		output_text(out, "result", "page fault, error code 0x%x", result->error_code);
	else if (status == BAD_VALUE)
		output_text(out, "result", "not a canonical address");
	else if (status != OK)
		output_text(out, "result", "%s", status_text(status));
	if (status != OK)
		return;
	output_text(out, "result", "mapped");
	output_hex(out, "gpa", result->gpa.v);
	memory_page_show(out, m, result->gpa);
}

static void walk(struct output *out, char *const *argument)
{
	struct vcpu *v = command_vcpu(out, argument[0]);
	struct walk_result result = { 0 };
	struct walk_context context;
	enum guest_mode mode;
	enum status status;
	struct machine *m;
	uint64_t where;
	bool now;

	if (!v || !command_number(out, argument[1], "address", &where))
		return;
	m = v->machine;
	now = registers_fetch(v);
	registers_walk_context(v, &context);
	context.outer = now && vcpu_outer(v) ? &v->nested->state->slat : NULL;
	mode = guest_mode_of(context.cr0, context.cr4, context.efer);
	output_fields(out, HEX("gva", where), TEXT("level", vcpu_in_l2(v) ? "L2" : "L1"),
		      TEXT("registers", registers_seen(now)), TEXT("mode", guest_mode_name(mode)),
		      HEX_OF(context, cr3));
	status = guest_walk(m->pgm, &context, gva(where), ACCESS_READ | WALK_PEEK, &result);
	show_steps(out, guest_mode_format(mode), &result, where);
	if (context.outer)
		show_outer(out, m->pgm, context.outer, status, &result);
	show_slat(out, m->pgm, context.outer, status, &result);
	show_outcome(out, m, status, &result);
}

/* ---- info pgmcr3 ---- */
/* Entry `index` of the table that CR3 names; false: it can't be read. */
static bool top_entry(struct pgm *pgm, const struct walk_context *c, const struct pt_format *f, unsigned index,
		      uint64_t *entry)
{
	uint64_t table = c->cr3 & (f == &pt_32bit ? BITS(31, 12) : f->address);

	*entry = 0;
	if (f == &pt_pae) {
		*entry = c->pdpte[index];
		return true;
	}
	return pgm_read_simple(pgm, gpa((table + index * f->entry_size) & ~c->a20_mask), entry, f->entry_size) == OK;
}

static uint64_t reach_of(const struct pt_format *f, unsigned index)
{
	uint64_t first = (uint64_t)index << pt_shift(f, f->levels - 1u);

	return f->canonical && first >> (f->linear_bits - 1) ? first | ~(BIT(f->linear_bits) - 1) : first;
}

static void show_top(struct output *out, struct pgm *pgm, const struct walk_context *c, const struct pt_format *f)
{
	output_table_begin(out, "entries");
	for (unsigned i = 0; f && i < 1u << f->top_index_bits && i < TOP_ENTRIES_MOST; i++) {
		uint64_t entry;
		char flags[32];

		if (!top_entry(pgm, c, f, i, &entry) || !(entry & f->present))
			continue;
		entry_flags(f, entry, flags, sizeof(flags));
		output_row(out, NUMBER("index", i, 5), HEX("first_gva", reach_of(f, i), 18), HEX("entry", entry, 18),
			   TEXT("flags", flags));
	}
	output_table_end(out);
}

static void info_pgmcr3(struct output *out, char *const *argument)
{
	struct vcpu *v = command_vcpu(out, argument[0]);
	struct walk_context context;
	enum guest_mode mode;
	bool now;

	if (!v)
		return;
	now = registers_fetch(v);
	registers_walk_context(v, &context);
	mode = guest_mode_of(context.cr0, context.cr4, context.efer);
	output_fields(out, TEXT("registers", registers_seen(now)), TEXT("mode", guest_mode_name(mode)),
		      HEX_OF(context, cr3), HEX("slat_root", v->hv->slat_root.v));
	if (!guest_mode_format(mode))
		output_note(out, "no paging: linear addresses are guest-physical ones");
	show_top(out, v->machine->pgm, &context, guest_mode_format(mode));
}

/* ---- pgmassertcr3 ---- */
static void pgmassertcr3(struct output *out, char *const *argument)
{
	struct vcpu *v = command_vcpu(out, argument[0]);

	if (v)
		assert_begin(out, v);
}

static const struct command commands[] = {
	{ "info pgmcr3", "NAME[/VCPU]", 1, 1, "the guest's topmost table of pages", info_pgmcr3 },
	{ "walk", "NAME[/VCPU] GVA", 2, 2, "translate a guest-linear address, level by level, and at the second level",
	  walk },
	{ "pgmassertcr3", "NAME[/VCPU]", 1, 1,
	  "check second-level tables along all of the guest's tables; Ctrl-C ends it", pgmassertcr3 },
};

const struct command_table commands_walk = { commands, ARRAY_SIZE(commands) };
