/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The local APIC's core: which vectors are requested and in service, and which one the processor may have.
 *
 * Invariant: deliverable is what follows from IRR, ISR, TPR, LINT0 and the enable bits; whoever changes one of
 * them calls lapic_update(). The run loop reads it before each entry and nothing else.
 *
 * Software-disabled (SVR bit 8 clear), the APIC refuses new vectors but keeps those it has; disabled in
 * IA32_APIC_BASE it is as good as absent, and the PICs' INTR reaches the processor directly.
 */
#include "dev/apic/lapic_internal.h"
#include "dev/clock.h"
#include "lib/memory.h"

static void vector_set(uint32_t words[8], uint8_t *summary, uint8_t vector)
{
	words[vector >> 5] |= 1u << (vector & 31);
	*summary |= (uint8_t)(1u << (vector >> 5));
}

static void vector_clear(uint32_t words[8], uint8_t *summary, uint8_t vector)
{
	words[vector >> 5] &= ~(1u << (vector & 31));
	if (!words[vector >> 5])
		*summary &= (uint8_t) ~(1u << (vector >> 5));
}

/* The highest vector set, -1 for none. */
static int vector_top(const uint32_t words[8], uint8_t summary)
{
	unsigned word;

	if (!summary)
		return -1;
	word = 31u - (unsigned)__builtin_clz(summary);
	return (int)(word * 32 + 31u - (unsigned)__builtin_clz(words[word]));
}

/* PPR, section 11.8.3.1. */
uint8_t lapic_processor_priority(const struct lapic *lapic)
{
	int in_service = vector_top(lapic->isr, lapic->isr_words);
	unsigned class = in_service < 0 ? 0 : (unsigned)in_service & 0xf0;

	return (uint8_t)((lapic->tpr & 0xf0) >= class ? lapic->tpr : class);
}

/* Does the PICs' INTR reach the processor? */
static bool external_interrupt(const struct lapic *lapic)
{
	uint32_t entry = lapic->lvt[LVT_LINT0];

	if (!lapic->lint[0])
		return false;
	return !lapic_enabled(lapic) || (!(entry & LVT_MASKED) && LVT_MODE(entry) == DELIVERY_EXTINT);
}

void lapic_update(struct lapic *lapic)
{
	int vector = vector_top(lapic->irr, lapic->irr_words);

	if (unlikely(lapic->lint[0]) && external_interrupt(lapic))
		lapic->deliverable = LAPIC_EXTINT;
	else if (vector >= 0 && (vector & 0xf0) > (lapic_processor_priority(lapic) & 0xf0))
		lapic->deliverable = vector;
	else
		lapic->deliverable = LAPIC_NOTHING;
}

void lapic_update_and_kick(struct lapic *lapic)
{
	int before = lapic->deliverable;

	lapic_update(lapic);
	if (lapic->deliverable != before && lapic->deliverable != LAPIC_NOTHING)
		lapic->host->kick(lapic->context);
}

/* A vector becomes requested; the caller has checked that it is legal and that the APIC accepts it. */
void lapic_raise(struct lapic *lapic, uint8_t vector, bool level)
{
	uint32_t bit = 1u << (vector & 31);

	vector_set(lapic->irr, &lapic->irr_words, vector);
	if (level)
		lapic->tmr[vector >> 5] |= bit;
	else
		lapic->tmr[vector >> 5] &= ~bit;
	lapic_update_and_kick(lapic);
}

void lapic_error(struct lapic *lapic, uint32_t bit)
{
	uint32_t entry = lapic->lvt[LVT_ERROR];

	lapic->errors |= bit;
	if (!(entry & LVT_MASKED) && (entry & 0xff) >= FIRST_LEGAL_VECTOR)
		lapic_raise(lapic, (uint8_t)entry, false);
}

bool lapic_accepts(const struct lapic *lapic)
{
	return lapic_enabled(lapic) && lapic->svr & SVR_ENABLE;
}

static enum irq_fate receive_vector(struct lapic *lapic, uint8_t vector, bool level)
{
	bool waited = lapic->irr[vector >> 5] >> (vector & 31) & 1;

	if (!lapic_accepts(lapic))
		return IRQ_UNHEARD;
	if (vector < FIRST_LEGAL_VECTOR)
		lapic_error(lapic, ESR_RECEIVE_ILLEGAL);
	else
		lapic_raise(lapic, vector, level);
	return waited ? IRQ_MERGED : IRQ_TAKEN;
}

enum irq_fate lapic_receive(struct lapic *lapic, const struct apic_message *message)
{
	if (!lapic_enabled(lapic))
		return IRQ_UNHEARD;
	switch (message->mode) {
	case DELIVERY_FIXED:
	case DELIVERY_LOWEST: return receive_vector(lapic, message->vector, message->level);
	case DELIVERY_NMI: lapic->host->nmi(lapic->context); return IRQ_TAKEN;
	case DELIVERY_INIT: lapic->host->init(lapic->context); return IRQ_TAKEN;
	case DELIVERY_STARTUP: lapic->host->sipi(lapic->context, message->vector); return IRQ_TAKEN;
	default: /* SMI: this machine has no SMM; ExtINT messages: the PICs are wired to LINT0 only */
		return IRQ_UNHEARD;
	}
}

/* An event of the APIC's own: timer, LINT pins, error. */
enum irq_fate lapic_raise_lvt(struct lapic *lapic, enum lapic_lvt entry)
{
	uint32_t value = lapic->lvt[entry];
	struct apic_message message = { .mode = LVT_MODE(value), .vector = (uint8_t)value };

