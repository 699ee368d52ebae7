/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Machines: start, pause, end. Creation and reaping belong to the boot CPU; a start that fails
 * half-way gives back what it took and says why in one line.
 */
#include "vm/machine.h"

#include <stdarg.h>
#include <string.h>

#include "arch/x86_64/cpu.h"
#include "arch/x86_64/host.h"
#include "arch/x86_64/log.h"
#include "arch/x86_64/percpu.h"
#include "lib/format.h"
#include "pgm/dirty.h"
#include "pgm/reset.h"
#include "vm/board.h"
#include "vm/console.h"
#include "vm/load.h"
#include "vm/schedule.h"

/* Steps of a machine's end between two looks at the monitor. */
#define GIVE_BACK_STEPS 16u

static struct machine *machines[CONFIG_MAX_MACHINES];
static unsigned count;

static enum machine_state state_of(const struct machine *m)
{
	return (enum machine_state)__atomic_load_n(&m->state, __ATOMIC_ACQUIRE);
}

static bool state_change(struct machine *m, enum machine_state from, enum machine_state to)
{
	uint32_t expected = from;

	return __atomic_compare_exchange_n(&m->state, &expected, to, false, __ATOMIC_ACQ_REL, __ATOMIC_ACQUIRE);
}

enum status machines_create(struct quire_config *config)
{
	for (unsigned i = 0; i < config->machine_count; i++) {
		struct machine *m = heap_alloc(sizeof(*m));

		if (!m)
			return NO_MEMORY;
		m->config = &config->machines[i];
		m->index = i;
		format_string(m->name, sizeof(m->name), "%s", config->machines[i].name);
		lock_init(&m->lock, RANK_MACHINE, "machine");
		m->console = heap_alloc(sizeof(*m->console));
		if (!m->console)
			return NO_MEMORY;
		machines[count++] = m;
	}
	return OK;
}

unsigned machine_count(void)
{
	return count;
}

struct machine *machine_get(unsigned index)
{
	return index < count ? machines[index] : NULL;
}

struct machine *machine_find(const char *name)
{
	for (unsigned i = 0; i < count; i++)
		if (!strcmp(machines[i]->name, name))
			return machines[i];
	return NULL;
}

static uint8_t watched;

uint8_t machines_watched(void)
{
	return watched;
}

void machine_watch(struct machine *m, uint8_t what, bool on)
{
	if (!m)
		watched = on ? watched | what : watched & ~what;
	for (unsigned i = 0; i < count; i++) {
		for (unsigned v = 0; machines[i]->pgm && (!m || m == machines[i]) && v < machines[i]->vcpu_count; v++) {
			uint8_t *watch = &machines[i]->vcpu[v]->watch;

			if (on)
				__atomic_fetch_or(watch, what, __ATOMIC_RELAXED);
			else
				__atomic_fetch_and(watch, (uint8_t)~what, __ATOMIC_RELAXED);
		}
	}
}

static bool stands_still(const struct machine *m)
{
	return !__atomic_load_n(&m->vcpus_inside, __ATOMIC_ACQUIRE) && state_of(m) == MACHINE_PAUSED;
}

uint64_t machine_now(const struct machine *m)
{
	return (stands_still(m) ? m->left_ns : host_now_ns()) - m->clock_base;
}

void machine_vcpu_left(struct machine *m)
{
	m->left_ns = host_now_ns();
	m->left_tsc = rdtsc();
}

/*
 * Time goes on where it stood when the last vcpu left, not where somebody asked for the pause: the guest has seen
 * what lies between. All of its clocks do, or it would find its time stamp counter running away from the others.
 */
static void clocks_go_on(struct machine *m)
{
	uint64_t ticks = rdtsc() - m->left_tsc;

	m->clock_base += host_now_ns() - m->left_ns;
	for (unsigned i = 0; i < m->vcpu_count; i++) {
		m->vcpu[i]->hv->tsc_offset -= ticks;
		m->vcpu[i]->hv->tsc_changed = true;
	}
}

