/* SPDX-License-Identifier: Apache-2.0 */
// sources: dev/apic/lapic.c dev/apic/lapic_timer.c dev/apic/lapic_access.c dev/apic/bus.c dev/apic/ioapic.c dev/irq.c dev/legacy/pic.c dev/legacy/pic_chip.c dev/ports.c dev/tick.c dev/timer.c
/* Local APICs, IOAPIC and the messages between them, by the manual. */
#define _GNU_SOURCE /* REG_EFL */
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <ucontext.h>
#include <cmocka.h>

#include "common/fake_bus.h"
#include "dev/clock.h"
#include "dev/irq.h"
#include "dev/apic/lapic.h"
#include "lib/bits.h"

#define TSC_HZ UINT64_C(2500000000)

struct processor {
	struct lapic *lapic;
	unsigned kicks, nmis, inits, sipis;
	uint8_t sipi_vector;
	uint64_t irr[4]; /* at the last kick */
};

static struct fake_bus fake;
static struct apic_bus apic_bus;
static struct ioapic *ioapic;
static struct pic *pic;
static struct irq_router router;
static struct processor cpu[3];
static struct lapic *l0, *l1, *l2;
static const struct mmio_ops *ioapic_ops;

/* A processor that looks at once. */
static void kick(void *context)
{
	struct processor *p = context;

	p->kicks++;
	memcpy(p->irr, p->lapic->irr, sizeof(p->irr));
	lapic_update(p->lapic);
}
static void nmi(void *context)
{
	((struct processor *)context)->nmis++;
}
static void init(void *context)
{
	((struct processor *)context)->inits++;
}

static void sipi(void *context, uint8_t vector)
{
	((struct processor *)context)->sipis++;
	((struct processor *)context)->sipi_vector = vector;
}

static uint64_t tsc(void *context)
{
	return clock_ticks(fake.time, TSC_HZ);
}

static const struct lapic_host host = { kick, nmi, init, sipi, tsc };

static void pic_output(void *context, bool level)
{
	lapic_set_lint(l0, 0, level);
}

static enum status map(void *context, gpa_t where, uint64_t size, const struct mmio_ops *ops, void *device,
		       const char *name)
{
	ioapic_ops = ops;
	return where.v == 0xfec00000 && size == 4096 ? OK : BAD_VALUE;
}

static uint64_t next_of_lapics(void)
{
	uint64_t next = UINT64_MAX;

	for (unsigned i = 0; i < 3; i++)
		next = min_u64(next, cpu[i].lapic->deadline);
	return next;
}

static void run_lapics(uint64_t now)
{
	for (unsigned i = 0; i < 3; i++)
		lapic_timer_run(cpu[i].lapic, now);
}

static int setup(void **state)
{
	enum status status = OK;

	fake_bus_open(&fake);
	fake.bus.map_mmio = map;
	apic_bus = (struct apic_bus){ 0 };
	for (unsigned i = 0; i < 3 && status == OK; i++) {
		cpu[i] = (struct processor){ 0 };
		status = lapic_create(&fake.bus, &apic_bus, i, i == 0, TSC_HZ, &host, &cpu[i], &cpu[i].lapic);
	}
	fake.more_next = next_of_lapics;
	fake.run_more = run_lapics;
	l0 = cpu[0].lapic, l1 = cpu[1].lapic, l2 = cpu[2].lapic;
	if (status != OK || pic_create(&fake.bus, pic_output, NULL, &pic) != OK ||
	    ioapic_create(&fake.bus, &apic_bus, 0, &ioapic) != OK)
		return 1;
	router = (struct irq_router){ pic, ioapic };
	return 0;
}

static int teardown(void **state)
{
	assert_false(fake.locked);
	fake_bus_close(&fake);
	return 0;
}

static uint32_t rd(struct lapic *lapic, unsigned offset)
{
	return (uint32_t)lapic_mmio_ops.read(lapic, offset, 4);
}

