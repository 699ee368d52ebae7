/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A bus for device tests. Linked into every unit test, also those without devices, so it calls
 * the port table and the timers through weak references.
 */
#include <stdlib.h>
#include <string.h>

#include "common/fake_bus.h"

#pragma weak port_table_create
#pragma weak bus_close
#pragma weak port_read
#pragma weak port_write
#pragma weak timer_run
#pragma weak timer_next
#pragma weak tick_pay

static uint64_t fake_now(void *context)
{
	return ((struct fake_bus *)context)->time;
}

/* Not taken twice, and not released by who hasn't got it. */
static void fake_lock(void *context)
{
	struct fake_bus *fake = context;

	if (fake->locked)
		abort();
	fake->locked = true;
	fake->locks++;
}

static void fake_unlock(void *context)
{
	struct fake_bus *fake = context;

	if (!fake->locked)
		abort();
	fake->locked = false;
}

static enum irq_fate fake_set_irq(void *context, unsigned line, bool level)
{
	struct fake_bus *fake = context;
	bool rising;

	if (line >= 24)
		abort();
	rising = level && !fake->level[line];
	fake->level[line] = level;
	if (!rising)
		return IRQ_UNHEARD;
	fake->edges[line]++;
	if (fake->deaf)
		return IRQ_UNHEARD;
	if (fake->waiting[line])
		return IRQ_MERGED;
	fake->waiting[line] = true;
	return IRQ_TAKEN;
}

static void fake_event(void *context, enum machine_event event, uint32_t value)
{
	struct fake_bus *fake = context;

	fake->events++;
	fake->event = event;
	fake->value = value;
}

static void fake_console(void *context, const uint8_t *bytes, size_t length)
{
	struct fake_bus *fake = context;

	for (size_t i = 0; i < length; i++)
		fake->console[fake->console_length++ % sizeof(fake->console)] = bytes[i];
}

static void fake_debug(void *context, uint8_t byte)
{
	struct fake_bus *fake = context;

	fake->debug[fake->debug_length++ % sizeof(fake->debug)] = byte;
}

static enum status fake_map(void *context, gpa_t where, uint64_t size, const struct mmio_ops *ops, void *device,
			    const char *name)
{
	return OK;
}

static bool may_access(struct fake_bus *fake)
{
	if (fake->memory_budget > 0)
		fake->memory_budget--;
	else if (!fake->memory_budget)
		return false;
	return true;
}

static enum status fake_memory_read(void *context, gpa_t from, void *to, size_t length)
{
	struct fake_bus *fake = context;

	if (!fake->memory)
		return BAD_ADDRESS;
	if (!may_access(fake))
		return NO_MEMORY;
	memset(to, 0xff, length);
	for (size_t i = 0; i < length && from.v + i < fake->memory_size; i++)
		((uint8_t *)to)[i] = fake->memory[from.v + i];
	return OK;
}

static enum status fake_memory_write(void *context, gpa_t to, const void *from, size_t length)
{
	struct fake_bus *fake = context;

	if (!fake->memory)
		return BAD_ADDRESS;
	if (!may_access(fake))
		return NO_MEMORY;
	for (size_t i = 0; i < length && to.v + i < fake->memory_size; i++)
		fake->memory[to.v + i] = ((const uint8_t *)from)[i];
	return OK;
}

static void fake_window_open(void *context, struct mmio_window *window)
{
	struct fake_bus *fake = context;

	window->next = fake->windows;
	fake->windows = window;
}

static void fake_windows_moved(void *context)
{
	((struct fake_bus *)context)->moves++;
}

static enum irq_fate fake_msi(void *context, uint64_t address, uint32_t data)
{
	struct fake_bus *fake = context;

	fake->messages++;
	fake->message_address = address;
	fake->message_data = data;
	return IRQ_TAKEN;
}

struct mmio_window *fake_bus_find(struct fake_bus *fake, uint64_t where)
{
	for (struct mmio_window *w = fake->windows; w; w = w->next)
		if (w->wanted != MMIO_NOWHERE && where >= w->wanted && where - w->wanted < w->size)
			return w;
	return NULL;
}

uint64_t mmio_in(struct fake_bus *fake, uint64_t where, unsigned size)
{
	const struct mmio_window *w = fake_bus_find(fake, where);

	return (w ? w->ops->read(w->device, where - w->wanted, size) : UINT64_MAX) & ~UINT64_C(0) >> (64 - 8 * size);
}

void mmio_out(struct fake_bus *fake, uint64_t where, unsigned size, uint64_t value)
{
	const struct mmio_window *w = fake_bus_find(fake, where);

	if (w)
		w->ops->write(w->device, where - w->wanted, size, value & ~UINT64_C(0) >> (64 - 8 * size));
}

void fake_bus_open(struct fake_bus *fake)
{
	memset(fake, 0, sizeof(*fake));
	fake->bus.context = fake;
	fake->bus.now = fake_now;
	fake->bus.lock = fake_lock;
	fake->bus.unlock = fake_unlock;
	fake->bus.set_irq = fake_set_irq;
	fake->bus.event = fake_event;
	fake->bus.console_write = fake_console;
	fake->bus.debug_write = fake_debug;
	fake->bus.map_mmio = fake_map;
	fake->memory_budget = -1;
	fake->bus.window_open = fake_window_open;
	fake->bus.windows_moved = fake_windows_moved;
	fake->bus.msi = fake_msi;
	fake->bus.memory_read = fake_memory_read;
	fake->bus.memory_write = fake_memory_write;
	if (port_table_create(&fake->bus) != OK)
		abort();
}

void fake_bus_close(struct fake_bus *fake)
{
	bus_close(&fake->bus);
}

bool fake_bus_take_one(struct fake_bus *fake, unsigned line)
{
	if (!fake->waiting[line])
		return false;
	fake->waiting[line] = false;
	tick_pay(&fake->bus);
	return true;
}

unsigned fake_bus_take(struct fake_bus *fake, unsigned line)
{
	unsigned taken = 0;

	while (fake_bus_take_one(fake, line))
		taken++;
	return taken;
}

void fake_bus_stand_still(struct fake_bus *fake, uint64_t nanoseconds)
{
	fake->time += nanoseconds;
	timer_run(&fake->bus.timers, fake->time);
	if (fake->run_more)
		fake->run_more(fake->time);
}

static uint64_t next_timer(const struct fake_bus *fake)
{
	uint64_t next = timer_next(&fake->bus.timers), more = fake->more_next ? fake->more_next() : UINT64_MAX;

	return more < next ? more : next;
}

void fake_bus_advance(struct fake_bus *fake, uint64_t nanoseconds)
{
	uint64_t end = fake->time + nanoseconds, next;

	while ((next = next_timer(fake)) <= end) {
		if (next > fake->time)
			fake->time = next;
		fake_bus_stand_still(fake, 0);
	}
	fake->time = end;
}

uint8_t in8(struct fake_bus *fake, uint16_t port)
{
	return (uint8_t)port_read(&fake->bus, port, 1);
}

void out8(struct fake_bus *fake, uint16_t port, uint8_t value)
{
	port_write(&fake->bus, port, 1, value);
}
