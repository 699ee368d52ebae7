/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A machine's start, on the boot CPU: memory, processor policy, devices, vcpus, and what it boots. One that fails half-way
 * gives back what it took and says why in one line.
 */
#include "arch/x86_64/host.h"
#include "arch/x86_64/log.h"
#include "lib/format.h"
#include "pgm/dirty/dirty.h"
#include "vm/machine/board.h"
#include "vm/load/load.h"
#include "vm/machine/internal.h"
#include "vm/vcpu/nested.h"
#include "vm/machine/schedule.h"

/* What the vcpus' processors have logged goes into PGM's dirty log. */
static void collect_written(void *context)
{
	struct machine *m = context;

	for (unsigned i = 0; i < m->vcpu_count; i++) {
		if (!m->vcpu[i])
			continue;
		hv->collect_written(m->vcpu[i]->l1);
		if (m->vcpu[i]->nested)
			hv->collect_written(m->vcpu[i]->nested->state->l2);
	}
}

struct prealloc_progress {
	const struct machine *machine;
	unsigned told; /* quarters */
};

/* A line per quarter of memory that takes long. */
static void prealloc_progress(void *context, uint64_t done, uint64_t total)
{
	struct prealloc_progress *p = context;
	unsigned quarters = (unsigned)(done * 4 / total);

	if (quarters <= p->told || total * PAGE_SIZE < GIB)
		return;
	p->told = quarters;
	log_line("vm %s: %llu of %llu MiB preallocated", p->machine->name, (unsigned long long)(done * PAGE_SIZE / MIB),
		 (unsigned long long)(total * PAGE_SIZE / MIB));
}

/* LIMIT when there isn't so much at once: each further try would take all there is from the others again. */
static enum status preallocate(struct machine *m, char *why, size_t size)
{
	struct prealloc_progress progress = { .machine = m };
	enum status status = pgm_preallocate(m->pgm, prealloc_progress, &progress);

	if (status != OK)
		format_string(why, size, "ram_preallocate: %llu MiB could not all be had at once: %s",
			      (unsigned long long)(m->config->memory / MIB), status_text(status));
	return status_is_shortage(status) ? LIMIT : status;
}

_Static_assert(PRIORITY_LOW - PRIORITY_HIGH == CONFIG_PRIORITY_HIGH - CONFIG_PRIORITY_LOW,
	       "the same three priorities, the other way round");

static enum status create_memory(struct machine *m, char *why, size_t size)
{
	const struct config_machine *c = m->config;
	struct pgm_config pc = {
		.ram = c->memory,
		.ram_hole = c->ram_hole,
		.large_pages = c->large_pages,
		.max_access_handlers = (uint32_t)c->max_access_handlers,
		.slat = hv_capabilities.slat == SLAT_EPT ? &pt_ept4 : &pt_npt4,
		.slat_2m = hv_capabilities.slat_2m,
		.slat_1g = hv_capabilities.slat_1g,
		.large_no_execute = !hv_capabilities.slat_large_execute,
		.misconfig_exit = hv_capabilities.misconfig_exit,
		.accessed_dirty = hv_capabilities.slat_accessed_dirty,
		.pml = hv_capabilities.pml,
		.share_group = fuse_group(m),
		.shadow_frames = c->pool_max_tables == CONFIG_AUTO ? 0 : c->pool_max_tables,
		.priority = (uint8_t)(CONFIG_PRIORITY_HIGH - c->priority + PRIORITY_HIGH),
	};
	enum status status;

	status = pgm_create(&m->pgm, &pc, machine_sync_flush, m, why, size);
	if (status == OK && hv->collect_written)
		pgm_dirty_set_source(m->pgm, collect_written, m);
	return status == OK && c->ram_preallocate ? preallocate(m, why, size) : status;
}

static void note_writes(struct hv_vcpu *level, struct pgm *pgm)
{
	level->page_written = pgm_dirty_note;
	level->page_context = pgm;
}

static enum status create_vcpus(struct machine *m)
{
	for (unsigned i = 0; i < m->vcpu_count; i++) {
		enum status status = vcpu_create(m, i, &m->vcpu[i]);

		if (status == OK)
			status = pgm_vcpu_open(m->pgm, &m->vcpu[i]->counters);
		if (status != OK)
			return status;
		m->vcpu[i]->watch = machines_watched();
		note_writes(m->vcpu[i]->l1, m->pgm);
		if (m->vcpu[i]->nested)
			note_writes(m->vcpu[i]->nested->state->l2, m->pgm);
		m->vcpu[i]->lapic = board_lapic(m->board, i);
		vcpu_reset(m->vcpu[i]);
	}
	return OK;
}

