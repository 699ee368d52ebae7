/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The local APIC's core: which vectors are requested and in service, and which one the processor may have.
 *
 * Invariant: deliverable is what follows from IRR, ISR, TPR, LINT0 and the enable bits as the owner last looked at them; when it
 * changes ISR or TPR, it calls lapic_update_priority(), else lapic_update(). The run loop reads it before each entry and nothing else.
 *
 * A message from elsewhere: TMR, then IRR, each by an atomic step, then kick(), which sets a request of the processor's and, the first
 * time, wakes or kicks it. The processor takes its requests and then looks at IRR, so no bit stays unseen
 * (wake.pml: IRR, REQUEST, KICK). A bit that is set already has been told of. Whether the APIC accepts the message
 * is asked before: one that is disabled or gets INIT at that moment may still take it.
 *
 * Software-disabled (SVR bit 8 clear), the APIC refuses new vectors but keeps those it has; disabled in
 * IA32_APIC_BASE it is as good as absent, and the PICs' INTR reaches the processor directly.
 */
#include "dev/apic/lapic_internal.h"
#include "dev/clock.h"

_Static_assert(sizeof(((struct lapic *)0)->irr) * 8 == 256, "a bit for each vector");

static inline uint64_t bit_of(uint8_t vector)
{
	return UINT64_C(1) << (vector & 63);
}

/* The highest vector set, -1 for none. */
static inline int vector_top(const uint64_t words[VECTOR_WORDS])
{
#pragma GCC unroll 4 /* several times in each interrupt */
	for (unsigned word = VECTOR_WORDS; word--;) {
		uint64_t bits = READ(words[word]);

		if (bits)
			return (int)(word * 64 + 63u - (unsigned)__builtin_clzll(bits));
	}
	return -1;
}

/* PPR, section 11.8.3.1. */
static uint32_t processor_priority(const struct lapic *lapic)
{
	int in_service = vector_top(lapic->isr);
	unsigned class = in_service < 0 ? 0 : (unsigned)in_service & 0xf0;

	return (lapic->tpr & 0xf0) >= class ? lapic->tpr : class;
}

/* Does the PICs' INTR reach the processor? */
static bool external_interrupt(const struct lapic *lapic)
{
	uint32_t entry = lapic->lvt[LVT_LINT0];

	return !lapic_enabled(lapic) || (!(entry & LVT_MASKED) && LVT_MODE(entry) == DELIVERY_EXTINT);
}

void lapic_update(struct lapic *lapic)
{
	int vector = vector_top(lapic->irr);

	if (unlikely(READ(lapic->lint[0])) && external_interrupt(lapic))
		lapic->deliverable = LAPIC_EXTINT;
	else if (vector >= 0 && ((unsigned)vector & 0xf0) > (lapic->priority & 0xf0))
		lapic->deliverable = vector;
	else
		lapic->deliverable = LAPIC_NOTHING;
}

void lapic_update_priority(struct lapic *lapic)
{
	WRITE(lapic->priority, processor_priority(lapic));
	lapic_update(lapic);
}

/* Something has been set that the processor doesn't know of. */
static inline void tell(struct lapic *lapic, bool own)
{
	if (own)
		lapic_update(lapic);
	else
		lapic->host->kick(lapic->context);
}

/* A vector becomes requested; the caller has checked that it is legal and that the APIC accepts it. False: it was already. */
static inline bool raise_vector(struct lapic *lapic, uint8_t vector, bool level, bool own)
{
	uint64_t bit = bit_of(vector), *tmr = &lapic->tmr[vector >> 6];

	if (unlikely(level))
		__atomic_fetch_or(tmr, bit, __ATOMIC_RELAXED);
	else if (unlikely(READ(*tmr) & bit))
		__atomic_fetch_and(tmr, ~bit, __ATOMIC_RELAXED);
	if (__atomic_fetch_or(&lapic->irr[vector >> 6], bit, __ATOMIC_SEQ_CST) & bit)
		return false;
	tell(lapic, own);
	return true;
}

void lapic_error(struct lapic *lapic, uint32_t bit, bool own)
{
	uint32_t entry = READ(lapic->lvt[LVT_ERROR]);

	__atomic_fetch_or(&lapic->errors, bit, __ATOMIC_RELAXED);
	if (!(entry & LVT_MASKED) && (entry & 0xff) >= FIRST_LEGAL_VECTOR)
		(void)raise_vector(lapic, (uint8_t)entry, false, own);
}

bool lapic_accepts(const struct lapic *lapic)
{
	return lapic_enabled(lapic) && READ(lapic->svr) & SVR_ENABLE;
}

static enum irq_fate receive_vector(struct lapic *lapic, uint8_t vector, bool level, bool own)
{
	if (!lapic_accepts(lapic))
		return IRQ_UNHEARD;
	if (unlikely(vector < FIRST_LEGAL_VECTOR)) {
		lapic_error(lapic, ESR_RECEIVE_ILLEGAL, own);
		return IRQ_TAKEN;
	}
	return raise_vector(lapic, vector, level, own) ? IRQ_TAKEN : IRQ_MERGED;
}

enum irq_fate lapic_receive(struct lapic *lapic, const struct apic_message *message, bool own)
{
	if (likely(message->mode <= DELIVERY_LOWEST))
		return receive_vector(lapic, message->vector, message->level, own);
	if (!lapic_enabled(lapic))
		return IRQ_UNHEARD;
	switch (message->mode) {
	case DELIVERY_NMI: lapic->host->nmi(lapic->context); return IRQ_TAKEN;
	case DELIVERY_INIT: lapic->host->init(lapic->context); return IRQ_TAKEN;
	case DELIVERY_STARTUP: lapic->host->sipi(lapic->context, message->vector); return IRQ_TAKEN;
	default: /* SMI: this machine has no SMM; ExtINT messages: the PICs are wired to LINT0 only */
		return IRQ_UNHEARD;
	}
}