static void wr(struct lapic *lapic, unsigned offset, uint32_t value)
{
	lapic_mmio_ops.write(lapic, offset, 4, value);
}

static void enable_all(void)
{
	for (unsigned i = 0; i < 3; i++)
		wr(cpu[i].lapic, 0xf0, 0x1ff);
}

static void redirect(unsigned pin, uint64_t entry)
{
	ioapic_ops->write(ioapic, 0, 4, 0x10 + 2 * pin + 1);
	ioapic_ops->write(ioapic, 0x10, 4, entry >> 32);
	ioapic_ops->write(ioapic, 0, 4, 0x10 + 2 * pin);
	ioapic_ops->write(ioapic, 0x10, 4, (uint32_t)entry);
}

static uint32_t entry_low(unsigned pin)
{
	ioapic_ops->write(ioapic, 0, 4, 0x10 + 2 * pin);
	return (uint32_t)ioapic_ops->read(ioapic, 0x10, 4);
}

static void power_on_state(void **state)
{
	uint64_t base;

	assert_int_equal(lapic_msr_read(l0, 0x1b, &base), OK);
	assert_true(base == 0xfee00900);
	assert_int_equal(lapic_msr_read(l1, 0x1b, &base), OK);
	assert_true(base == 0xfee00800);
	assert_int_equal(rd(l1, 0x20), 1u << 24);
	assert_int_equal(rd(l0, 0x30) & 0xff00ff, 0x050014);
	assert_int_equal(rd(l0, 0xf0), 0xff);
	assert_int_equal(rd(l0, 0xe0), 0xffffffff);
	for (unsigned offset = 0x320; offset <= 0x370; offset += 0x10)
		assert_int_equal(rd(l0, offset), 0x10000);
	wr(l0, 0x320, 0x20); /* software-disabled: the mask bit stays */
	assert_int_equal(rd(l0, 0x320), 0x10020);
	assert_int_equal(lapic_pending(l0), LAPIC_NOTHING);
}

static void ipi(struct lapic *from, uint32_t destination, uint32_t low)
{
	wr(from, 0x310, destination << 24);
	wr(from, 0x300, low);
}

/* What an EOI would do beyond ending the vector: tell the IOAPIC, or let come what waits. */
static void ends_alone(void **state)
{
	enable_all();
	ipi(l1, 0, 0x45);
	lapic_accept(l0, 0x45);
	assert_true(lapic_ends_alone(l0, 0x45));
	ipi(l1, 0, 0x31);
	assert_false(lapic_ends_alone(l0, 0x45));
	lapic_end_of_interrupt(l0);
	assert_int_equal(lapic_pending(l0), 0x31);
	lapic_accept(l0, 0x31);
	assert_true(lapic_ends_alone(l0, 0x31));
	lapic_end_of_interrupt(l0);
	redirect(5, 0x8051);
	irq_router_set(&router, 5, true);
	assert_int_equal(lapic_pending(l0), 0x51);
	lapic_accept(l0, 0x51);
	assert_false(lapic_ends_alone(l0, 0x51));
}

/* Whoever looks at once finds it. */
static void told_when_it_is_there(void **state)
{
	enable_all();
	ipi(l1, 0, 0x45);
	assert_int_equal(cpu[0].irr[1], BIT(5));
}

/* Another processor's bit in the same word, behind so many instructions; then no more steps. */
static uint64_t *irr_word;
static volatile unsigned steps_left;

#define TRAP_FLAG 0x100

static void meddle(int signal, siginfo_t *info, void *context)
{
	if (--steps_left)
		return;
	__atomic_fetch_or(irr_word, BIT(6), __ATOMIC_SEQ_CST);
	((ucontext_t *)context)->uc_mcontext.gregs[REG_EFL] &= ~TRAP_FLAG;
}

