/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The local APIC as the guest reads and writes it: the xAPIC page and the MSRs. Both lead to the same registers;
 * the x2APIC adds rules of its own (reserved bits and absent registers are #GP, ICR is one 64-bit
 * register), which the table below holds. Intel SDM vol. 3 sections 11.4.1, 11.12.1.2, 11.12.5.
 */
#include "dev/apic/lapic_internal.h"

#include "arch/x86_64/registers.h"

#define X_READ 1u
#define X_WRITE 2u
#define ICR_RESERVED UINT64_C(0xfff33000) /* in x2APIC mode; the high half is the destination */
#define ICR_WRITABLE 0x000ccfffu
#define REGISTERS 0x40u

/* What x2APIC mode allows: access, and the bits a write may set. */
static const struct {
	uint8_t access;
	uint32_t bits;
} x2apic_rules[REGISTERS] = {
	[APIC_ID] = { X_READ, 0 },
	[APIC_VERSION] = { X_READ, 0 },
	[APIC_TPR] = { X_READ | X_WRITE, 0xff },
	[APIC_PPR] = { X_READ, 0 },
	[APIC_EOI] = { X_WRITE, 0 },
	[APIC_LDR] = { X_READ, 0 },
	[APIC_SVR] = { X_READ | X_WRITE, SVR_WRITABLE },
	[APIC_ISR... APIC_ISR + 7] = { X_READ, 0 },
	[APIC_TMR... APIC_TMR + 7] = { X_READ, 0 },
	[APIC_IRR... APIC_IRR + 7] = { X_READ, 0 },
	[APIC_ESR] = { X_READ | X_WRITE, 0 },
	[APIC_ICR_LOW] = { X_READ | X_WRITE, ICR_WRITABLE },
	[APIC_LVT + LVT_TIMER] = { X_READ | X_WRITE, 0x000710ff },
	[APIC_LVT + LVT_THERMAL] = { X_READ | X_WRITE, 0x000117ff },
	[APIC_LVT + LVT_PERFORMANCE] = { X_READ | X_WRITE, 0x000117ff },
	[APIC_LVT + LVT_LINT0] = { X_READ | X_WRITE, 0x0001f7ff },
	[APIC_LVT + LVT_LINT1] = { X_READ | X_WRITE, 0x0001f7ff },
	[APIC_LVT + LVT_ERROR] = { X_READ | X_WRITE, 0x000110ff },
	[APIC_INITIAL_COUNT] = { X_READ | X_WRITE, 0xffffffff },
	[APIC_CURRENT_COUNT] = { X_READ, 0 },
	[APIC_DIVIDE] = { X_READ | X_WRITE, 0xb },
	[APIC_SELF_IPI] = { X_WRITE, 0xff },
};

/* Bits of an LVT entry that a write changes; 12 (status) and 14 (remote IRR) are read only. */
static const uint32_t lvt_writable[LVT_COUNT] = {
	[LVT_TIMER] = 0x000700ff, [LVT_THERMAL] = 0x000107ff, [LVT_PERFORMANCE] = 0x000107ff,
	[LVT_LINT0] = 0x0001a7ff, [LVT_LINT1] = 0x0001a7ff,   [LVT_ERROR] = 0x000100ff,
};

_Static_assert(MSR_X2APIC_FIRST + REGISTERS - 1 <= MSR_X2APIC_LAST, "registers lie inside the MSR range");
_Static_assert(APIC_LVT + LVT_COUNT == APIC_INITIAL_COUNT, "the LVT ends where the counts begin");
_Static_assert(!(ICR_WRITABLE & ICR_RESERVED) && (ICR_WRITABLE | ICR_RESERVED) == 0xffffffff,
	       "ICR bits are one or the other");

/* 32 of the vectors. */
static uint32_t vectors(const uint64_t words[VECTOR_WORDS], unsigned part)
{
	return (uint32_t)(READ(words[part / 2]) >> part % 2 * 32);
}