/* All CPUs that run this machine with an older generation leave the guest; then they see REQUEST_FLUSH before they enter again. */
static void sync_flush(struct flush_domain *domain, uint64_t generation)
{
	struct machine *m = domain->context;

	for (unsigned i = 0; i < m->vcpu_count; i++) {
		struct vcpu *v = m->vcpu[i];

		if (!v)
			continue;
		vcpu_request(v, REQUEST_FLUSH);
		if (v->cpu == cpu_index())
			continue;
		while (__atomic_load_n(&v->in_guest, __ATOMIC_ACQUIRE) &&
		       __atomic_load_n(&v->flush_seen, __ATOMIC_ACQUIRE) < generation &&
		       (__atomic_load_n(&v->requests, __ATOMIC_ACQUIRE) & REQUEST_FLUSH))
			spin_pause();
	}
}

/* What the vcpus' processors have logged goes into PGM's dirty log. */
static void collect_written(void *context)
{
	struct machine *m = context;

	for (unsigned i = 0; i < m->vcpu_count; i++)
		if (m->vcpu[i])
			hv->collect_written(m->vcpu[i]->hv);
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

static enum status preallocate(struct machine *m, char *why, size_t size)
{
	struct prealloc_progress progress = { .machine = m };
	enum status status = pgm_preallocate(m->pgm, prealloc_progress, &progress);

	if (status != OK)
		format_string(why, size, "ram_preallocate: %llu MiB could not all be had at once: %s",
			      (unsigned long long)(m->config->memory / MIB), status_text(status));
	return status;
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
		.misconfig_exit = hv_capabilities.misconfig_exit,
		.accessed_dirty = hv_capabilities.slat_accessed_dirty,
		.pml = hv_capabilities.pml,
		.priority = (uint8_t)(CONFIG_PRIORITY_HIGH - c->priority + PRIORITY_HIGH),
	};
	enum status status;

	status = pgm_create(&m->pgm, &pc, sync_flush, m, why, size);
	if (status == OK && hv->collect_written)
		pgm_dirty_set_source(m->pgm, collect_written, m);
	return status == OK && c->ram_preallocate ? preallocate(m, why, size) : status;
}

static enum status create_vcpus(struct machine *m)
{
	for (unsigned i = 0; i < m->vcpu_count; i++) {
		unsigned cpu = m->config->cpu == CONFIG_AUTO ? schedule_pick_cpu() : (unsigned)m->config->cpu;
		enum status status = vcpu_create(m, i, cpu, &m->vcpu[i]);

		if (status != OK)
			return status;
		m->vcpu[i]->watch = watched;
		m->vcpu[i]->hv->page_written = pgm_dirty_note;
		m->vcpu[i]->hv->page_context = m->pgm;
		m->vcpu[i]->lapic = board_lapic(m->board, i);
		vcpu_reset(m->vcpu[i]);
	}
	return OK;
}

/* All but the memory, which nobody finds any more. */
static void take_down(struct machine *m)
{
	machines_worker_enter(); /* a flush of its might just be looking at the vcpus */
	for (unsigned i = 0; i < m->vcpu_count; i++) {
		vcpu_destroy(m->vcpu[i]);
		m->vcpu[i] = NULL;
	}
	if (m->board)
		board_destroy(m);
	m->board = NULL;
	if (m->cpuid)
		cpuid_policy_destroy(m->cpuid);
	m->cpuid = NULL;
	m->leaving = m->pgm;
	m->pgm = NULL;
	machines_worker_leave();
}

/* Some steps of giving the memory back; true: that was all. */
static bool give_back(struct machine *m)
{
	enum status status = m->leaving ? BUSY : OK;

	for (unsigned i = 0; i < GIVE_BACK_STEPS && status == BUSY; i++)
		status = pgm_destroy_step(m->leaving);
	if (status == BUSY)
		return false;
	if (status != OK)
		log_line(LOG_ERROR "vm %s: memory was not given back in full: %s", m->name, status_text(status));
	m->leaving = NULL;
	return true;
}

static void destroy(struct machine *m)
{
	take_down(m);
	while (!give_back(m))
		;
}

static enum status build(struct machine *m, char *why, size_t size)
{
	enum status status = create_memory(m, why, size);

	if (status != OK)
		return status;
	m->cpuid = cpuid_policy_create(m);
	status = m->cpuid ? board_create(m) : NO_MEMORY;
	if (status == OK)
		status = create_vcpus(m);
	if (status != OK) {
		format_string(why, size, "%s", status_text(status));
		return status;
	}
	return load_guest(m, why, size);
}

static enum status check_config(const struct machine *m, char *why, size_t size)
{
	const struct config_machine *c = m->config;