/* Between any two instructions of a message's way another one's may come, and both are there. */
static void no_bit_is_lost(void **state)
{
	const struct sigaction action = { .sa_sigaction = meddle, .sa_flags = SA_SIGINFO };
	const struct apic_message message = { .vector = 0x45 };
	unsigned steps = 0;

	enable_all();
	irr_word = &l0->irr[1];
	assert_int_equal(sigaction(SIGTRAP, &action, NULL), 0);
	do {
		*irr_word = 0;
		steps_left = ++steps;
		__asm__ volatile("pushfq; orl %0, (%%rsp); popfq" : : "i"(TRAP_FLAG) : "cc", "memory");
		(void)lapic_receive(l0, &message, true);
		__asm__ volatile("pushfq; andl %0, (%%rsp); popfq" : : "i"(~TRAP_FLAG) : "cc", "memory");
		assert_int_equal(*irr_word, steps_left ? BIT(5) : BIT(5) | BIT(6));
	} while (!steps_left);
	assert_true(steps > 20);
	(void)signal(SIGTRAP, SIG_DFL);
}

static void priorities(void **state)
{
	enable_all();
	ipi(l1, 0, 0x31);
	ipi(l1, 0, 0x45);
	assert_int_equal(lapic_pending(l0), 0x45);
	assert_int_equal(cpu[0].kicks, 2);
	lapic_accept(l0, 0x45);
	assert_int_equal(lapic_pending(l0), LAPIC_NOTHING);
	assert_int_equal(rd(l0, 0xa0), 0x40);
	assert_int_equal(rd(l0, 0x120), 1u << 5);
	assert_int_equal(rd(l0, 0x210), 1u << 17);
	ipi(l1, 0, 0x4f); /* same class: waits */
	assert_int_equal(lapic_pending(l0), LAPIC_NOTHING);
	ipi(l1, 0, 0x50);
	assert_int_equal(lapic_pending(l0), 0x50);
	wr(l0, 0x80, 0x5a);
	assert_int_equal(lapic_pending(l0), LAPIC_NOTHING);
	assert_int_equal(rd(l0, 0xa0), 0x5a);
	assert_int_equal(lapic_cr8(l0), 5);
	lapic_set_cr8(l0, 4);
	assert_int_equal(lapic_pending(l0), 0x50);
	lapic_set_cr8(l0, 5);
	assert_int_equal(lapic_pending(l0), LAPIC_NOTHING);
	lapic_set_cr8(l0, 0);
	lapic_accept(l0, 0x50);
	wr(l0, 0xb0, 0); /* ends 50 */
	assert_int_equal(fake.locks, 0);
	assert_int_equal(rd(l0, 0xa0), 0x40);
	wr(l0, 0xb0, 0);
	assert_int_equal(lapic_pending(l0), 0x4f);
	lapic_accept(l0, 0x4f);
	wr(l0, 0xb0, 0);
	assert_int_equal(lapic_pending(l0), 0x31);
	wr(l0, 0xf0, 0xff);
	ipi(l1, 0, 0x99); /* refused; 31 is kept */
	assert_int_equal(lapic_pending(l0), 0x31);
}

