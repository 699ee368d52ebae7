/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Pause, reset and end. Any CPU may decide that a machine ends, the first reason counts; its vcpus then leave, and the boot
 * CPU takes it apart in bounded steps (machines_reap) or, for a reset, makes it as it was after the start.
 */
#include "arch/x86_64/host.h"
#include "arch/x86_64/log.h"
#include "lib/format.h"
#include "pgm/fusion.h"
#include "pgm/reset.h"
#include "vm/machine/board.h"
#include "vm/machine/internal.h"
#include "vm/machine/schedule.h"

/* Steps of a machine's end between two looks at the monitor. */
#define GIVE_BACK_STEPS 16u

static bool state_change(struct machine *m, enum machine_state from, enum machine_state to)
{
	uint32_t expected = from;

	return __atomic_compare_exchange_n(&m->state, &expected, to, false, __ATOMIC_ACQ_REL, __ATOMIC_ACQUIRE);
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
	if (m->pgm)
		pgm_fusion_leave(m->pgm);
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
	compact_soon();
	return true;
}

void machine_take_apart(struct machine *m)
{
	take_down(m);
	while (!give_back(m))
		;
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
		vcpu_move_tsc(m->vcpu[i], 0 - ticks);
	}
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
	if (machine_state_of(m) != MACHINE_PAUSED)
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
	enum machine_state state = machine_state_of(m);

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

enum status machine_stop(struct machine *m)
{
	if (machine_state_of(m) == MACHINE_OFF) {
		enum status status = m->postponed ? OK : BAD_STATE;

		m->postponed = 0;
		return status;
	}
	__atomic_store_n(&m->stop_asked, 1, __ATOMIC_SEQ_CST);
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
	case END_OPERATOR: format_string(line, size, "vm %s: stopped (stopped by the operator)", m->name); break;
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
	if (board_place_apic(m) != OK)
		return EXPLAIN(CONFLICT, why, size, "the local APIC's page can't go back to its place");
	board_place_windows(m);
	return machine_load(m, why, size);
}

/* A piece of a machine's reset. What can't be loaded again ends as an error. */
static void reset_step(struct machine *m, void (*ended)(struct machine *machine, const char *text))
{
	char line[CONFIG_MAX_NAME + 20], why[MACHINE_END_TEXT] = "";
	enum status status;

	if (__atomic_load_n(&m->stop_asked, __ATOMIC_SEQ_CST)) {
		m->end = END_OPERATOR;
		m->restart = false;
		m->postponed = 0;
		return;
	}
	if (m->postponed && host_now_ns() < m->again_at)
		return;
	machines_worker_enter(); /* it may be moving pages still, by tables that go now */
	status = pgm_reset_step(m->pgm, m->config->zero_ram_on_reset);
	machines_worker_leave();
	if (status == BUSY)
		return;
	status = start_over(m, why, sizeof(why));
	if (machine_postpone(m, status)) {
		machine_vcpu_left(m); /* its clocks stand again */
		return;
	}
	if (status != OK) {
		format_string(m->end_text, sizeof(m->end_text), "reset: %s", why);
		m->end = END_ERROR;
		m->restart = false;
		return;
	}
	format_string(line, sizeof(line), "vm %s: reset", m->name);
	ended(m, line);
	m->restart = false;
	m->msr_complaints = m->timer_complaints = m->window_complaints = 0;
	m->resets++;
	__atomic_store_n(&m->end_decided, 0, __ATOMIC_RELEASE);
	__atomic_store_n(&m->state, MACHINE_RUNNING, __ATOMIC_RELEASE);
	for (unsigned i = 0; i < m->vcpu_count; i++)
		schedule_add(m->vcpu[i]);
	if (__atomic_load_n(&m->stop_asked, __ATOMIC_SEQ_CST)) /* meanwhile, when its end was decided */
		machine_end(m, END_OPERATOR, 0, NULL);
}

bool machines_reap(void (*ended)(struct machine *machine, const char *text))
{
	bool any = false;

	for (unsigned i = 0; i < machine_count(); i++) {
		struct machine *m = machine_get(i);
		char line[MACHINE_END_TEXT + 80];

		if (machine_state_of(m) != MACHINE_ENDED || __atomic_load_n(&m->vcpus_inside, __ATOMIC_ACQUIRE))
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
