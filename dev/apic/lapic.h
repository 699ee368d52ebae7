/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The local APIC of one virtual processor: xAPIC page, x2APIC MSRs, timer. Intel SDM vol. 3 chapter 11 (APIC).
 *
 * No lock guards it. Its processor alone (the owner: the host CPU that runs the vcpu, or whoever holds the stopped machine) calls what
 * is declared here; others reach it by messages (dev/apic/bus.h) and, under the devices' lock, by its two pins. Who may touch which
 * member stands with the members.
 *
 * The struct is open so that lapic_pending() is one load; only dev/apic touches its members.
 */
#pragma once

#include "arch/x86_64/apic_registers.h"
#include "dev/apic/bus.h"

#define LAPIC_TIMER_HZ UINT64_C(1000000000) /* before the divider; CPUID leaf 0x15 reports it as the crystal */
#define LAPIC_DEFAULT_BASE UINT64_C(0xfee00000)
#define LAPIC_PAGE_SIZE 4096u

#define LAPIC_NOTHING (-1)
#define LAPIC_EXTINT 256 /* the PICs ask: take the vector from pic_acknowledge(), don't call lapic_accept() */

/* The processor as its APIC sees it. context is the one given at creation. */
struct lapic_host {
	void (*kick)(void *context); /* any CPU: something came from elsewhere: lapic_update() soon */
	void (*nmi)(void *context);  /* any CPU, and the next two */
	void (*init)(void *context); /* the processor calls lapic_init() when it takes it */
	void (*sipi)(void *context, uint8_t vector);
	uint64_t (*tsc)(void *context); /* the guest's time stamp counter now */
};

/* 256 vectors. */
#define VECTOR_WORDS 4u

struct lapic {
	/* The owner's alone. */
	int deliverable; /* what lapic_pending() returns; kept by lapic_update() */
	uint64_t isr[VECTOR_WORDS];
	uint64_t deadline; /* of the timer, by the machine's clock; UINT64_MAX: not armed */
	uint32_t esr;      /* as last latched */
	uint32_t icr_low, icr_high;
	uint32_t initial_count, divide; /* divide configuration register as written */
	uint64_t count_start;           /* nanosecond at which the timer held initial_count */
	bool counting;
	uint64_t tsc_deadline; /* 0: disarmed */
	struct tick_debt ticks;

	/* The owner writes, and others read: always in one piece, in no order with anything else. */
	uint64_t base;     /* IA32_APIC_BASE */
	uint32_t priority; /* PPR */
	uint32_t tpr, svr, ldr, dfr;
	uint32_t lvt[LVT_COUNT];

	/* Anybody's: bits are set by one atomic step; the owner alone takes them out. */
	uint64_t irr[VECTOR_WORDS] __attribute__((aligned(64)));
	uint64_t tmr[VECTOR_WORDS]; /* set or cleared before the IRR's bit is set */
	uint32_t errors;            /* since the last latch */
	bool lint[2];               /* written under the devices' lock, by anybody */

	/* Never changes. */
	uint32_t id;
	uint64_t tsc_hz; /* 0: no TSC-deadline mode */
	struct bus *bus;
	struct apic_bus *apic_bus;
	struct lapic *next;
	const struct lapic_host *host;
	void *context;
};

/*
 * id: below APIC_IDS. tsc_hz: the guest's TSC frequency (up to 18 GHz), 0 without TSC-deadline mode. NO_MEMORY, BAD_VALUE. While
 * no processor of the machine runs.
 */
enum status lapic_create(struct bus *bus, struct apic_bus *apic_bus, uint32_t id, bool bootstrap, uint64_t tsc_hz,
			 const struct lapic_host *host, void *context, struct lapic **out) must_check;
/* Power-on: enabled at the default base, all entries masked. */
void lapic_reset(struct lapic *lapic);
/* INIT, on its own processor: as after power-on but for id and base. */
void lapic_init(struct lapic *lapic);
/* What firmware leaves behind on the bootstrap processor: enabled, LINT0 = ExtINT, LINT1 = NMI. */
void lapic_set_virtual_wire(struct lapic *lapic);

/*
 * The vector to inject now, LAPIC_EXTINT, or LAPIC_NOTHING, as of the last lapic_update(). RFLAGS.IF and shadows are the caller's to
 * look at.
 */
static inline int lapic_pending(const struct lapic *lapic)
{
	return lapic->deliverable;
}

/* Looks at what came from elsewhere. After host->kick(), and before the processor sleeps. */
void lapic_update(struct lapic *lapic);
/* The processor takes the vector that lapic_pending() named: from IRR to ISR. A tick of the timer that is owed may come behind it. */
void lapic_accept(struct lapic *lapic, uint8_t vector);
/* Is the end of this vector, which the processor has just taken, all that an EOI would do: edge-triggered, and nothing is requested? */
bool lapic_ends_alone(const struct lapic *lapic, uint8_t vector);
/* EOI. */
void lapic_end_of_interrupt(struct lapic *lapic);
/* Level of LINT0 (the PICs' INTR) or LINT1. Any CPU, under the devices' lock. */
void lapic_set_lint(struct lapic *lapic, unsigned pin, bool level);

uint64_t lapic_cr8(const struct lapic *lapic);
/* value 0..15, checked by the caller. */
void lapic_set_cr8(struct lapic *lapic, uint64_t value);

/* The page at IA32_APIC_BASE; device is the accessing processor's struct lapic. Without the devices' lock. */
extern const struct mmio_ops lapic_mmio_ops;
/* IA32_APIC_BASE, IA32_TSC_DEADLINE, x2APIC MSRs. BAD_VALUE: the guest gets #GP. The base's width is for the caller to check, and its page for it to place. */
enum status lapic_msr_read(struct lapic *lapic, uint32_t msr, uint64_t *value) must_check;
enum status lapic_msr_write(struct lapic *lapic, uint32_t msr, uint64_t value) must_check;
/* The guest's TSC was set: deadlines lie elsewhere now. */
void lapic_tsc_changed(struct lapic *lapic);
/* The timer fires if it is due at `now`, by the machine's clock; without effect before lapic->deadline. */
void lapic_timer_run(struct lapic *lapic, uint64_t now);

/* For apic/bus.c: any CPU. own: this is the owner's, who needs no kick. */
bool lapic_accepts(const struct lapic *lapic);
enum irq_fate lapic_receive(struct lapic *lapic, const struct apic_message *message, bool own);
