/* SPDX-License-Identifier: Apache-2.0 */
// sources: dev/apic/lapic.c dev/apic/lapic_timer.c dev/apic/lapic_access.c dev/apic/bus.c dev/apic/ioapic.c dev/ports.c dev/tick.c dev/timer.c
// threads
/*
 * Four processors, a thread each, with a local APIC each and no lock around it. Each asks the others, in turns by every kind of message,
 * and sleeps until it has its answers; a processor that sleeps is woken by a request alone, as in Quire (vm/vcpu/run.c), and the
 * second request to one that hasn't looked yet wakes nobody. What must hold: each message is taken exactly once by each that it names, the
 * lowest priority's by one; a level line is ended once; and when all sleep, nothing is left undone.
 */
#include <pthread.h>
#include <sched.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <cmocka.h>

#include "common/fake_bus.h"
#include "dev/apic/ioapic.h"
#include "dev/apic/lapic.h"

#define CPUS 4u
#define ROUNDS 1500u
#define ASK 0x40u    /* and the number of who asks */
#define LINE 0x60u   /* the same, by a line */
#define ANSWER 0x31u /* wakes who asked */
#define ALONE 0x80u  /* and the number of who sends */
#define STORM 200000u
#define EVERYBODY ((1u << CPUS) - 1)

static struct fake_bus fake;
static struct apic_bus apic_bus;
static struct ioapic *ioapic;
static const struct mmio_ops *ioapic_ops;
static pthread_mutex_t devices = PTHREAD_MUTEX_INITIALIZER;

static struct processor {
	struct lapic *lapic;
	unsigned number;
	uint32_t requests, nmi; /* atomic */
	bool awake;             /* atomic: what a kick or a wake-up sets */
	uint32_t nmis;          /* atomic: taken */
	uint32_t answers;       /* atomic: to its present question */
	uint32_t taken[CPUS];   /* by whom: of its questions; atomic */
	uint64_t dice;
} cpu[CPUS];
static uint32_t asleep, finished; /* atomic */

static void request(void *context)
{
	struct processor *p = context;

	if (!__atomic_fetch_or(&p->requests, 1, __ATOMIC_SEQ_CST))
		__atomic_store_n(&p->awake, true, __ATOMIC_SEQ_CST);
}

static void nmi(void *context)
{
	struct processor *p = context;

	__atomic_store_n(&p->nmi, 1, __ATOMIC_SEQ_CST);
	request(p);
}

static void never(void *context)
{
	abort();
}

static void never_sipi(void *context, uint8_t vector)
{
	abort();
}

static uint64_t tsc(void *context)
{
	return 0;
}

static const struct lapic_host host = { request, nmi, never, never_sipi, tsc };

static void lock(void *context)
{
	pthread_mutex_lock(&devices);
}

static void unlock(void *context)
{
	pthread_mutex_unlock(&devices);
}

static enum status map(void *context, gpa_t where, uint64_t size, const struct mmio_ops *ops, void *device,
		       const char *name)
{
	ioapic_ops = ops;
	return OK;
}

static void write_register(struct processor *p, unsigned offset, uint32_t value)
{
	lapic_mmio_ops.write(p->lapic, offset, 4, value);
}

static void send(struct processor *p, uint32_t destination, uint32_t low)
{
	write_register(p, 0x310, destination << 24);
	write_register(p, 0x300, low);
}

static uint64_t roll(struct processor *p)
{
	p->dice ^= p->dice << 13;
	p->dice ^= p->dice >> 7;
	p->dice ^= p->dice << 17;
	return p->dice >> 11;
}

/* ---- a processor's own work ---- */

static void answer(struct processor *p, unsigned whom)
{
	__atomic_fetch_add(&cpu[whom].taken[p->number], 1, __ATOMIC_SEQ_CST);
	__atomic_fetch_add(&cpu[whom].answers, 1, __ATOMIC_SEQ_CST);
	send(p, whom, ANSWER);
}

static void handle(struct processor *p, unsigned vector)
{
	if (vector >= LINE) {
		lock(NULL);
		(void)ioapic_set_pin(ioapic, vector - LINE, false);
		unlock(NULL);
	}
	write_register(p, 0xb0, 0);
	if (vector >= LINE)
		answer(p, vector - LINE);
	else if (vector >= ASK)
		answer(p, vector - ASK);
}

