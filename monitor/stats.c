/* SPDX-License-Identifier: Apache-2.0 */
/* The counters of all machines by name: see the header. */
#include "monitor/stats.h"

#include <string.h>

#include "lib/format.h"
#include "mm/chunk_map.h"
#include "mm/counters.h"
#include "mm/frame.h"
#include "monitor/parse.h"
#include "vm/machine.h"

#define NAME_SIZE 128u

struct query {
	struct output *out;
	char pattern[PARSE_LENGTH + 2];
	unsigned count;
	const void *base[STATS_SOURCES]; /* where each source's struct stands; NULL: not now */
};

static void show_row(struct query *q, const char *prefix, const struct stats_row *row, const char *path)
{
	const char *base = q->base[row->source];
	char name[NAME_SIZE];

	format_string(name, sizeof(name), "%s%s", prefix, path);
	if (!parse_glob(q->pattern, name))
		return;
	q->count++;
	output_cell_text(q->out, "%s", name);
	output_cell_number(q->out, __atomic_load_n((const uint64_t *)(base + row->offset), __ATOMIC_RELAXED));
	output_cell_text(q->out, "%s", row->unit);
	output_cell_text(q->out, "%s", row->description);
}

static void show_sources(struct query *q, const char *prefix, enum stats_source first, enum stats_source last)
{
	for (unsigned i = 0; i < stats_row_count; i++)
		if (stats_rows[i].source >= first && stats_rows[i].source <= last)
			show_row(q, prefix, &stats_rows[i], stats_rows[i].path);
}

/* Rows of a vcpu are named PGM/CPU<n>/.. and EXIT/CPU<n>/..: the table's path has the part before and after. */
static void show_vcpu(struct query *q, const struct vcpu *v)
{
	q->base[STATS_VCPU] = v;
	q->base[STATS_EXIT] = v->exits;
	for (unsigned i = 0; i < stats_row_count; i++) {
		const struct stats_row *row = &stats_rows[i];
		char path[NAME_SIZE];

		if (row->source != STATS_VCPU && row->source != STATS_EXIT)
			continue;
		format_string(path, sizeof(path), "/%s/CPU%u/%s", row->source == STATS_EXIT ? "EXIT" : "PGM", v->id,
			      row->path);
		show_row(q, v->machine->name, row, path);
	}
}

static void show_machine(struct query *q, struct machine *m)
{
	struct pgm_usage usage;

	if (!m->pgm)
		return;
	pgm_usage(m->pgm, &usage);
	q->base[STATS_USAGE] = &usage;
	q->base[STATS_PGM] = pgm_counters(m->pgm);
	q->base[STATS_ACCOUNT] = pgm_account(m->pgm);
	q->base[STATS_MACHINE] = m;
	show_sources(q, m->name, STATS_USAGE, STATS_MACHINE);
	for (unsigned i = 0; i < m->vcpu_count; i++)
		show_vcpu(q, m->vcpu[i]);
}

unsigned stats_show(struct output *out, const char *pattern)
{
	bool part = !strchr(pattern, '*') && !strchr(pattern, '?');
	struct chunk_map_totals map;
	struct frame_totals totals;
	struct query q = { .out = out };

	format_string(q.pattern, sizeof(q.pattern), part ? "*%s*" : "%s", pattern);
	frame_totals(&totals);
	q.base[STATS_TOTALS] = &totals;
	q.base[STATS_MM] = &mm_counters;
	chunk_map_totals(&map);
	q.base[STATS_MAP] = &map;
	show_sources(&q, "", STATS_TOTALS, STATS_MAP);
	for (unsigned i = 0; i < machine_count(); i++)
		show_machine(&q, machine_get(i));
	return q.count;
}