static uint32_t read_register(struct lapic *lapic, unsigned index)
{
	switch (index) {
	case APIC_ID: return lapic_x2apic(lapic) ? lapic->id : lapic->id << 24;
	case APIC_VERSION: return VERSION_VALUE;
	case APIC_TPR: return lapic->tpr;
	case APIC_PPR: return lapic->priority;
	case APIC_LDR: return lapic_x2apic(lapic) ? lapic_x2apic_logical_id(lapic) : lapic->ldr;
	case APIC_DFR: return lapic->dfr;
	case APIC_SVR: return lapic->svr;
	case APIC_ISR ... APIC_ISR + 7: return vectors(lapic->isr, index - APIC_ISR);
	case APIC_TMR ... APIC_TMR + 7: return vectors(lapic->tmr, index - APIC_TMR);
	case APIC_IRR ... APIC_IRR + 7: return vectors(lapic->irr, index - APIC_IRR);
	case APIC_ESR: return lapic->esr;
	case APIC_ICR_LOW: return lapic->icr_low;
	case APIC_ICR_HIGH: return lapic->icr_high;
	case APIC_LVT ... APIC_LVT + LVT_COUNT - 1: return lapic->lvt[index - APIC_LVT];
	case APIC_INITIAL_COUNT: return lapic->initial_count;
	case APIC_CURRENT_COUNT: return lapic_timer_current(lapic);
	case APIC_DIVIDE: return lapic->divide;
	case APIC_APR:
	case APIC_RRD:
	case APIC_EOI: return 0;
	default: lapic_error(lapic, ESR_ILLEGAL_REGISTER, true); return 0;
	}
}

#define EVERY_IPI                                                                                                      \
	(BIT(DELIVERY_FIXED) | BIT(DELIVERY_LOWEST) | BIT(DELIVERY_SMI) | BIT(DELIVERY_NMI) | BIT(DELIVERY_INIT) |     \
	 BIT(DELIVERY_STARTUP))

/*
 * Which modes go with each shorthand: SDM vol. 3 table 11-3, APM vol. 2 table 16-4. What doesn't is not sent. The trigger
 * matters to INIT alone: the rest goes out as an edge, asserted, whatever the two bits say (note 2).
 */
static const uint8_t ipi_modes[] = {
	[SHORTHAND_NONE] = EVERY_IPI,
	[SHORTHAND_SELF] = BIT(DELIVERY_FIXED),
	[SHORTHAND_ALL] = BIT(DELIVERY_FIXED),
	[SHORTHAND_OTHERS] = EVERY_IPI,
};

/* Section 11.6.1. destination: 8 or 32 bits, as the mode has it. */
static void send(struct lapic *lapic, uint32_t low, uint32_t destination)
{
	struct apic_message message = {
		.destination = destination,
		.wide = lapic_x2apic(lapic),
		.logical = low >> 11 & 1,
		.mode = low >> 8 & 7,
		.vector = (uint8_t)low,
		.shorthand = low >> 18 & 3,
	};
	bool vectored = message.mode == DELIVERY_FIXED || message.mode == DELIVERY_LOWEST;

	if (!(ipi_modes[message.shorthand] >> message.mode & 1))
		return;
	if (vectored && message.vector < FIRST_LEGAL_VECTOR) {
		lapic_error(lapic, ESR_SEND_ILLEGAL, true);
		return;
	}
	/* INIT level de-assert: without effect on every processor since the Pentium 4. */
	if (message.mode == DELIVERY_INIT && low >> 15 & 1 && !(low >> 14 & 1))
		return;
	(void)apic_bus_deliver(lapic->apic_bus, &message, lapic);
}

static void write_lvt(struct lapic *lapic, unsigned entry, uint32_t value)
{
	uint32_t old = lapic->lvt[entry];

	value &= lvt_writable[entry];
	if (!(lapic->svr & SVR_ENABLE))
		value |= LVT_MASKED;
	WRITE(lapic->lvt[entry], value);
	if (entry == LVT_TIMER)
		lapic_timer_mode_changed(lapic, old);
	else if (entry == LVT_LINT0)
		lapic_update(lapic);
}

static void write_spurious(struct lapic *lapic, uint32_t value)
{
	WRITE(lapic->svr, value & SVR_WRITABLE);
	if (lapic->svr & SVR_ENABLE)
		return;
	for (unsigned i = 0; i < LVT_COUNT; i++)
		WRITE(lapic->lvt[i], lapic->lvt[i] | LVT_MASKED);
	lapic_update(lapic);
}

