/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Goes through the tables that a vcpu's CR3 names, whatever their format, and for each page that they lead to
 * compares the second-level entry with the record. The guest runs on meanwhile, so its tables are read
 * piece by piece, and what they say is believed only for where to look. At the end the whole of the machine's
 * records is checked, as `check` does it.
 */
#include "monitor/command/assert.h"

#include <string.h>

#include "monitor/command/command.h"
#include "monitor/command/registers.h"
#include "pgm/shadow/shadow.h"
#include "pgm/slat/tables.h"
#include "vm/vcpu/nested.h"

#define PIECE 64u /* entries read at once */
#define STEP_ENTRIES 4096u
#define TABLES_MOST 65536u /* tables that name one another could lead on for ever */

struct level {
	uint64_t table;
	unsigned index;
	uint8_t piece[PIECE * sizeof(uint64_t)];
};

static struct {
	struct machine *machine;
	const struct vcpu *vcpu;
	struct walk_context context;
	struct hv_nested_slat outer;    /* of an L2's tables: where L1 puts them; !on: nowhere else */
	const struct pt_format *format; /* NULL: no paging, or done */
	struct level level[PT_MAX_LEVELS];
	unsigned at; /* level that is being read */
	uint64_t tables, lost_tables, leaves, ram, elsewhere, findings;
	struct pgm_check check; /* comes last */
} work;

static void count_finding(void *context, const char *line)
{
	output_note(context, "%s", line);
}

static void enter(unsigned level, uint64_t table)
{
	work.tables++;
	work.at = level;
	work.level[level].table = table;
	work.level[level].index = 0;
}

static unsigned entries_of(unsigned level)
{
	return 1u << (level + 1u == work.format->levels ? work.format->top_index_bits : work.format->index_bits);
}

/* An address in the guest's tables → the machine's. False: L1's tables don't lead there. */
static bool through(gpa_t *where)
{
	struct hv_nested_fault fault;

	where->v &= ~work.context.a20_mask;
	return !work.outer.on ||
	       shadow_walk(work.machine->pgm, &work.outer, *where, ACCESS_READ | WALK_PEEK, where, &fault) == OK;
}

/* The next entry of the level at work; 0 where no memory is. */
static uint64_t take_entry(struct level *l)
{
	unsigned size = work.format->entry_size, slot = l->index % PIECE;
	gpa_t where = gpa(l->table + l->index * size);
	uint64_t entry = 0;

	if (work.format == &pt_pae && work.at == 2)
		return work.context.pdpte[l->index++];
	if (!slot &&
	    !(through(&where) && pgm_read_simple(work.machine->pgm, where, l->piece, (size_t)PIECE * size) == OK)) {
		memset(l->piece, 0, sizeof(l->piece));
		work.lost_tables += !l->index;
	}
	memcpy(&entry, l->piece + slot * size, size);
	l->index++;
	return entry;
}

static void take_leaf(struct output *out, unsigned level, uint64_t entry)
{
	uint64_t reach = BIT(pt_shift(work.format, level));
	gpa_t where = gpa(entry & work.format->address & ~(reach - 1));
	struct pgm_range range;

	work.leaves++;
	if (!through(&where) || !pgm_range_find(work.machine->pgm, where, &range)) {
		work.elsewhere++;
		return;
	}
	work.ram++;
	work.findings += pgm_check_page(work.machine->pgm, where, count_finding, out);
}

/* One entry more; false: all tables are done. */
static bool advance(struct output *out)
{
	struct level *l = &work.level[work.at];
	uint64_t entry;

	if (l->index == entries_of(work.at)) {
		work.at++;
		return work.at < work.format->levels;
	}
	entry = take_entry(l);
	if (!(entry & work.format->present))
		return true;
	if (pt_is_leaf(work.format, work.at, entry))
		take_leaf(out, work.at, entry);
	else if (work.tables < TABLES_MOST)
		enter(work.at - 1, entry & work.format->address);
	return true;
}

/* The vcpu must run with one of the two roots that are this machine's, or an L2 with one that is composed for it. */
static unsigned check_root(struct output *out)
{
	const struct vcpu *v = work.vcpu;
	uint64_t root = v->hv->slat_root.v;

	if (v->a20_mask || root == pgm_slat_root(work.machine->pgm).v || root == pgm_empty_root().v ||
	    (vcpu_outer(v) && v->nested->root && root == shadow_root_address(v->nested->root).v))
		return 0;
	output_note(out, "the vcpu's second-level root is 0x%lx, not the machine's", root);
	return 1;
}

static bool step(struct output *out, bool cancelled)
{
	bool more = work.format != NULL;

	for (unsigned i = 0; more && !cancelled && i < STEP_ENTRIES; i++)
		more = advance(out);
	if (!more)
		work.format = NULL;
	if (!cancelled && (more || pgm_check_step(work.machine->pgm, &work.check) == BUSY))
		return true;
	if (!cancelled)
		work.findings += check_root(out) + work.check.findings;
	output_fields(out, BOOL("complete", !cancelled && work.tables < TABLES_MOST), NUMBER_OF(work, tables),
		      NUMBER("tables_outside_memory", work.lost_tables), NUMBER_OF(work, leaves),
		      NUMBER("leaves_in_memory", work.ram), NUMBER("leaves_elsewhere", work.elsewhere));
	output_phrase(out, "errors", "pgmassertcr3: ", work.findings, " errors");
	return false;
}

void assert_begin(struct output *out, struct vcpu *v)
{
	memset(&work, 0, sizeof(work));
	work.machine = v->machine;
	work.vcpu = v;
	work.check.report = count_finding;
	work.check.context = out;
	(void)registers_fetch(v);
	registers_walk_context(v, &work.context);
	if (vcpu_outer(v))
		work.outer = v->nested->state->slat;
	work.format = guest_mode_format(guest_mode_of(work.context.cr0, work.context.cr4, work.context.efer));
	if (work.format)
		enter(work.format->levels - 1u, work.format == &pt_32bit ? work.context.cr3 & BITS(31, 12)
									 : work.context.cr3 & work.format->address);
	command_go_on(step);
}