/* What it has been asked to look at. */
static void look(struct processor *p)
{
	__atomic_store_n(&p->awake, false, __ATOMIC_SEQ_CST);
	if (__atomic_exchange_n(&p->requests, 0, __ATOMIC_SEQ_CST))
		lapic_update(p->lapic);
	if (__atomic_exchange_n(&p->nmi, 0, __ATOMIC_SEQ_CST)) {
		__atomic_fetch_add(&p->nmis, 1, __ATOMIC_SEQ_CST);
		send(p, 0, 3u << 18 | ANSWER);
	}
	while (lapic_pending(p->lapic) >= 0) {
		unsigned vector = (unsigned)lapic_pending(p->lapic);

		lapic_accept(p->lapic, (uint8_t)vector);
		handle(p, vector);
	}
}

static bool lost(void)
{
	if (__atomic_load_n(&asleep, __ATOMIC_SEQ_CST) != CPUS)
		return false;
	for (unsigned i = 0; i < CPUS; i++)
		if (__atomic_load_n(&cpu[i].awake, __ATOMIC_SEQ_CST))
			return false;
	return __atomic_load_n(&asleep, __ATOMIC_SEQ_CST) == CPUS;
}

static void sleep_until_woken(struct processor *p)
{
	__atomic_fetch_add(&asleep, 1, __ATOMIC_SEQ_CST);
	while (!__atomic_load_n(&p->awake, __ATOMIC_SEQ_CST)) {
		if (lost() && __atomic_load_n(&finished, __ATOMIC_SEQ_CST) != CPUS) {
			printf("all sleep, and %u has questions open\n", p->number);
			abort();
		}
		if (__atomic_load_n(&finished, __ATOMIC_SEQ_CST) == CPUS)
			break;
		sched_yield();
	}
	__atomic_fetch_sub(&asleep, 1, __ATOMIC_SEQ_CST);
}

/* ---- the questions ---- */

static void line(struct processor *p, unsigned whom)
{
	lock(NULL);
	ioapic_ops->write(ioapic, 0, 4, 0x11 + 2 * p->number);
	ioapic_ops->write(ioapic, 0x10, 4, whom << 24);
	ioapic_ops->write(ioapic, 0, 4, 0x10 + 2 * p->number);
	ioapic_ops->write(ioapic, 0x10, 4, 0x8000 | (LINE + p->number));
	(void)ioapic_set_pin(ioapic, p->number, true);
	unlock(NULL);
}

/* Which processors have to answer, one of them only for the lowest priority. */
static uint32_t ask(struct processor *p, unsigned whom, bool *one)
{
	uint32_t vector = ASK + p->number;

	switch (roll(p) % 7) {
	case 0: send(p, whom, vector); return 1u << whom;
	case 1: send(p, 1u << whom | 1, 0x800 | vector); return 1u << whom | 1;
	case 2: send(p, 0, 3u << 18 | vector); return EVERYBODY & ~(1u << p->number);
	case 3: send(p, 0xff, vector); return EVERYBODY;
	case 4:
		*one = true;
		send(p, 1u << whom | 2, 0x900 | vector);
		return 1u << whom | 2;
	case 5: line(p, whom); return 1u << whom;
	default: (void)apic_bus_msi(&apic_bus, 0xfee00000 | whom << 12, vector); return 1u << whom;
	}
}

static void have_answers(struct processor *p, uint32_t wanted)
{
	for (;;) {
		look(p);
		if (__atomic_load_n(&p->answers, __ATOMIC_SEQ_CST) >= wanted)
			break;
		sleep_until_woken(p);
	}
	assert_int_equal(__atomic_load_n(&p->answers, __ATOMIC_SEQ_CST), wanted);
}

static void question(struct processor *p)
{
	uint32_t before[CPUS], to, sum = 0;
	bool one = false;

	__atomic_store_n(&p->answers, 0, __ATOMIC_SEQ_CST);
	for (unsigned i = 0; i < CPUS; i++)
		before[i] = __atomic_load_n(&p->taken[i], __ATOMIC_SEQ_CST);
	to = ask(p, roll(p) % CPUS, &one);
	have_answers(p, one ? 1 : (uint32_t)__builtin_popcount(to));
	for (unsigned i = 0; i < CPUS; i++) {
		uint32_t more = __atomic_load_n(&p->taken[i], __ATOMIC_SEQ_CST) - before[i];

		assert_true(more <= (to >> i & 1));
		sum += more;
	}
	assert_int_equal(sum, one ? 1 : __builtin_popcount(to));
}