static void destinations(void **state)
{
	enable_all();
	ipi(l0, 0, 0xc0044); /* all but self */
	assert_int_equal(lapic_pending(l0), LAPIC_NOTHING);
	assert_int_equal(lapic_pending(l1), 0x44);
	assert_int_equal(lapic_pending(l2), 0x44);
	ipi(l0, 0, 0x40055); /* self */
	assert_int_equal(lapic_pending(l0), 0x55);
	assert_int_equal(lapic_pending(l1), 0x44);
	ipi(l0, 0xff, 0x66);
	assert_int_equal(lapic_pending(l2), 0x66);
	wr(l0, 0xd0, 0x01000000), wr(l1, 0xd0, 0x02000000), wr(l2, 0xd0, 0x12000000);
	ipi(l0, 0x02, 0x877); /* flat: bit 1 is in both l1 and l2 */
	assert_int_equal(lapic_pending(l0), 0x66);
	assert_int_equal(lapic_pending(l1), 0x77);
	assert_int_equal(lapic_pending(l2), 0x77);
	wr(l1, 0xe0, 0), wr(l2, 0xe0, 0); /* cluster */
	ipi(l0, 0x12, 0x888);
	assert_int_equal(lapic_pending(l1), 0x77);
	assert_int_equal(lapic_pending(l2), 0x88);
	ipi(l0, 1, 0x400);
	assert_int_equal(cpu[1].nmis, 1);
	wr(l1, 0xd0, 0x05000000);
	ipi(l0, 1, 0xc500);
	assert_int_equal(cpu[1].inits, 1);
	assert_int_equal(lapic_pending(l1), 0x77); /* it takes it when it comes to it */
	lapic_init(l1);
	assert_int_equal(rd(l1, 0xd0), 0);
	assert_int_equal(lapic_pending(l1), LAPIC_NOTHING);
	ipi(l0, 1, 0x8500); /* de-assert */
	assert_int_equal(cpu[1].inits, 1);
	ipi(l0, 1, 0x609a);
	ipi(l0, 1, 0x69a);
	assert_int_equal(cpu[1].sipi_vector, 0x9a);
}

/* Every shorthand with every mode, edge and level: what the tables call invalid goes to nobody. SDM vol. 3 table 11-3. */
static void invalid_ipis(void **state)
{
	for (unsigned low = 0; low < 8 * 4 * 4; low++) {
		unsigned mode = low & 7, shorthand = low >> 3 & 3;
		bool good = shorthand == 0 || shorthand == 3 ? mode != 3 && mode != 7 : mode == 0;
		uint32_t value = shorthand << 18 | (low >> 5 & 1) << 15 | 1u << 14 | mode << 8 | 0x55;
		unsigned got = 0;

		for (unsigned i = 0; i < 3; i++) {
			cpu[i].kicks = cpu[i].nmis = cpu[i].inits = cpu[i].sipis = 0;
			wr(cpu[i].lapic, 0xf0, 0x1ff);
		}
		ipi(l0, 1, value);
		for (unsigned i = 0; i < 3; i++) {
			got += cpu[i].nmis + cpu[i].inits + cpu[i].sipis + (lapic_pending(cpu[i].lapic) >= 0);
			while (lapic_pending(cpu[i].lapic) != LAPIC_NOTHING)
				lapic_accept(cpu[i].lapic, 0x55), wr(cpu[i].lapic, 0xb0, 0);
		}
		/* There is no SMM for an SMI to reach. */
		assert_int_equal(got != 0, good && mode != 2);
	}
	/* Reserved in a local entry: neither does a pin start a processor. */
	for (unsigned mode = 1; mode < 7; mode += 5) {
		wr(l0, 0x360, mode << 8 | 0x55);
		lapic_set_lint(l0, 1, true);
		lapic_set_lint(l0, 1, false);
		assert_true(cpu[0].sipis == 0 && lapic_pending(l0) == LAPIC_NOTHING);
	}
}

static void lowest_priority(void **state)
{
	enable_all();
	wr(l0, 0x80, 0x20);
	for (unsigned i = 0; i < 4; i++)
		apic_bus_msi(&apic_bus, 0xfee00000 | 0xff << 12, 0x100 | (0x40 + i));
	assert_int_equal(rd(l0, 0x220), 0);
	assert_int_equal(rd(l1, 0x220) | rd(l2, 0x220), 0xf);
	assert_true(rd(l1, 0x220) && rd(l2, 0x220)); /* in turns */
}