enum irq_fate lapic_raise_lvt(struct lapic *lapic, enum apic_lvt entry, bool own)
{
	uint32_t value = READ(lapic->lvt[entry]);
	struct apic_message message = { .mode = LVT_MODE(value), .vector = (uint8_t)value };

	if (value & LVT_MASKED)
		return IRQ_UNHEARD;
	if (entry == LVT_TIMER)
		message.mode = DELIVERY_FIXED;
	/* Modes that only an ICR or an IOAPIC can send: reserved here (section 11.5.1). */
	else if (message.mode == DELIVERY_LOWEST || message.mode == DELIVERY_STARTUP)
		return IRQ_UNHEARD;
	return lapic_receive(lapic, &message, own);
}

/* Whether ExtINT reaches it is the owner's to judge: it is told of each edge, and finds out by itself that the level has gone. */
void lapic_set_lint(struct lapic *lapic, unsigned pin, bool level)
{
	bool rising = level && !lapic->lint[pin & 1];

	WRITE(lapic->lint[pin & 1], level);
	if (!rising)
		return;
	if (lapic_enabled(lapic))
		(void)lapic_raise_lvt(lapic, LVT_LINT0 + (pin & 1), false);
	tell(lapic, false);
}

void lapic_accept(struct lapic *lapic, uint8_t vector)
{
	__atomic_fetch_and(&lapic->irr[vector >> 6], ~bit_of(vector), __ATOMIC_SEQ_CST);
	lapic->isr[vector >> 6] |= bit_of(vector);
	WRITE(lapic->priority, vector & 0xf0u); /* it was above the old one */
	if (unlikely(lapic->ticks.owed))
		tick_pay_one(lapic->bus, &lapic->ticks);
	lapic_update(lapic);
}

void lapic_end_of_interrupt(struct lapic *lapic)
{
	int vector = vector_top(lapic->isr);
	struct bus *bus = lapic->bus;

	if (vector < 0)
		return; /* of a spurious interrupt, or of a guest in doubt */
	lapic->isr[vector >> 6] &= ~bit_of((uint8_t)vector);
	lapic_update_priority(lapic);
	if (likely(!(READ(lapic->tmr[vector >> 6]) & bit_of((uint8_t)vector))) || lapic->svr & SVR_NO_EOI_BROADCAST)
		return;
	bus->lock(bus->context);
	apic_bus_eoi(lapic->apic_bus, (uint8_t)vector);
	bus->unlock(bus->context);
}

bool lapic_ends_alone(const struct lapic *lapic, uint8_t vector)
{
	return vector_top(lapic->irr) < 0 && !(READ(lapic->tmr[vector >> 6]) & bit_of(vector));
}

uint64_t lapic_cr8(const struct lapic *lapic)
{
	return lapic->tpr >> 4;
}

void lapic_set_cr8(struct lapic *lapic, uint64_t value)
{
	WRITE(lapic->tpr, ((uint32_t)value & 0xf) << 4);
	lapic_update_priority(lapic);
}

void lapic_init(struct lapic *lapic)
{
	lapic_timer_stop(lapic);
	WRITE(lapic->svr, 0xff); /* first: from now on it takes nothing new */
	for (unsigned i = 0; i < VECTOR_WORDS; i++) {
		lapic->isr[i] = 0;
		__atomic_store_n(&lapic->irr[i], 0, __ATOMIC_SEQ_CST);
		WRITE(lapic->tmr[i], 0);
	}
	for (unsigned i = 0; i < LVT_COUNT; i++)
		WRITE(lapic->lvt[i], LVT_MASKED);
	WRITE(lapic->tpr, 0);
	WRITE(lapic->ldr, 0);
	WRITE(lapic->dfr, 0xffffffff);
	WRITE(lapic->errors, 0);
	lapic->esr = lapic->icr_low = lapic->icr_high = lapic->initial_count = lapic->divide = 0;
	lapic->tsc_deadline = 0;
	lapic_update_priority(lapic);
}

void lapic_reset(struct lapic *lapic)
{
	WRITE(lapic->base, LAPIC_DEFAULT_BASE | APIC_BASE_ENABLE | (lapic->base & APIC_BASE_BSP));
	lapic_init(lapic);
}

void lapic_set_virtual_wire(struct lapic *lapic)
{
	WRITE(lapic->svr, SVR_ENABLE | 0xff);
	WRITE(lapic->lvt[LVT_LINT0], DELIVERY_EXTINT << 8);
	WRITE(lapic->lvt[LVT_LINT1], DELIVERY_NMI << 8);
	lapic_update(lapic);
}

enum status lapic_create(struct bus *bus, struct apic_bus *apic_bus, uint32_t id, bool bootstrap, uint64_t tsc_hz,
			 const struct lapic_host *host, void *context, struct lapic **out)
{
	struct lapic *lapic;

	if (tsc_hz > CLOCK_MAX_HZ || id >= APIC_IDS)
		return BAD_VALUE;
	lapic = device_alloc(bus, sizeof(*lapic));
	if (!lapic)
		return NO_MEMORY;
	lapic->bus = bus;
	lapic->apic_bus = apic_bus;
	lapic->id = id;
	lapic->base = bootstrap ? APIC_BASE_BSP : 0;
	lapic->tsc_hz = tsc_hz;
	lapic->host = host;
	lapic->context = context;
	lapic->ticks = (struct tick_debt){ .raise = lapic_timer_tick, .device = lapic };
	lapic_reset(lapic);
	apic_bus_attach(apic_bus, lapic);
	*out = lapic;
	return OK;
}