	if (c->bad) {
		format_string(why, size, "quire.conf line %u: %s", c->error.line, c->error.text);
		return BAD_VALUE;
	}
	if (c->cpus != 1) {
		format_string(why, size, "cpus = %llu: one vcpu per machine in this version",
			      (unsigned long long)c->cpus);
		return NOT_SUPPORTED;
	}
	if (c->cpu != CONFIG_AUTO && c->cpu >= cpu_count()) {
		format_string(why, size, "cpu = %llu: this host has CPUs 0 to %u", (unsigned long long)c->cpu,
			      cpu_count() - 1);
		return BAD_VALUE;
	}
	return OK;
}

static void start_clock(struct machine *m)
{
	m->clock_base = host_now_ns();
	m->tsc_base = rdtsc();
	m->end_decided = 0;
	m->end_text[0] = 0;
	m->operator_reset = false;
	m->restart = false;
	m->msr_complaints = 0;
}

enum status machine_start(struct machine *m, char *why, size_t size)
{
	enum status status;

	if (state_of(m) != MACHINE_OFF) {
		format_string(why, size, "it is %s already", machine_state_name(m));
		return BAD_STATE;
	}
	status = check_config(m, why, size);
	if (status != OK)
		return status;
	m->vcpu_count = (unsigned)m->config->cpus;
	start_clock(m);
	status = build(m, why, size);
	if (status != OK) {
		destroy(m);
		return status;
	}
	start_clock(m);
	for (unsigned i = 0; i < m->vcpu_count; i++) {
		m->vcpu[i]->hv->tsc_offset = 0 - m->tsc_base;
		m->vcpu[i]->hv->tsc_changed = true;
	}
	m->starts++;
	__atomic_store_n(&m->state, MACHINE_RUNNING, __ATOMIC_RELEASE);
	for (unsigned i = 0; i < m->vcpu_count; i++)
		schedule_add(m->vcpu[i]);
	return OK;
}

static void leave_all(struct machine *m)
{
	for (unsigned i = 0; i < m->vcpu_count; i++)
		vcpu_request(m->vcpu[i], REQUEST_LEAVE);
}

enum status machine_pause(struct machine *m)
{
	if (!state_change(m, MACHINE_RUNNING, MACHINE_PAUSED))
		return BAD_STATE;
	leave_all(m);
	return OK;
}

enum status machine_resume(struct machine *m)
{
	if (state_of(m) != MACHINE_PAUSED)
		return BAD_STATE;
	if (__atomic_load_n(&m->vcpus_inside, __ATOMIC_ACQUIRE))
		return BUSY;
	clocks_go_on(m);
	if (!state_change(m, MACHINE_PAUSED, MACHINE_RUNNING))
		return BAD_STATE;
	for (unsigned i = 0; i < m->vcpu_count; i++)
		schedule_add(m->vcpu[i]);
	return OK;
}

/* Its end is decided: the vcpus leave, the boot CPU does the rest. */
static void let_end(struct machine *m)
{
	__atomic_store_n(&m->state, MACHINE_ENDED, __ATOMIC_RELEASE);
	leave_all(m);
	schedule_wake(0);
}

enum status machine_reset(struct machine *m)
{
	enum machine_state state = state_of(m);

	if (state != MACHINE_RUNNING && state != MACHINE_PAUSED)
		return BAD_STATE;
	if (__atomic_exchange_n(&m->end_decided, 1, __ATOMIC_ACQ_REL))
		return BUSY;
	m->end = END_RESET;
	m->restart = true;
	let_end(m);
	return OK;
}

void machine_end(struct machine *m, enum machine_end end, uint32_t value, const char *text, ...)
{
	va_list args;

	if (__atomic_exchange_n(&m->end_decided, 1, __ATOMIC_ACQ_REL))
		return;
	m->end = (uint8_t)end;
	m->end_value = value;
	if (text) {
		va_start(args, text);
		format_string_v(m->end_text, sizeof(m->end_text), text, args);
		va_end(args);
	}
	let_end(m);
}

enum status machine_stop(struct machine *m, bool again)
{
	enum machine_state state = state_of(m);

	if (state != MACHINE_RUNNING && state != MACHINE_PAUSED)
		return BAD_STATE;
	m->operator_reset = again;
	machine_end(m, END_OPERATOR, 0, NULL);
	return OK;
}