/* One that comes before another is taken is one with it. */
static void ask_by_nmi(struct processor *p)
{
	unsigned whom = roll(p) % CPUS;
	uint32_t before = __atomic_load_n(&cpu[whom].nmis, __ATOMIC_SEQ_CST);

	send(p, whom, 0x400);
	for (look(p); __atomic_load_n(&cpu[whom].nmis, __ATOMIC_SEQ_CST) == before; look(p))
		sleep_until_woken(p);
}

static void *live(void *argument)
{
	struct processor *p = argument;

	for (unsigned round = 0; round < ROUNDS; round++) {
		if (roll(p) % 8 == 0) { /* with what comes held back for a while */
			write_register(p, 0x80, 0x70);
			sched_yield();
			write_register(p, 0x80, 0);
		}
		if (roll(p) % 8)
			question(p);
		else
			ask_by_nmi(p);
	}
	__atomic_fetch_add(&finished, 1, __ATOMIC_SEQ_CST);
	while (__atomic_load_n(&finished, __ATOMIC_SEQ_CST) != CPUS) {
		look(p);
		sleep_until_woken(p);
	}
	return NULL;
}

static int setup(void **state)
{
	enum status status = OK;

	apic_bus = (struct apic_bus){ 0 };
	fake_bus_open(&fake);
	fake.bus.lock = lock;
	fake.bus.unlock = unlock;
	fake.bus.map_mmio = map;
	for (unsigned i = 0; i < CPUS && status == OK; i++) {
		cpu[i] = (struct processor){ .number = i, .dice = 88172645463325252u + 7 * i };
		status = lapic_create(&fake.bus, &apic_bus, i, i == 0, 0, &host, &cpu[i], &cpu[i].lapic);
	}
	if (status != OK || ioapic_create(&fake.bus, &apic_bus, CPUS, &ioapic) != OK)
		return 1;
	for (unsigned i = 0; i < CPUS; i++) {
		write_register(&cpu[i], 0xf0, 0x1ff);
		write_register(&cpu[i], 0xd0, 1u << (24 + i));
	}
	return 0;
}

static int teardown(void **state)
{
	fake_bus_close(&fake);
	return 0;
}

static void all_do(void *(*work)(void *))
{
	pthread_t threads[CPUS];

	for (unsigned i = 0; i < CPUS; i++)
		assert_int_equal(pthread_create(&threads[i], NULL, work, &cpu[i]), 0);
	for (unsigned i = 0; i < CPUS; i++)
		pthread_join(threads[i], NULL);
}

static void nothing_is_lost(void **state)
{
	all_do(live);
	for (unsigned i = 0; i < CPUS; i++) {
		look(&cpu[i]);
		for (unsigned vector = 0; vector < 256; vector += 32)
			assert_int_equal(lapic_mmio_ops.read(cpu[i].lapic, 0x100 + vector / 2, 4), 0);
	}
}

static uint32_t gone; /* atomic */

/* All send to one processor, which doesn't look, vectors that lie in one word: each finds its own there, and takes it back. */
static void *storm(void *argument)
{
	struct processor *p = argument;
	uint64_t bit = UINT64_C(1) << p->number, *word = &cpu[0].lapic->irr[ALONE / 64];

	for (unsigned n = 0; n < STORM; n++) {
		send(p, 0, ALONE + p->number);
		if (!(__atomic_fetch_and(word, ~bit, __ATOMIC_SEQ_CST) & bit))
			__atomic_fetch_add(&gone, 1, __ATOMIC_SEQ_CST);
	}
	return NULL;
}

static void no_bit_is_lost(void **state)
{
	all_do(storm);
	assert_int_equal(gone, 0);
	assert_int_equal(cpu[0].lapic->irr[ALONE / 64], 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(nothing_is_lost, setup, teardown),
		cmocka_unit_test_setup_teardown(no_bit_is_lost, setup, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