/* One of those named has it: by the mode, and by the address' redirection hint. */
static void msi_to_one_of_several(void **state)
{
	enable_all();
	wr(l0, 0xd0, 0x01000000), wr(l1, 0xd0, 0x02000000), wr(l2, 0xd0, 0x04000000);
	apic_bus_msi(&apic_bus, 0xfee0600c, 0x51);
	assert_true((lapic_pending(l1) == 0x51) != (lapic_pending(l2) == 0x51));
	apic_bus_msi(&apic_bus, 0xfee06004, 0x52);
	assert_true(lapic_pending(l0) == LAPIC_NOTHING && lapic_pending(l1) == 0x52 && lapic_pending(l2) == 0x52);
	apic_bus_msi(&apic_bus, 0xfee00008, 0x53); /* no hint with an id */
	assert_int_equal(lapic_pending(l0), 0x53);
	assert_int_equal(apic_bus_msi(&apic_bus, 0xfee00000, 0x53), IRQ_MERGED);
	assert_int_equal(cpu[0].kicks, 1);
	assert_int_equal(apic_bus_msi(&apic_bus, 0xfee03000, 0x54), IRQ_UNHEARD);
}

static void errors(void **state)
{
	enable_all();
	wr(l0, 0x370, 0xee);
	ipi(l0, 1, 0x05);
	assert_int_equal(rd(l0, 0x280), 0);
	wr(l0, 0x280, 0);
	assert_int_equal(rd(l0, 0x280), 0x20);
	wr(l0, 0x280, 0);
	assert_int_equal(rd(l0, 0x280), 0);
	assert_int_equal(lapic_pending(l0), 0xee);
	apic_bus_msi(&apic_bus, 0xfee01000, 0x0f);
	wr(l1, 0x280, 0);
	assert_int_equal(rd(l1, 0x280), 0x40);
	(void)rd(l1, 0x3f0);
	(void)rd(l1, 0x500);
	wr(l1, 0x280, 0);
	assert_int_equal(rd(l1, 0x280), 0x80);
}

static void timer_one_shot_and_periodic(void **state)
{
	enable_all();
	wr(l0, 0x320, 0x30);
	wr(l0, 0x3e0, 0x3); /* by 16 */
	wr(l0, 0x380, 1000);
	fake_bus_advance(&fake, 1600);
	assert_int_equal(rd(l0, 0x390), 900);
	fake_bus_advance(&fake, 14399);
	assert_int_equal(lapic_pending(l0), LAPIC_NOTHING);
	assert_int_equal(rd(l0, 0x390), 1);
	fake_bus_advance(&fake, 1);
	assert_int_equal(lapic_pending(l0), 0x30);
	assert_int_equal(rd(l0, 0x390), 0);
	lapic_accept(l0, 0x30), wr(l0, 0xb0, 0);
	fake_bus_advance(&fake, 1000000);
	assert_int_equal(lapic_pending(l0), LAPIC_NOTHING);
	wr(l0, 0x3e0, 0xb); /* by 1 */
	wr(l0, 0x320, 0x20031);
	wr(l0, 0x380, 1000000);
	cpu[0].kicks = 0;
	for (unsigned i = 0; i < 100; i++) {
		fake_bus_advance(&fake, 1000000);
		assert_int_equal(lapic_pending(l0), 0x31);
		lapic_accept(l0, 0x31), wr(l0, 0xb0, 0);
		assert_int_equal(lapic_pending(l0), LAPIC_NOTHING);
	}
	assert_int_equal(cpu[0].kicks, 0); /* it is its own */
	fake_bus_advance(&fake, 250000);
	assert_int_equal(rd(l0, 0x390), 750000);
	wr(l0, 0x3e0, 0x0); /* by 2: what is left takes twice as long */
	fake_bus_advance(&fake, 1499999);
	assert_int_equal(lapic_pending(l0), LAPIC_NOTHING);
	fake_bus_advance(&fake, 1);
	assert_int_equal(lapic_pending(l0), 0x31);
	wr(l0, 0x380, 0);
	assert_int_equal(rd(l0, 0x390), 0);
	assert_true(l0->deadline == UINT64_MAX);
}

