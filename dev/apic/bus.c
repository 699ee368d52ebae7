/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Delivery of interrupt messages among the APICs of one machine. Bounded by the number of its processors.
 * No state but the list and who last got a lowest-priority message. What it asks of an APIC may change while it asks: then the message
 * was underway at that moment, as it may be on a processor.
 */
#include "dev/apic/lapic_internal.h"

void apic_bus_attach(struct apic_bus *apic_bus, struct lapic *lapic)
{
	struct lapic **link = &apic_bus->first;

	while (*link)
		link = &(*link)->next;
	lapic->next = NULL;
	*link = lapic;
	apic_bus->by_id[lapic->id] = lapic;
}

/* Sections 11.6.2.2, 11.12.10. */
static bool logical_match(const struct lapic *lapic, uint32_t destination)
{
	uint32_t logical = READ(lapic->ldr) >> 24;

	if (lapic_x2apic(lapic)) {
		logical = lapic_x2apic_logical_id(lapic);
		return logical >> 16 == destination >> 16 && logical & destination & 0xffff;
	}
	if (destination > 0xff)
		return false;
	if (READ(lapic->dfr) >> 28 == 0xf)
		return logical & destination;
	return logical >> 4 == destination >> 4 && logical & destination & 0xf;
}

static bool everybody(const struct apic_message *message)
{
	return message->destination == (message->wide ? 0xffffffff : 0xff);
}

static bool addressed(const struct apic_message *message, const struct lapic *lapic, const struct lapic *sender)
{
	switch (message->shorthand) {
	case SHORTHAND_SELF: return lapic == sender;
	case SHORTHAND_ALL: return true;
	case SHORTHAND_OTHERS: return lapic != sender;
	default:
		if (everybody(message))
			return true;
		return message->logical ? logical_match(lapic, message->destination)
					: lapic->id == message->destination;
	}
}

/* The addressed APIC with the lowest priority; among equals the one after who was chosen last. */
static struct lapic *choose_lowest(const struct apic_bus *apic_bus, const struct apic_message *message,
				   const struct lapic *sender)
{
	const struct lapic *last = READ(apic_bus->last_chosen);
	struct lapic *best = NULL;
	bool behind = false, best_behind = false;
	uint32_t best_priority = UINT32_MAX;

	for (struct lapic *lapic = apic_bus->first; lapic; lapic = lapic->next) {
		if (lapic_accepts(lapic) && addressed(message, lapic, sender)) {
			uint32_t priority = READ(lapic->priority);

			if (priority < best_priority || (priority == best_priority && behind && !best_behind)) {
				best = lapic;
				best_priority = priority;
				best_behind = behind;
			}
		}
		behind |= lapic == last;
	}
	return best;
}

static enum irq_fate deliver_lowest(struct apic_bus *apic_bus, const struct apic_message *message, struct lapic *sender)
{
	struct lapic *lapic = choose_lowest(apic_bus, message, sender);

	if (!lapic)
		return IRQ_UNHEARD;
	WRITE(apic_bus->last_chosen, lapic);
	return lapic_receive(lapic, message, lapic == sender);
}

/* One processor, by its id: what most messages are. */
static inline bool names_one(const struct apic_message *message)
{
	return message->shorthand == SHORTHAND_NONE && !message->logical && !everybody(message);
}

static __attribute__((noinline)) enum irq_fate deliver_many(struct apic_bus *apic_bus,
							    const struct apic_message *message, struct lapic *sender)
{
	enum irq_fate best = IRQ_UNHEARD, fate;

	if (message->mode == DELIVERY_LOWEST)
		return deliver_lowest(apic_bus, message, sender);
	for (struct lapic *lapic = apic_bus->first; lapic; lapic = lapic->next) {
		if (!addressed(message, lapic, sender))
			continue;
		fate = lapic_receive(lapic, message, lapic == sender);
		best = fate > best ? fate : best;
	}
	return best;
}

enum irq_fate apic_bus_deliver(struct apic_bus *apic_bus, const struct apic_message *message, struct lapic *sender)
{
	struct lapic *lapic;

	if (unlikely(!names_one(message)))
		return deliver_many(apic_bus, message, sender);
	lapic = message->destination < APIC_IDS ? apic_bus->by_id[message->destination] : NULL;
	return lapic ? lapic_receive(lapic, message, lapic == sender) : IRQ_UNHEARD;
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

	/* The redirection hint: one of those named is to have it. */
	if (address >> 3 & message.logical && message.mode == DELIVERY_FIXED)
		message.mode = DELIVERY_LOWEST;
	return apic_bus_deliver(apic_bus, &message, NULL);
}

void apic_bus_eoi(struct apic_bus *apic_bus, uint8_t vector)
{
	if (apic_bus->eoi)
		apic_bus->eoi(apic_bus->ioapic, vector);
}