static void end_line(const struct machine *m, char *line, size_t size)
{
	switch ((enum machine_end)m->end) {
	case END_POWEROFF: format_string(line, size, "vm %s: stopped (poweroff)", m->name); break;
	case END_RESET: format_string(line, size, "vm %s: stopped (reset)", m->name); break;
	case END_TRIPLE_FAULT: format_string(line, size, "vm %s: stopped (triple fault)", m->name); break;
	case END_EXIT_PORT:
		format_string(line, size, "vm %s: stopped (exit port 0xf4 value %u)", m->name, m->end_value);
		break;
	case END_OPERATOR:
		format_string(line, size, "vm %s: stopped (%s by the operator)", m->name,
			      m->operator_reset ? "reset" : "stopped");
		break;
	default: format_string(line, size, "vm %s: stopped (error %s)", m->name, m->end_text);
	}
}

/* Memory is as after power-on; now the rest, and the loader again. */
static enum status start_over(struct machine *m, char *why, size_t size)
{
	clocks_go_on(m);
	lock_acquire(&m->lock);
	board_reset(m);
	lock_release(&m->lock);
	m->tsc_base = rdtsc();
	for (unsigned i = 0; i < m->vcpu_count; i++) {
		__atomic_store_n(&m->vcpu[i]->requests, 0, __ATOMIC_RELAXED);
		vcpu_reset(m->vcpu[i]);
	}
	if (board_place_apic(m) != OK) {
		format_string(why, size, "the local APIC's page can't go back to its place");
		return CONFLICT;
	}
	return load_guest(m, why, size);
}

/* A piece of a machine's reset. What can't be loaded again ends as an error. */
static void reset_step(struct machine *m, void (*ended)(struct machine *machine, const char *text))
{
	char line[CONFIG_MAX_NAME + 20], why[MACHINE_END_TEXT] = "";

	if (pgm_reset_step(m->pgm, m->config->zero_ram_on_reset) == BUSY)
		return;
	if (start_over(m, why, sizeof(why)) != OK) {
		format_string(m->end_text, sizeof(m->end_text), "reset: %s", why);
		m->end = END_ERROR;
		m->restart = false;
		return;
	}
	format_string(line, sizeof(line), "vm %s: reset", m->name);
	ended(m, line);
	m->restart = false;
	m->msr_complaints = 0;
	m->resets++;
	__atomic_store_n(&m->end_decided, 0, __ATOMIC_RELEASE);
	__atomic_store_n(&m->state, MACHINE_RUNNING, __ATOMIC_RELEASE);
	for (unsigned i = 0; i < m->vcpu_count; i++)
		schedule_add(m->vcpu[i]);
}

bool machines_reap(void (*ended)(struct machine *machine, const char *text))
{
	bool any = false;

	for (unsigned i = 0; i < count; i++) {
		struct machine *m = machines[i];
		char line[MACHINE_END_TEXT + 80];

		if (state_of(m) != MACHINE_ENDED || __atomic_load_n(&m->vcpus_inside, __ATOMIC_ACQUIRE))
			continue;
		any = true;
		if (m->restart) {
			reset_step(m, ended);
			continue;
		}
		if (!m->leaving)
			take_down(m);
		if (!give_back(m))
			continue;
		end_line(m, line, sizeof(line));
		__atomic_store_n(&m->state, MACHINE_OFF, __ATOMIC_RELEASE);
		ended(m, line);
	}
	return any;
}

bool machines_idle(void)
{
	for (unsigned i = 0; i < count; i++)
		if (state_of(machines[i]) != MACHINE_OFF)
			return false;
	return true;
}

const char *machine_state_name(const struct machine *m)
{
	static const char *const names[] = { "off", "running", "paused", "ending" };

	return names[state_of(m)];
}

size_t machine_console_input(struct machine *m, const uint8_t *bytes, size_t length)
{
	size_t taken = 0;

	if (state_of(m) != MACHINE_RUNNING)
		return 0;
	lock_acquire(&m->lock);
	taken = board_console_input(m->board, bytes, length);
	lock_release(&m->lock);
	vcpu_request(m->vcpu[0], REQUEST_EVENT | REQUEST_TIMER);
	return taken;
}

size_t machine_console_output(struct machine *m, uint8_t *bytes, size_t size)
{
	return console_ring_read(m->console, bytes, size);
}