	if (value & LVT_MASKED)
		return IRQ_UNHEARD;
	if (entry == LVT_TIMER)
		message.mode = DELIVERY_FIXED;
	/* Modes that only an ICR or an IOAPIC can send: reserved here (section 11.5.1). */
	else if (message.mode == DELIVERY_LOWEST || message.mode == DELIVERY_STARTUP)
		return IRQ_UNHEARD;
	return lapic_receive(lapic, &message);
}

void lapic_set_lint(struct lapic *lapic, unsigned pin, bool level)
{
	bool rising = level && !lapic->lint[pin & 1];

	lapic->lint[pin & 1] = level;
	if (rising && lapic_enabled(lapic))
		(void)lapic_raise_lvt(lapic, LVT_LINT0 + (pin & 1));
	lapic_update_and_kick(lapic);
}

void lapic_accept(struct lapic *lapic, uint8_t vector)
{
	vector_clear(lapic->irr, &lapic->irr_words, vector);
	vector_set(lapic->isr, &lapic->isr_words, vector);
	lapic_update(lapic);
}

void lapic_end_of_interrupt(struct lapic *lapic)
{
	int vector = vector_top(lapic->isr, lapic->isr_words);

	if (vector < 0)
		return; /* of a spurious interrupt, or of a guest in doubt */
	vector_clear(lapic->isr, &lapic->isr_words, (uint8_t)vector);
	lapic_update(lapic);
	if (unlikely(lapic->tmr[vector >> 5] >> (vector & 31) & 1) && !(lapic->svr & SVR_NO_EOI_BROADCAST))
		apic_bus_eoi(lapic->apic_bus, (uint8_t)vector);
}

uint64_t lapic_cr8(const struct lapic *lapic)
{
	return lapic->tpr >> 4;
}

void lapic_set_cr8(struct lapic *lapic, uint64_t value)
{
	lapic->tpr = (value & 0xf) << 4;
	lapic_update(lapic);
}

static bool logical_match(const struct lapic *lapic, uint32_t destination, bool wide)
{
	uint32_t logical = lapic->ldr >> 24;

	if (lapic_x2apic(lapic)) {
		logical = (lapic->id >> 4) << 16 | 1u << (lapic->id & 15);
		return logical >> 16 == destination >> 16 && logical & destination & 0xffff;
	}
	if (destination > 0xff)
		return false;
	if (lapic->dfr >> 28 == 0xf)
		return logical & destination;
	return logical >> 4 == destination >> 4 && logical & destination & 0xf;
}

bool lapic_addressed(const struct lapic *lapic, uint32_t destination, bool logical, bool wide)
{
	if (destination == (wide ? 0xffffffff : 0xff))
		return true;
	return logical ? logical_match(lapic, destination, wide) : lapic->id == destination;
}

void lapic_init(struct lapic *lapic)
{
	lapic_timer_stop(lapic);
	for (unsigned i = 0; i < 8; i++)
		lapic->irr[i] = lapic->isr[i] = lapic->tmr[i] = 0;
	for (unsigned i = 0; i < LVT_COUNT; i++)
		lapic->lvt[i] = LVT_MASKED;
	lapic->irr_words = lapic->isr_words = 0;
	lapic->tpr = lapic->ldr = lapic->esr = lapic->errors = 0;
	lapic->icr_low = lapic->icr_high = lapic->initial_count = lapic->divide = 0;
	lapic->tsc_deadline = 0;
	lapic->dfr = 0xffffffff;
	lapic->svr = 0xff;
	lapic_update(lapic);
}

void lapic_reset(struct lapic *lapic)
{
	lapic->base = LAPIC_DEFAULT_BASE | APIC_BASE_ENABLE | (lapic->base & APIC_BASE_BSP);
	lapic_init(lapic);
}

void lapic_set_virtual_wire(struct lapic *lapic)
{
	lapic->svr = SVR_ENABLE | 0xff;
	lapic->lvt[LVT_LINT0] = DELIVERY_EXTINT << 8;
	lapic->lvt[LVT_LINT1] = DELIVERY_NMI << 8;
	lapic_update_and_kick(lapic);
}

enum status lapic_create(struct bus *bus, struct apic_bus *apic_bus, uint32_t id, bool bootstrap, uint64_t tsc_hz,
			 const struct lapic_host *host, void *context, struct lapic **out)
{
	struct lapic *lapic;

	if (tsc_hz > CLOCK_MAX_HZ)
		return BAD_VALUE;
	lapic = heap_alloc(sizeof(*lapic));
	if (!lapic)
		return NO_MEMORY;
	lapic->bus = bus;
	lapic->apic_bus = apic_bus;
	lapic->id = id;
	lapic->base = bootstrap ? APIC_BASE_BSP : 0;
	lapic->tsc_hz = tsc_hz;
	lapic->host = host;
	lapic->context = context;
	lapic->timer = (struct dev_timer){ .fire = lapic_timer_fire, .device = lapic };
	lapic->ticks = (struct tick_debt){ .raise = lapic_timer_tick, .device = lapic };
	tick_open(bus, &lapic->ticks);
	lapic_reset(lapic);
	apic_bus_attach(apic_bus, lapic);
	*out = lapic;
	return OK;
}

void lapic_destroy(struct lapic *lapic)
{
	if (!lapic)
		return;
	lapic_timer_stop(lapic);
	tick_close(lapic->bus, &lapic->ticks);
	apic_bus_detach(lapic->apic_bus, lapic);
	heap_free(lapic, sizeof(*lapic));
}
