/* SPDX-License-Identifier: Apache-2.0 */
/* The counters of all machines by name: see the header. */
#include "monitor/command/stats.h"

#include <string.h>

#include "lib/format.h"
#include "mm/chunk_map.h"
#include "mm/counters.h"
#include "monitor/command/usage.h"
#include "vm/vcpu/nested.h"

#define NAME_SIZE 128u

struct query {
	struct output *out; /* NULL: reset */
	char pattern[PARSE_LENGTH + 2];
	unsigned count;
	void *base[STATS_SOURCES]; /* where each source's struct stands; NULL: not now */
};

/* A number of what is there now can't be set to zero, nor can what other parts go by. */
static bool counts_events(enum stats_source source)
{
	return source == STATS_MM || source == STATS_PRESSURE || source == STATS_PGM || source == STATS_VCPU ||
	       source == STATS_EXIT;
}

static void take(struct query *q, const char *name, enum stats_source source, uint64_t *value, const char *unit,
		 const char *description)
{
	if (!parse_glob(q->pattern, name) || (!q->out && !counts_events(source)))
		return;
	q->count++;
	if (!q->out) {
		__atomic_store_n(value, 0, __ATOMIC_RELAXED);
		return;
	}
	output_row(q->out, TEXT("name", name, 40), NUMBER("value", __atomic_load_n(value, __ATOMIC_RELAXED), 16),
		   TEXT("unit", unit, 6), TEXT("description", description));
}

static void take_row(struct query *q, const char *prefix, const struct stats_row *row, const char *path)
{
	char name[NAME_SIZE];

	format_string(name, sizeof(name), "%s%s", prefix, path);
	take(q, name, row->source, (uint64_t *)((char *)q->base[row->source] + row->offset), row->unit,
	     row->description);
}

static void take_sources(struct query *q, const char *prefix, enum stats_source first, enum stats_source last)
{
	for (unsigned i = 0; i < stats_row_count; i++)
		if (stats_rows[i].source >= first && stats_rows[i].source <= last)
			take_row(q, prefix, &stats_rows[i], stats_rows[i].path);
}

/* What belongs to one kind of exit beside its count: time, and which level it was of. */
static void take_exit(struct query *q, struct vcpu *v, const struct stats_row *row)
{
	size_t kind = row->offset / sizeof(uint64_t);
	struct vcpu_nested *n = v->nested;
	const struct {
		const char *path;
		uint64_t *value;
		const char *unit, *description;
	} more[] = {
		{ "Cycles", &v->exit_ticks[kind], "ticks", "from exit to entry, while stats cycles is on" },
		{ "L2", n ? &n->exits[kind] : NULL, "count", "of these, by the guest of a guest" },
		{ "L2/ToL1", n ? &n->to_l1[kind] : NULL, "count", "of these, handed on to its hypervisor" },
	};
	char path[NAME_SIZE];

	for (unsigned i = 0; i < ARRAY_SIZE(more); i++) {
		format_string(path, sizeof(path), "%s/EXIT/CPU%u/%s/%s", v->machine->name, v->id, row->path,
			      more[i].path);
		if (more[i].value)
			take(q, path, STATS_EXIT, more[i].value, more[i].unit, more[i].description);
	}
}

/* Rows of a vcpu are named PGM/CPU<n>/.. and EXIT/CPU<n>/..: the table's path has the part before and after. */
static void take_vcpu(struct query *q, struct vcpu *v)
{
	q->base[STATS_VCPU] = v;
	for (unsigned i = 0; i < stats_row_count; i++) {
		const struct stats_row *row = &stats_rows[i];
		bool exit = row->source == STATS_EXIT;
		char path[NAME_SIZE];

		if (row->source != STATS_VCPU && !exit)
			continue;
		q->base[STATS_EXIT] = v->exits;
		format_string(path, sizeof(path), "/%s/CPU%u/%s", exit ? "EXIT" : "PGM", v->id, row->path);
		take_row(q, v->machine->name, row, path);
		if (exit)
			take_exit(q, v, row);
	}
}

static void take_machine(struct query *q, struct machine *m)
{
	struct pgm_usage usage = { 0 };
	struct pgm_counters was, now;

	if (!m->pgm)
		return;
	if (q->out && usage_of(m)) /* what is there now can't be reset */
		usage = *usage_of(m);
	q->base[STATS_USAGE] = &usage;
	pgm_counters_sum(m->pgm, &was);
	now = was;
	q->base[STATS_PGM] = &now;
	q->base[STATS_ACCOUNT] = pgm_account(m->pgm);
	q->base[STATS_MACHINE] = m;
	take_sources(q, m->name, STATS_USAGE, STATS_MACHINE);
	pgm_counters_adjust(m->pgm, &was, &now);
	for (unsigned i = 0; i < m->vcpu_count; i++)
		take_vcpu(q, m->vcpu[i]);
}

unsigned stats_take(struct output *out, const char *pattern)
{
	bool part = !strchr(pattern, '*') && !strchr(pattern, '?');
	struct chunk_map_totals map;
	struct frame_totals totals;
	struct query q = { .out = out };

	format_string(q.pattern, sizeof(q.pattern), part ? "*%s*" : "%s", pattern);
	frame_totals(&totals);
	q.base[STATS_TOTALS] = &totals;
	q.base[STATS_MM] = &mm_counters;
	q.base[STATS_PRESSURE] = &pressure_counters;
	chunk_map_totals(&map);
	q.base[STATS_MAP] = &map;
	take_sources(&q, "", STATS_TOTALS, STATS_MAP);
	for (unsigned i = 0; i < machine_count(); i++)
		take_machine(&q, machine_get(i));
	return q.count;
}
