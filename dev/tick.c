/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Ticks that are made up for. While its machine doesn't run, a periodic source's interrupts fall due and nobody takes them; the
 * clocks go on, and a guest that counts ticks by a clock finds them missing (Linux at boot: "IO-APIC + timer doesn't work").
 * So they are owed, and come one after the other, each as soon as the guest has taken the one before it, and before it
 * gets on. What a guest loses by its own doing, with interrupts off or masked, it loses as on a PC.
 *
 * A guest for which a tick takes long must get on all the same. Behind one that came by itself others do for half a period, at
 * most MOST_IN_ROW; after a gap AT_LEAST in any case, for guests try at boot whether a timer ticks at all (Linux: five in 76 ms,
 * which may be all gap). What is owed beyond MOST_OWED is lost. Both are counted in the bus.
 */
#include "dev/bus.h"

#define MOST_OWED 1000u
#define MOST_IN_ROW 32u
#define AT_LEAST 8u

void tick_open(struct bus *bus, struct tick_debt *debt)
{
	debt->next = bus->debts;
	debt->listed = true;
	bus->debts = debt;
}

void tick_forget(struct tick_debt *debt)
{
	debt->owed = debt->in_row = 0;
}

/* One has just come by itself, after which so many others are missing. */
static void begin_row(struct bus *bus, struct tick_debt *debt, uint64_t missing, uint64_t period)
{
	debt->in_row = 0;
	debt->at_least = missing > 1 ? AT_LEAST : 0;
	debt->until = bus->now(bus->context) + period / 2;
}

void tick_owe(struct bus *bus, struct tick_debt *debt, uint64_t count, uint64_t period)
{
	uint32_t room = MOST_OWED - debt->owed, more = (uint32_t)min_u64(count, room);

	begin_row(bus, debt, count, period);
	debt->owed += more;
	__atomic_fetch_add(&bus->ticks_lost, count - more, __ATOMIC_RELAXED);
	if (debt->listed && debt->owed)
		__atomic_store_n(&bus->ticks_owed, true, __ATOMIC_RELAXED);
}

void tick_due(struct bus *bus, struct tick_debt *debt, uint64_t count, uint64_t period)
{
	enum irq_fate fate = debt->raise(debt->device);

	if (fate == IRQ_UNHEARD)
		tick_forget(debt);
	else if (count > 1 || debt->owed)
		tick_owe(bus, debt, count - (fate == IRQ_TAKEN), period);
}

static bool may_pay(const struct bus *bus, const struct tick_debt *debt)
{
	return debt->owed && debt->in_row < MOST_IN_ROW &&
	       (debt->in_row < debt->at_least || bus->now(bus->context) < debt->until);
}

void tick_pay_one(struct bus *bus, struct tick_debt *debt)
{
	enum irq_fate fate;

	if (!may_pay(bus, debt))
		return;
	fate = debt->raise(debt->device);
	if (fate == IRQ_UNHEARD)
		tick_forget(debt);
	if (fate != IRQ_TAKEN)
		return;
	debt->owed--;
	debt->in_row++;
	__atomic_fetch_add(&bus->ticks_made_up, 1, __ATOMIC_RELAXED);
}

void tick_pay(struct bus *bus)
{
	bool owed = false;

	for (struct tick_debt *debt = bus->debts; debt; debt = debt->next) {
		tick_pay_one(bus, debt);
		owed |= debt->owed != 0;
	}
	__atomic_store_n(&bus->ticks_owed, owed, __ATOMIC_RELAXED);
}