static void missed_ticks_are_made_up_for(void **state)
{
	unsigned taken = 0;

	enable_all();
	wr(l0, 0x3e0, 0xb);
	wr(l0, 0x320, 0x20031);
	wr(l0, 0x380, 1000000);
	fake_bus_stand_still(&fake, 10000000);
	while (lapic_pending(l0) == 0x31) {
		lapic_accept(l0, 0x31);
		wr(l0, 0xb0, 0);
		taken++;
	}
	assert_int_equal(taken, 10);
	assert_int_equal(fake.events, 0);
	fake_bus_stand_still(&fake, 10000000);
	wr(l0, 0x320, 0x30031); /* masked meanwhile */
	lapic_accept(l0, 0x31);
	wr(l0, 0xb0, 0);
	assert_int_equal(lapic_pending(l0), LAPIC_NOTHING);
	assert_int_equal(l0->ticks.owed, 0);
	assert_false(fake.bus.ticks_owed);
	/* So fast that the guest would get nothing done: told, and bounded. */
	wr(l0, 0x320, 0x20031);
	wr(l0, 0x380, 100);
	assert_true(fake.events == 1 && fake.event == MACHINE_FAST_TIMER && fake.value == 100);
	taken = 0;
	for (unsigned i = 0; i < 1000; i++) {
		fake_bus_advance(&fake, 10000);
		if (lapic_pending(l0) == 0x31)
			lapic_accept(l0, 0x31), wr(l0, 0xb0, 0), taken++;
	}
	assert_in_range(taken, 45, 51);
}

static void tsc_deadline(void **state)
{
	uint64_t value;

	enable_all();
	assert_int_equal(lapic_msr_write(l0, 0x6e0, 1000), OK);
	assert_int_equal(lapic_msr_read(l0, 0x6e0, &value), OK);
	assert_true(value == 0); /* another mode */
	wr(l0, 0x320, 0x40032);
	assert_int_equal(lapic_msr_write(l0, 0x6e0, 2500001), OK);
	fake_bus_advance(&fake, 1000000);
	assert_int_equal(lapic_pending(l0), LAPIC_NOTHING);
	fake_bus_advance(&fake, 1);
	assert_int_equal(lapic_pending(l0), 0x32);
	assert_int_equal(lapic_msr_read(l0, 0x6e0, &value), OK);
	assert_true(value == 0);
	lapic_accept(l0, 0x32), wr(l0, 0xb0, 0);
	assert_int_equal(lapic_msr_write(l0, 0x6e0, 1), OK); /* in the past: at once */
	assert_int_equal(lapic_pending(l0), 0x32);
	assert_int_equal(lapic_msr_write(l0, 0x6e0, UINT64_MAX), OK);
	assert_int_equal(lapic_msr_write(l0, 0x6e0, 0), OK);
	assert_true(l0->deadline == UINT64_MAX);
	wr(l0, 0x380, 55); /* ignored in this mode */
	assert_int_equal(rd(l0, 0x380), 0);
}

