/* SPDX-License-Identifier: Apache-2.0 */
/*
 * MMIO that moves: BARs. A device says under the machine's lock where it wants its windows; putting them there is PGM's work, for
 * which no lock may be held that a handler takes. So every vcpu is asked to, and does it before it enters its guest again: the one that
 * moved the BAR finds it in its new place, and the first to come does it for all.
 *
 * What must go goes first, then what is free comes: two BARs can change places. One that doesn't fit in (memory or another window
 * is there, or the host has none for the handler) isn't seen, and is tried again at the next move of any.
 */
#include "arch/x86_64/log.h"
#include "vm/machine/parts.h"
#include "vm/vcpu/vcpu.h"

static uint64_t wanted(const struct mmio_window *w)
{
	return __atomic_load_n(&w->wanted, __ATOMIC_ACQUIRE);
}

static void take_away(struct machine *m, struct mmio_window *w)
{
	if (w->base == MMIO_NOWHERE || w->base == wanted(w))
		return;
	if (pgm_handler_deregister(m->pgm, gpa(w->base)) == OK)
		w->base = MMIO_NOWHERE;
}

static void put(struct machine *m, struct mmio_window *w)
{
	uint64_t at = wanted(w);
	enum status status;

	if (w->base != MMIO_NOWHERE || at == MMIO_NOWHERE)
		return;
	w->base = at;
	status = pgm_handler_register(m->pgm, m->board->mmio_type, gpa(at), gpa(at + w->size - 1), w, w->name);
	if (status == OK)
		return;
	w->base = MMIO_NOWHERE;
	if (!m->window_complaints++)
		log_line(LOG_WARNING "vm %s: %s can't be at %#lx: %s", m->name, w->name, at, status_text(status));
}

void board_place_windows(struct machine *m)
{
	struct board *b = m->board;

	while (__atomic_exchange_n(&b->placing, 1, __ATOMIC_ACQUIRE))
		spin_pause();
	for (struct mmio_window *w = b->moving; w; w = w->next)
		take_away(m, w);
	for (struct mmio_window *w = b->moving; w; w = w->next)
		put(m, w);
	__atomic_store_n(&b->placing, 0, __ATOMIC_RELEASE);
}

void bus_window_open(void *context, struct mmio_window *window)
{
	struct machine *m = context;

	window->context = m;
	window->next = m->board->moving;
	m->board->moving = window;
}

/* While the machine is put together or reset no vcpu is there to ask: who does that places them. */
void bus_windows_moved(void *context)
{
	struct machine *m = context;

	for (unsigned i = 0; i < m->vcpu_count; i++)
		if (m->vcpu[i])
			vcpu_request(m->vcpu[i], REQUEST_WINDOWS);
}
