/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Delivery of interrupt messages among the APICs of one machine. Bounded by the number of its processors.
 * No state but the list and who last got a lowest-priority message.
 */
#include "dev/apic/bus.h"
#include "dev/apic/lapic.h"

void apic_bus_attach(struct apic_bus *apic_bus, struct lapic *lapic)
{
	struct lapic **link = &apic_bus->first;

	while (*link)
		link = &(*link)->next;
	lapic->next = NULL;
	*link = lapic;
}

void apic_bus_detach(struct apic_bus *apic_bus, struct lapic *lapic)
{
	struct lapic **link = &apic_bus->first;

	while (*link && *link != lapic)
		link = &(*link)->next;
	if (*link)
		*link = lapic->next;
	if (apic_bus->last_chosen == lapic)
		apic_bus->last_chosen = NULL;
}

static bool addressed(const struct apic_message *message, const struct lapic *lapic, const struct lapic *sender)
{
	switch (message->shorthand) {
	case SHORTHAND_SELF: return lapic == sender;
	case SHORTHAND_ALL: return true;
	case SHORTHAND_OTHERS: return lapic != sender;
	default: return lapic_addressed(lapic, message->destination, message->logical, message->wide);
	}
}

/* The addressed APIC with the lowest priority; among equals the one after who was chosen last. */
static struct lapic *choose_lowest(struct apic_bus *apic_bus, const struct apic_message *message,
				   const struct lapic *sender)
{
	struct lapic *best = NULL;
	bool behind = false, best_behind = false;

	for (struct lapic *lapic = apic_bus->first; lapic; lapic = lapic->next) {
		if (lapic_accepts(lapic) && addressed(message, lapic, sender)) {
			uint8_t priority = lapic_processor_priority(lapic);
			uint8_t best_priority = best ? lapic_processor_priority(best) : 0xff;

			if (!best || priority < best_priority ||
			    (priority == best_priority && behind && !best_behind)) {
				best = lapic;
				best_behind = behind;
			}
		}
		behind |= lapic == apic_bus->last_chosen;
	}
	return best;
}

enum irq_fate apic_bus_deliver(struct apic_bus *apic_bus, const struct apic_message *message, struct lapic *sender)
{
	enum irq_fate best = IRQ_UNHEARD, fate;

	if (message->mode == DELIVERY_LOWEST) {
		struct lapic *lapic = choose_lowest(apic_bus, message, sender);

		if (!lapic)
			return IRQ_UNHEARD;
		apic_bus->last_chosen = lapic;
		return lapic_receive(lapic, message);
	}
	for (struct lapic *lapic = apic_bus->first; lapic; lapic = lapic->next) {
		fate = addressed(message, lapic, sender) ? lapic_receive(lapic, message) : IRQ_UNHEARD;
		best = fate > best ? fate : best;
	}
	return best;
}

enum irq_fate apic_bus_msi(struct apic_bus *apic_bus, uint64_t address, uint32_t data)
{
	struct apic_message message = {
		.destination = address >> 12 & 0xff,
		.logical = address >> 2 & 1,
		.level = data >> 15 & 1,
		.mode = data >> 8 & 7,
		.vector = (uint8_t)data,
	};

	return apic_bus_deliver(apic_bus, &message, NULL);
}

void apic_bus_eoi(struct apic_bus *apic_bus, uint8_t vector)
{
	if (apic_bus->eoi)
		apic_bus->eoi(apic_bus->ioapic, vector);
}
