/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A machine's balloon: its device and the monitor on one side, its memory on the other. The device's calls come under the
 * machine's lock, the monitor's take it. What a guest names wrongly is passed over and counted (/PGM/Page/BalloonRefused).
 */
#include "vm/machine/internal.h"
#include "vm/machine/parts.h"
#include "vm/vcpu/vcpu.h"

static enum status inflate(void *context, const uint32_t *page, unsigned count)
{
	return pgm_balloon(((struct machine *)context)->pgm, true, page, count) == NO_MEMORY ? NO_MEMORY : OK;
}

static enum status deflate(void *context, const uint32_t *page, unsigned count)
{
	return pgm_balloon(((struct machine *)context)->pgm, false, page, count) == NO_MEMORY ? NO_MEMORY : OK;
}

static enum status discard(void *context, gpa_t from, uint64_t length)
{
	pgm_discard(((struct machine *)context)->pgm, from, length);
	return OK;
}

static const struct balloon_memory memory = { .inflate = inflate, .deflate = deflate, .discard = discard };

enum status board_open_balloon(struct machine *m)
{
	return m->config->balloon ? balloon_create(&m->bus, m->board->pci, &memory, m, &m->board->balloon) : OK;
}

/* The machine's, with its lock held; NULL: it doesn't run, or has none. */
static struct balloon *take(struct machine *m)
{
	if (!m->board || !m->board->balloon)
		return NULL;
	lock_acquire(&m->lock);
	return m->board->balloon;
}

static void leave(struct machine *m)
{
	if (m->vcpu[0])
		machine_look_at_timers(m);
	lock_release(&m->lock);
}

void machine_balloon_set(struct machine *m, uint64_t pages)
{
	struct balloon *b = take(m);

	if (!b)
		return;
	balloon_ask(b, (uint32_t)pages);
	leave(m);
}

enum status machine_balloon_ask(struct machine *m, uint64_t bytes)
{
	bool fixed = bytes != BALLOON_AUTO;

	if (!m->board || !m->board->balloon)
		return NOT_SUPPORTED;
	if (fixed && bytes > m->config->memory)
		return BAD_VALUE;
	m->balloon_fixed = fixed;
	if (fixed)
		machine_balloon_set(m, bytes / PAGE_SIZE);
	else
		pressure_lent();
	return OK;
}

enum status machine_balloon_collect(struct machine *m)
{
	struct balloon *b = take(m);
	enum status status;

	if (!b)
		return NOT_SUPPORTED;
	status = balloon_collect(b);
	leave(m);
	return status;
}

enum status machine_balloon_describe(struct machine *m, struct balloon_info *info)
{
	struct balloon *b = take(m);

	if (!b)
		return NOT_SUPPORTED;
	balloon_describe(b, info);
	if (machine_state_of(m) == MACHINE_RUNNING) /* it writes to the guest's memory */
		balloon_poll(b);
	leave(m);
	return OK;
}