enum status machine_load(struct machine *m, char *why, size_t size)
{
	const struct load_plan plan = {
		.config = m->config, .pgm = m->pgm, .boot = m->vcpu[0]->hv, .vcpu_count = m->vcpu_count
	};

	return load_guest(&plan, why, size);
}

static enum status build(struct machine *m, char *why, size_t size)
{
	enum status status;

	TRY(create_memory(m, why, size));
	m->cpuid = cpuid_policy_create(m);
	status = m->cpuid ? board_create(m) : NO_MEMORY;
	if (status == OK)
		status = create_vcpus(m);
	if (status != OK)
		return EXPLAIN(status, why, size, "%s", status_text(status));
	board_place_windows(m);
	return machine_load(m, why, size);
}

/* Does each CPU of the set exist, and does one of them run what it is given? */
static enum status check_cpus(const struct cpu_set *set, char *why, size_t size)
{
	unsigned last = CPU_SET_SIZE - 1;

	while (!cpu_set_has(set, last))
		last--;
	if (last >= cpu_count() && !cpu_set_is_full(set))
		return EXPLAIN(BAD_VALUE, why, size, "cpu = %u: this host has CPUs 0 to %u", last, cpu_count() - 1);
	if (queues_lightest(set) == CPU_SET_SIZE)
		return EXPLAIN(BAD_VALUE, why, size,
			       "cpu = %u: this CPU was left out when the host started: see the log", last);
	return OK;
}

static enum status check_config(const struct machine *m, char *why, size_t size)
{
	const struct config_machine *c = m->config;

	if (c->bad)
		return EXPLAIN(BAD_VALUE, why, size, "quire.conf line %u: %s", c->error.line, c->error.text);
	if (c->nested && !hv->nested)
		return EXPLAIN(NOT_SUPPORTED, why, size, "nested = on: not on this processor, or not with %s yet",
			       hv->name);
	return check_cpus(&c->cpu, why, size);
}

static void start_clock(struct machine *m)
{
	m->clock_base = host_now_ns();
	m->tsc_base = rdtsc();
	m->end_decided = m->stop_asked = 0;
	m->end_text[0] = 0;
	m->restart = m->balloon_fixed = false;
	m->msr_complaints = m->timer_complaints = m->window_complaints = 0;
}

/* What is promised is there, or with others, who give it back to pressure.c meanwhile; or not, as their guests please. */
#define AGAIN_NS UINT64_C(500000000)
#define AGAIN_MOST 20u

bool machine_postpone(struct machine *m, enum status status)
{
	m->postponed = status_is_shortage(status) && m->postponed < AGAIN_MOST ? m->postponed + 1 : 0;
	m->again_at = host_now_ns() + AGAIN_NS;
	return m->postponed;
}

bool machines_start_again(void (*told)(struct machine *machine, const char *refused))
{
	char why[MACHINE_END_TEXT + CONFIG_ERROR_SIZE];
	bool any = false;

	for (unsigned i = 0; i < machine_count(); i++) {
		struct machine *m = machine_get(i);
		enum status status = BUSY;

		if (m->postponed && machine_state_of(m) == MACHINE_OFF && host_now_ns() >= m->again_at)
			status = machine_start(m, why, sizeof(why));
		if (status != BUSY)
			told(m, status == OK ? NULL : why);
		any |= status != BUSY;
	}
	return any;
}

enum status machine_start(struct machine *m, char *why, size_t size)
{
	enum status status;

	if (machine_state_of(m) != MACHINE_OFF)
		return EXPLAIN(BAD_STATE, why, size, "it is %s already", machine_state_name(m));
	TRY(check_config(m, why, size));
	m->vcpu_count = (unsigned)m->config->cpus;
	start_clock(m);
	m->clock_base = UINT64_MAX; /* 0 for the devices, however long it takes to make them: they count from then on */
	status = build(m, why, size);
	if (status != OK)
		machine_take_apart(m);
	if (machine_postpone(m, status))
		return BUSY;
	TRY(status);
	start_clock(m);
	for (unsigned i = 0; i < m->vcpu_count; i++) {
		vcpu_move_tsc(m->vcpu[i], 0 - m->tsc_base - m->vcpu[i]->l1->tsc_offset);
	}
	m->starts++;
	__atomic_store_n(&m->state, MACHINE_RUNNING, __ATOMIC_RELEASE);
	for (unsigned i = 0; i < m->vcpu_count; i++)
		schedule_add(m->vcpu[i]);
	return OK;
}
