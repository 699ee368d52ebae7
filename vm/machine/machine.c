/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The machines of the configuration, one for each section, from boot to poweroff: their list, clocks and consoles. Whether one
 * is there to run is machine/start.c's and machine/end.c's business.
 */
#include <string.h>

#include "arch/x86_64/host.h"
#include "lib/format.h"
#include "vm/machine/board.h"
#include "vm/machine/console.h"
#include "vm/machine/internal.h"
#include "vm/vcpu/vcpu.h"

static struct machine *machines[CONFIG_MAX_MACHINES];
static unsigned count;

enum status machines_create(struct quire_config *config)
{
	fuse_open(config);
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
			struct vcpu *vcpu = machines[i]->vcpu[v];

			if (on)
				__atomic_fetch_or(&vcpu->watch, what, __ATOMIC_RELAXED);
			else
				__atomic_fetch_and(&vcpu->watch, (uint8_t)~what, __ATOMIC_RELAXED);
			vcpu_request(vcpu, REQUEST_EVENT); /* it looks at the word where it takes requests */
		}
	}
}

bool machine_stands_still(const struct machine *m)
{
	return !__atomic_load_n(&m->vcpus_inside, __ATOMIC_ACQUIRE) && machine_state_of(m) == MACHINE_PAUSED;
}

uint64_t machine_now(const struct machine *m)
{
	uint64_t now = machine_stands_still(m) ? m->left_ns : host_now_ns();

	return now > m->clock_base ? now - m->clock_base : 0; /* another CPU's clock may be behind */
}

void machine_vcpu_left(struct machine *m)
{
	m->left_ns = host_now_ns();
	m->left_tsc = rdtsc() - (uint64_t)host_tsc_ahead();
}

bool machines_idle(void)
{
	for (unsigned i = 0; i < count; i++)
		if (machine_state_of(machines[i]) != MACHINE_OFF || machines[i]->postponed)
			return false;
	return true;
}

const char *machine_state_name(const struct machine *m)
{
	static const char *const names[] = { "off", "running", "paused", "ending" };

	return machine_state_of(m) == MACHINE_OFF && m->postponed ? "waiting" : names[machine_state_of(m)];
}

size_t machine_console_input(struct machine *m, const uint8_t *bytes, size_t length)
{
	size_t taken = 0;

	if (machine_state_of(m) != MACHINE_RUNNING)
		return 0;
	lock_acquire(&m->lock);
	taken = board_console_input(m->board, bytes, length);
	lock_release(&m->lock);
	vcpu_request(m->vcpu[0], REQUEST_EVENT | REQUEST_TIMER);
	return taken;
}

enum status machine_button(struct machine *m)
{
	if (machine_state_of(m) != MACHINE_RUNNING)
		return BAD_STATE;
	HOLD(&m->lock);
	board_press_button(m->board);
	return OK;
}

size_t machine_console_output(struct machine *m, uint8_t *bytes, size_t size)
{
	return console_ring_read(m->console, bytes, size);
}