static void base_transitions_and_x2apic(void **state)
{
	uint64_t value;

	enable_all();
	assert_int_equal(lapic_msr_read(l0, 0x802, &value), BAD_VALUE);
	assert_int_equal(lapic_msr_write(l0, 0x1b, 0xfee00500), BAD_VALUE);
	assert_int_equal(lapic_msr_write(l0, 0x1b, 0xfee00901), BAD_VALUE);
	assert_int_equal(lapic_msr_write(l2, 0x1b, 0xfee00c00), OK);
	assert_int_equal(rd(l2, 0x20), 0xffffffff); /* the page is gone */
	assert_int_equal(lapic_msr_read(l2, 0x802, &value), OK);
	assert_true(value == 2);
	assert_int_equal(lapic_msr_read(l2, 0x80d, &value), OK);
	assert_true(value == 4);
	assert_int_equal(lapic_msr_write(l2, 0x1b, 0xfee00800), BAD_VALUE);
	static const uint16_t absent[] = { 0x800, 0x809, 0x80e, 0x831, 0x82f, 0x83a, 0x840, 0x8ff, 0x80b, 0x83f };
	for (unsigned i = 0; i < sizeof(absent) / sizeof(absent[0]); i++)
		assert_int_equal(lapic_msr_read(l2, absent[i], &value), BAD_VALUE);
	static const struct {
		uint16_t msr;
		uint64_t value;
	} refused[] = {
		{ 0x802, 0 },
		{ 0x803, 0 },
		{ 0x80d, 0 },
		{ 0x80b, 1 },
		{ 0x828, 1 },
		{ 0x808, 0x100 },
		{ 0x80f, 0x200 },
		{ 0x830, 0x1000 },
		{ 0x830, 0x2000 },
		{ 0x830, 0x100000 },
		{ 0x832, 0x100 },
		{ 0x83e, 4 },
		{ 0x838, UINT64_C(1) << 32 },
		{ 0x83f, 0x100 },
		{ 0x839, 0 },
		{ 0x810, 0 },
	};
	for (unsigned i = 0; i < sizeof(refused) / sizeof(refused[0]); i++)
		assert_int_equal(lapic_msr_write(l2, refused[i].msr, refused[i].value), BAD_VALUE);
	assert_int_equal(lapic_msr_write(l2, 0x83f, 0x70), OK);
	assert_int_equal(lapic_pending(l2), 0x70);
	lapic_accept(l2, 0x70);
	assert_int_equal(lapic_msr_write(l2, 0x80b, 0), OK);
	assert_int_equal(lapic_msr_write(l2, 0x830, UINT64_C(0x0000000100000034)), OK);
	assert_int_equal(lapic_pending(l1), 0x34);
	assert_int_equal(lapic_msr_write(l2, 0x830, UINT64_C(0x0000000400000835)), OK); /* logical: itself */
	assert_int_equal(lapic_pending(l2), 0x35);
	assert_int_equal(lapic_msr_read(l2, 0x830, &value), OK);
	assert_true(value == UINT64_C(0x0000000400000835));
	assert_int_equal(lapic_msr_write(l2, 0x1b, 0xfee00000), OK);
	assert_int_equal(lapic_pending(l2), LAPIC_NOTHING);
	assert_int_equal(lapic_msr_write(l2, 0x1b, 0xfee00c00), BAD_VALUE);
	assert_int_equal(lapic_msr_write(l2, 0x1b, 0xfee00800), OK);
	assert_int_equal(rd(l2, 0xf0), 0xff);
}

static void level_pin_and_eoi(void **state)
{
	enable_all();
	redirect(9, UINT64_C(1) << 56 | 0x8000 | 0x39);
	irq_router_set(&router, 9, true);
	assert_int_equal(lapic_pending(l1), 0x39);
	assert_int_equal(entry_low(9), 0xc039);
	lapic_accept(l1, 0x39);
	assert_int_equal(rd(l1, 0x190), 1u << 25);
	assert_int_equal(fake.locks, 0);
	wr(l1, 0xb0, 0); /* still asserted: again; the IOAPIC is told under the devices' lock */
	assert_int_equal(fake.locks, 1);
	assert_int_equal(lapic_pending(l1), 0x39);
	lapic_accept(l1, 0x39);
	irq_router_set(&router, 9, false);
	wr(l1, 0xb0, 0);
	assert_int_equal(lapic_pending(l1), LAPIC_NOTHING);
	assert_int_equal(entry_low(9), 0x8039);
	wr(l1, 0xf0, 0x11ff); /* no broadcast: by the IOAPIC's own register */
	irq_router_set(&router, 9, true);
	lapic_accept(l1, 0x39);
	wr(l1, 0xb0, 0);
	assert_int_equal(entry_low(9), 0xc039);
	irq_router_set(&router, 9, false);
	ioapic_ops->write(ioapic, 0x40, 4, 0x39);
	assert_int_equal(entry_low(9), 0x8039);
	redirect(9, UINT64_C(1) << 56 | 0x18039);
	irq_router_set(&router, 9, true);
	assert_int_equal(lapic_pending(l1), LAPIC_NOTHING);
	redirect(9, UINT64_C(1) << 56 | 0x8039); /* unmasked while asserted */
	assert_int_equal(lapic_pending(l1), 0x39);
}