static void write_register(struct lapic *lapic, unsigned index, uint32_t value)
{
	switch (index) {
	case APIC_EOI: lapic_end_of_interrupt(lapic); break;
	case APIC_TPR:
		WRITE(lapic->tpr, value & 0xff);
		lapic_update_priority(lapic);
		break;
	case APIC_ICR_LOW:
		lapic->icr_low = value & ICR_WRITABLE;
		send(lapic, lapic->icr_low, lapic->icr_high >> 24);
		break;
	case APIC_ICR_HIGH: lapic->icr_high = value & 0xff000000; break;
	case APIC_INITIAL_COUNT: lapic_timer_set_count(lapic, value); break;
	case APIC_DIVIDE: lapic_timer_set_divide(lapic, value); break;
	case APIC_LVT ... APIC_LVT + LVT_COUNT - 1: write_lvt(lapic, index - APIC_LVT, value); break;
	case APIC_SVR: write_spurious(lapic, value); break;
	case APIC_ESR: /* a write latches what has gathered */
		lapic->esr = __atomic_exchange_n(&lapic->errors, 0, __ATOMIC_RELAXED);
		break;
	case APIC_LDR: WRITE(lapic->ldr, value & 0xff000000); break;
	case APIC_DFR: WRITE(lapic->dfr, value | 0x0fffffff); break;
	case APIC_SELF_IPI: send(lapic, SHORTHAND_SELF << 18 | (value & 0xff), 0); break;
	case APIC_ID:
	case APIC_VERSION:
	case APIC_APR:
	case APIC_PPR:
	case APIC_RRD:
	case APIC_CURRENT_COUNT: break; /* read only */
	default: lapic_error(lapic, ESR_ILLEGAL_REGISTER, true); break;
	}
}

/* Registers are 32 bits wide at multiples of 16; narrower reads see their part, what lies between reads 0. */
static uint64_t page_read(void *device, uint64_t offset, unsigned size)
{
	struct lapic *lapic = device;
	unsigned index = offset >> 4 & 0xff;

	if (unlikely(!lapic_enabled(lapic) || lapic_x2apic(lapic)))
		return byte_mask(size);
	if (offset & 0xc || (index == APIC_SELF_IPI))
		return 0;
	return (uint64_t)read_register(lapic, index) >> (8 * (offset & 3)) & byte_mask(size);
}

static void page_write(void *device, uint64_t offset, unsigned size, uint64_t value)
{
	struct lapic *lapic = device;
	unsigned index = offset >> 4 & 0xff;

	if (unlikely(!lapic_enabled(lapic) || lapic_x2apic(lapic) || offset & 0xf || index == APIC_SELF_IPI))
		return;
	write_register(lapic, index, (uint32_t)value);
}

const struct mmio_ops lapic_mmio_ops = { .read = page_read, .write = page_write };

/* Legal steps between disabled, xAPIC and x2APIC: section 11.12.5. */
static enum status write_base(struct lapic *lapic, uint64_t value)
{
	uint64_t modes = APIC_BASE_ENABLE | APIC_BASE_X2APIC, from = lapic->base & modes, to = value & modes;

	if (value & ~(BITS(51, 12) | modes | APIC_BASE_BSP))
		return BAD_VALUE;
	if (to == APIC_BASE_X2APIC || (to == modes && !from) || (from == modes && to == APIC_BASE_ENABLE))
		return BAD_VALUE;
	WRITE(lapic->base, (value & ~(uint64_t)APIC_BASE_BSP) | (lapic->base & APIC_BASE_BSP));
	if (!to && from)
		lapic_init(lapic);
	lapic_update(lapic);
	return OK;
}

enum status lapic_msr_read(struct lapic *lapic, uint32_t msr, uint64_t *value)
{
	unsigned index = msr - MSR_X2APIC_FIRST;

	if (msr == MSR_APIC_BASE) {
		*value = lapic->base;
		return OK;
	}
	if (msr == MSR_TSC_DEADLINE && lapic->tsc_hz) {
		*value = lapic->tsc_deadline;
		return OK;
	}
	if (index >= REGISTERS || !lapic_x2apic(lapic) || !(x2apic_rules[index].access & X_READ))
		return BAD_VALUE;
	*value = read_register(lapic, index);
	if (index == APIC_ICR_LOW)
		*value |= (uint64_t)lapic->icr_high << 32;
	return OK;
}

enum status lapic_msr_write(struct lapic *lapic, uint32_t msr, uint64_t value)
{
	unsigned index = msr - MSR_X2APIC_FIRST;

	if (msr == MSR_APIC_BASE)
		return write_base(lapic, value);
	if (msr == MSR_TSC_DEADLINE && lapic->tsc_hz) {
		lapic_timer_set_deadline(lapic, value);
		return OK;
	}
	if (index >= REGISTERS || !lapic_x2apic(lapic) || !(x2apic_rules[index].access & X_WRITE))
		return BAD_VALUE;
	if (index == APIC_ICR_LOW) {
		if (value & ICR_RESERVED)
			return BAD_VALUE;
		lapic->icr_low = (uint32_t)value;
		lapic->icr_high = (uint32_t)(value >> 32);
		send(lapic, lapic->icr_low, lapic->icr_high);
		return OK;
	}
	if (value & ~(uint64_t)x2apic_rules[index].bits)
		return BAD_VALUE;
	write_register(lapic, index, (uint32_t)value);
	return OK;
}
