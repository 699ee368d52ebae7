/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Periodic interrupts that a machine owes its guest. See tick.c. Under the device lock, as all of a device.
 */
#ifndef DEV_TICK_H
#define DEV_TICK_H

#include "dev/bus.h"
#include "dev/clock.h"

/* One periodic source; embedded in its device. */
struct tick_debt {
	struct tick_debt *next; /* the bus's list */
	uint32_t owed, in_row;  /* paid since the last one that came by itself */
	enum irq_fate (*raise)(void *device);
	void *device;
};

/* From creation to destruction of the device. */
void tick_open(struct bus *bus, struct tick_debt *debt);
void tick_close(struct bus *bus, struct tick_debt *debt);
/* The source was programmed anew: nothing of the old is owed. */
void tick_forget(struct tick_debt *debt);
/* `count` (1 at least) periods are over: raises one, and owes those that could not be. */
void tick_due(struct bus *bus, struct tick_debt *debt, uint64_t count);
/* The same where one has been raised already. */
void tick_owe(struct bus *bus, struct tick_debt *debt, uint64_t count);
/* The guest has taken an interrupt, so one that is owed may find its place free. */
void tick_pay(struct bus *bus);

/* Periods between a timer's deadline and now, from 1 on; 1 too where the period is below the floor. */
static inline uint64_t tick_periods(uint64_t deadline, uint64_t now, uint64_t period)
{
	return period < TIMER_MINIMUM_PERIOD || now < deadline ? 1 : (now - deadline) / period + 1;
}

#endif