static void edge_pin_and_registers(void **state)
{
	enable_all();
	ioapic_ops->write(ioapic, 0, 4, 1);
	assert_int_equal(ioapic_ops->read(ioapic, 0x10, 4), 0x00170020);
	assert_int_equal(entry_low(23), 0x10000);
	ioapic_ops->write(ioapic, 0, 4, 0x40);
	assert_int_equal(ioapic_ops->read(ioapic, 0x10, 4), 0);
	irq_router_set(&router, 0, true);
	redirect(2, 0x30);
	assert_int_equal(lapic_pending(l0), LAPIC_NOTHING); /* the edge is over */
	irq_router_set(&router, 0, false);
	irq_router_set(&router, 0, true);
	assert_int_equal(lapic_pending(l0), 0x30);
	assert_int_equal(entry_low(2), 0x30);
	ioapic_set_pin(ioapic, 24, true);
	ioapic_set_pin(ioapic, 1000, true);
}

static void virtual_wire(void **state)
{
	lapic_set_virtual_wire(l0);
	out8(&fake, 0x20, 0x11), out8(&fake, 0x21, 0x08), out8(&fake, 0x21, 0x04), out8(&fake, 0x21, 0x01);
	irq_router_set(&router, 4, true);
	assert_int_equal(lapic_pending(l0), LAPIC_EXTINT);
	assert_int_equal(pic_acknowledge(pic), 0x0c);
	lapic_update(l0);
	assert_int_equal(lapic_pending(l0), LAPIC_NOTHING);
	wr(l0, 0x350, 0x10700); /* masked */
	irq_router_set(&router, 3, true);
	assert_int_equal(lapic_pending(l0), LAPIC_NOTHING);
	wr(l0, 0x350, 0x700);
	assert_int_equal(lapic_pending(l0), LAPIC_EXTINT);
	wr(l0, 0x350, 0x10700);
	assert_int_equal(lapic_msr_write(l0, 0x1b, 0xfee00100), OK); /* off: INTR goes straight through */
	assert_int_equal(lapic_pending(l0), LAPIC_EXTINT);
	lapic_set_lint(l1, 1, true);
	assert_int_equal(cpu[1].nmis, 0);
	lapic_set_lint(l1, 1, false);
	lapic_set_virtual_wire(l1);
	lapic_set_lint(l1, 1, true);
	assert_int_equal(cpu[1].nmis, 1);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(power_on_state, setup, teardown),
		cmocka_unit_test_setup_teardown(ends_alone, setup, teardown),
		cmocka_unit_test_setup_teardown(told_when_it_is_there, setup, teardown),
		cmocka_unit_test_setup_teardown(no_bit_is_lost, setup, teardown),
		cmocka_unit_test_setup_teardown(priorities, setup, teardown),
		cmocka_unit_test_setup_teardown(destinations, setup, teardown),
		cmocka_unit_test_setup_teardown(lowest_priority, setup, teardown),
		cmocka_unit_test_setup_teardown(msi_to_one_of_several, setup, teardown),
		cmocka_unit_test_setup_teardown(errors, setup, teardown),
		cmocka_unit_test_setup_teardown(invalid_ipis, setup, teardown),
		cmocka_unit_test_setup_teardown(missed_ticks_are_made_up_for, setup, teardown),
		cmocka_unit_test_setup_teardown(timer_one_shot_and_periodic, setup, teardown),
		cmocka_unit_test_setup_teardown(tsc_deadline, setup, teardown),
		cmocka_unit_test_setup_teardown(base_transitions_and_x2apic, setup, teardown),
		cmocka_unit_test_setup_teardown(level_pin_and_eoi, setup, teardown),
		cmocka_unit_test_setup_teardown(edge_pin_and_registers, setup, teardown),
		cmocka_unit_test_setup_teardown(virtual_wire, setup, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
