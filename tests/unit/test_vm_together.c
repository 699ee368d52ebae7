/* SPDX-License-Identifier: Apache-2.0 */
// sources: vm/vcpu/run.c vm/vcpu/exits.c vm/vcpu/signal.c vm/vcpu/interrupts.c vm/machine/flush.c vm/machine/queue.c vm/machine/queues.c vm/machine/offers.c dev/apic/lapic.c dev/apic/lapic_timer.c dev/apic/lapic_access.c dev/apic/bus.c dev/ports.c dev/tick.c dev/timer.c
// threads
/*
 * Run loop, requests, signals, local APICs and queues together, as they are, over a processor that is a loop here: four host CPUs, a
 * thread each, run the vcpus of one machine, which move between them. Each asks others by interrupts and halts until it is answered; now and
 * then one makes everybody flush, under the devices' lock; the last one is stopped and started by INIT and SIPI.
 *
 * What must hold: all questions are answered, each once, and all starts happen, so it ends; never do all CPUs sleep; a vcpu is on one
 * CPU at a time; and nobody is in its guest with an older generation once a flush is over.
 */
#include <pthread.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/queue_world.h"

#include "arch/x86_64/registers.h"
#include "dev/apic/lapic.h"
#include "vm/machine/internal.h"
#include "vm/vcpu/nested.h"
#include "vm/vcpu/pv.h"

#define CPUS 4u
#define ASKERS 5u
#define VCPUS (ASKERS + 1) /* the last one is stopped and started */
#define ROUNDS 150u
#define LIVES 30u
#define ASK 0x40u /* and the number of who asks */
#define ANSWER 0x31u
#define X2APIC_EOI 0x80bu
#define X2APIC_ICR 0x830u
#define LONG_ENOUGH 200000u /* looks by one who waits while others could run */

static struct machine machine;
static struct vcpu vcpus[VCPUS];
static struct hv_vcpu hv_of[VCPUS];
static struct apic_bus apic_bus;
static struct bus bus;
static uint32_t on[VCPUS], kicked[CPUS], idle_cpus, left, finished; /* atomic */
static uint64_t translation, inside[VCPUS];                         /* atomic: as in test_vm_flush.c */
static struct flush_domain domain = { .sync = machine_sync_flush, .context = &machine };

/* What a guest is about; it changes on the CPU that runs the vcpu. */
static struct guest {
	uint64_t todo[4]; /* MSR writes to come: the MSR above the value */
	unsigned tasks;
	unsigned rounds, answers, lives_seen, waits;
	bool asks; /* and waits for its answer */
	uint32_t dice;
} guests[VCPUS];
static uint32_t asked[ASKERS], lives; /* atomic */

/* ---- the guest ---- */

static void will_write(struct guest *g, uint32_t msr, uint64_t value)
{
	assert_true(g->tasks < ARRAY_SIZE(g->todo));
	g->todo[g->tasks++] = (uint64_t)msr << 48 | value;
}

static void will_send(struct guest *g, unsigned to, uint32_t low)
{
	will_write(g, X2APIC_ICR, (uint64_t)to << 32 | low);
}

static void take_interrupt(struct guest *g, struct hv_vcpu *h)
{
	uint8_t vector = h->inject.vector;

	h->inject.kind = EVENT_NONE;
	h->rflags &= ~(uint64_t)RFLAGS_IF; /* until it halts */
	will_write(g, X2APIC_EOI, 0);
	if (vector == ANSWER) {
		assert_true(g->asks);
		g->asks = false;
		g->answers++;
		return;
	}
	assert_in_range(vector, ASK, ASK + ASKERS - 1);
	__atomic_fetch_add(&asked[vector - ASK], 1, __ATOMIC_SEQ_CST);
	will_send(g, vector - ASK, ANSWER);
}

/* In the guest for a while, unless it is kicked. */
static bool kicked_inside(struct hv_vcpu *h, unsigned patience)
{
	unsigned id = ((struct vcpu *)h->owner)->id;
	bool kick = false;

	__atomic_store_n(&inside[id], __atomic_load_n(&translation, __ATOMIC_SEQ_CST), __ATOMIC_SEQ_CST);
	while (!(kick = __atomic_exchange_n(&kicked[test_cpu], 0, __ATOMIC_SEQ_CST)) && patience--)
		sched_yield();
	__atomic_store_n(&inside[id], UINT64_MAX, __ATOMIC_SEQ_CST);
	return kick;
}

static void exit_by_write(struct hv_vcpu *h, uint64_t task)
{
	h->exit.kind = EXIT_MSR_WRITE;
	h->gpr[GPR_RCX] = task >> 48;
	h->gpr[GPR_RAX] = task & BITS(47, 0);
}

/* The first one's other work: the last one has lived since it was started, and is stopped and started again. */
static bool start_again(struct guest *g, struct hv_vcpu *h)
{
	uint32_t now = __atomic_load_n(&lives, __ATOMIC_SEQ_CST);

	if (now == g->lives_seen || now >= LIVES) {
		if (++g->waits == LONG_ENOUGH) {
			fprintf(stderr, "a start is lost\n");
			abort();
		}
		return false;
	}
	g->lives_seen = now;
	g->waits = 0;
	will_send(g, ASKERS, DELIVERY_STARTUP << 8 | 0x9a);
	exit_by_write(h, (uint64_t)X2APIC_ICR << 48 | (uint64_t)ASKERS << 32 | DELIVERY_INIT << 8 | 1u << 14);
	return true;
}

/* One of the askers: what it does next. */
static void ask_on(struct vcpu *v, struct guest *g, struct hv_vcpu *h)
{
	g->dice = g->dice * 1664525 + 1013904223;
	if (v->id == 0 && !g->asks && g->dice >> 31 && start_again(g, h))
		return;
	if (g->asks || (g->rounds == ROUNDS && (v->id || __atomic_load_n(&lives, __ATOMIC_SEQ_CST) >= LIVES))) {
		h->rflags |= RFLAGS_IF;
		h->exit.kind = EXIT_HLT;
	} else if (g->rounds == ROUNDS) {
		h->exit.kind = EXIT_PAUSE;
	} else if (g->dice >> 24 < 16) {
		h->exit.kind = EXIT_IO; /* a flush */
	} else {
		g->asks = true;
		g->rounds++;
		exit_by_write(h, (uint64_t)X2APIC_ICR << 48 | (uint64_t)(g->dice % ASKERS) << 32 | (ASK + v->id));
	}
}

static void live(struct guest *g, struct hv_vcpu *h)
{
	assert_int_equal(h->segment[SEG_CS].base, 0x9a000);
	if (!g->asks)
		__atomic_fetch_add(&lives, 1, __ATOMIC_SEQ_CST);
	g->asks = true;
	h->exit.kind = EXIT_HLT; /* with interrupts off: INIT alone ends it */
}

static void enter(struct hv_vcpu *h)
{
	struct vcpu *v = h->owner;
	struct guest *g = &guests[v->id];

	h->flush_pending = false;
	h->valid = ~0u;
	h->exit.length = 2;
	if (h->inject.kind == EVENT_INTERRUPT)
		take_interrupt(g, h);
	g->dice = g->dice * 1664525 + 1013904223;
	if (kicked_inside(h, g->dice >> 29)) {
		h->exit.kind = EXIT_HOST_INTERRUPT;
	} else if (g->tasks) {
		exit_by_write(h, g->todo[0]);
		memmove(g->todo, g->todo + 1, --g->tasks * sizeof(g->todo[0]));
	} else if (v->id == ASKERS) {
		live(g, h);
	} else {
		ask_on(v, g, h);
	}
}

static void run(struct hv_vcpu *h)
{
	do
		enter(h);
	while (vcpu_exited(h));
}

static void load(struct hv_vcpu *h, uint32_t groups)
{
	h->valid |= groups;
}

static const struct hv_ops ops = { .name = "test", .run = run, .load = load };
const struct hv_ops *hv = &ops;

/* ---- its exits ---- */

enum exit_action exit_msr_write(struct vcpu *v)
{
	assert_int_equal(lapic_msr_write(v->lapic, (uint32_t)v->hv->gpr[GPR_RCX], v->hv->gpr[GPR_RAX]), OK);
	return ACTION_ENTER;
}

enum exit_action exit_io(struct vcpu *v)
{
	uint64_t generation;

	lock_acquire(&machine.lock);
	__atomic_fetch_add(&translation, 1, __ATOMIC_SEQ_CST);
	generation = __atomic_add_fetch(&domain.generation, 1, __ATOMIC_SEQ_CST);
	domain.sync(&domain, generation);
	for (unsigned i = 0; i < VCPUS; i++)
		assert_true(__atomic_load_n(&inside[i], __ATOMIC_SEQ_CST) >= generation);
	lock_release(&machine.lock);
	return ACTION_ENTER;
}

/* As INIT leaves it. */
void vcpu_init(struct vcpu *v)
{
	v->l1->rflags = 2;
	v->l1->inject.kind = EVENT_NONE;
	v->activity = v->id == ASKERS ? VCPU_WAIT_SIPI : VCPU_RUNNABLE;
	guests[v->id] = (struct guest){ .dice = v->id };
	lapic_init(v->lapic);
}

int board_take_interrupt(struct board *board, struct lapic *lapic)
{
	int vector = lapic_pending(lapic);

	if (vector >= 0)
		lapic_accept(lapic, (uint8_t)vector);
	return vector;
}

/* ---- the host ---- */

void host_kick(unsigned cpu, bool nmi)
{
	__atomic_store_n(&kicked[cpu], 1, __ATOMIC_SEQ_CST);
}

void schedule_woken(struct vcpu *v, bool leaves)
{
	queues_wake(v, leaves, 0);
}

void vcpu_switch_in(struct vcpu *v)
{
	world_load(v);
	vcpu_flush_late(v);
}

/* All sleep, and nobody has been kicked: nothing will ever happen. */
static bool all_asleep(void)
{
	if (__atomic_load_n(&idle_cpus, __ATOMIC_SEQ_CST) != CPUS)
		return false;
	for (unsigned i = 0; i < CPUS; i++)
		if (__atomic_load_n(&kicked[i], __ATOMIC_SEQ_CST))
			return false;
	return __atomic_load_n(&left, __ATOMIC_SEQ_CST) < VCPUS;
}

static void sleep_until_kicked(void)
{
	unsigned looks = 0;
	uint64_t due;

	if (!queues_nothing(&due))
		return;
	__atomic_fetch_add(&idle_cpus, 1, __ATOMIC_SEQ_CST);
	while (!__atomic_exchange_n(&kicked[test_cpu], 0, __ATOMIC_SEQ_CST) &&
	       __atomic_load_n(&left, __ATOMIC_SEQ_CST) < VCPUS) {
		sched_yield();
		looks = all_asleep() ? looks + 1 : 0;
		if (looks == 1000) {
			fprintf(stderr, "all CPUs are asleep\n");
			abort();
		}
	}
	__atomic_fetch_sub(&idle_cpus, 1, __ATOMIC_SEQ_CST);
}

static bool all_done(void)
{
	for (unsigned i = 0; i < ASKERS; i++)
		if (__atomic_load_n(&asked[i], __ATOMIC_SEQ_CST) < ROUNDS)
			return false;
	return __atomic_load_n(&lives, __ATOMIC_SEQ_CST) >= LIVES;
}

static void turn(struct vcpu *v)
{
	enum vcpu_outcome outcome;

	assert_int_equal(__atomic_exchange_n(&on[v->id], 1, __ATOMIC_SEQ_CST), 0);
	outcome = vcpu_run(v, rdtsc() + 2000000);
	__atomic_store_n(&on[v->id], 0, __ATOMIC_SEQ_CST);
	if (outcome == VCPU_LEFT && v->loaded) {
		held[test_cpu] = NULL;
		__atomic_store_n(&v->loaded, false, __ATOMIC_RELEASE);
	}
	queues_put(v, outcome, 1000, rdtsc());
	if (outcome == VCPU_LEFT)
		__atomic_fetch_add(&left, 1, __ATOMIC_SEQ_CST);
	if (all_done() && !__atomic_exchange_n(&finished, 1, __ATOMIC_SEQ_CST))
		for (unsigned i = 0; i < VCPUS; i++)
			vcpu_request(&vcpus[i], REQUEST_LEAVE);
}

static void *cpu(void *argument)
{
	test_cpu = (unsigned)(uintptr_t)argument;
	while (__atomic_load_n(&left, __ATOMIC_SEQ_CST) < VCPUS) {
		uint64_t due;
		struct vcpu *v = queues_pick(rdtsc(), &due);

		if (v)
			turn(v);
		else if (queues_rest())
			sleep_until_kicked();
	}
	return NULL;
}

/* ---- what else the files want ---- */

static void lapic_kick(void *context)
{
	vcpu_request(context, REQUEST_EVENT);
}
static void lapic_nmi(void *context)
{
	vcpu_send_nmi(context);
}
static void lapic_init_signal(void *context)
{
	vcpu_send_init(context);
}
static void lapic_sipi(void *context, uint8_t vector)
{
	vcpu_send_startup(context, vector);
}
static uint64_t lapic_tsc(void *context)
{
	return 0;
}
static const struct lapic_host lapic_host = { lapic_kick, lapic_nmi, lapic_init_signal, lapic_sipi, lapic_tsc };

static uint64_t bus_now(void *context)
{
	return 0;
}

#define UNUSED_EXIT(name)                                                                                              \
	enum exit_action name(struct vcpu *v)                                                                          \
	{                                                                                                              \
		fail();                                                                                                \
		return ACTION_LEAVE;                                                                                   \
	}
UNUSED_EXIT(exit_cpuid)
UNUSED_EXIT(exit_msr_read)
UNUSED_EXIT(exit_cr_access)
UNUSED_EXIT(exit_dr_access)
UNUSED_EXIT(exit_xsetbv)
UNUSED_EXIT(exit_hypercall)
UNUSED_EXIT(exit_slat_fault)
UNUSED_EXIT(exit_slat_misconfig)
UNUSED_EXIT(exit_task_switch)

enum status frame_retire(hpa_t frame)
{
	return OK;
}
bool host_machine_check(hpa_t *where)
{
	return false;
}
void vcpu_look_for_emptiness(struct vcpu *v)
{
}
bool vcpu_skip_slowly(struct vcpu *v)
{
	return true;
}
void board_place_windows(struct machine *m)
{
}
void vcpu_apply_a20(struct vcpu *v)
{
}
void machine_end(struct machine *m, enum machine_end end, uint32_t value, const char *text, ...)
{
	fail();
}
enum status pgm_tables_drop_step(struct pgm *pgm, uint64_t *cursor)
{
	return OK;
}
struct flush_domain *pgm_flush_domain(struct pgm *pgm)
{
	return &domain;
}
uint64_t machine_now(const struct machine *m)
{
	return 0;
}
void host_timer_set(uint64_t deadline_ns)
{
}
uint64_t host_now_ns(void)
{
	return 0;
}
uint64_t host_tsc_to_ns(uint64_t ticks)
{
	return ticks;
}
void pv_eoi_offer(struct vcpu *v, uint8_t vector)
{
}
void pv_eoi_settle(struct vcpu *v)
{
}
void pv_steal_begin(struct vcpu *v)
{
}
void pv_steal_end(struct vcpu *v)
{
}

static void create(unsigned i, const struct cpu_set *allowed)
{
	struct vcpu *v = &vcpus[i];

	world_vcpu(v, &machine, 100, allowed);
	v->hv = v->l1 = &hv_of[i];
	hv_of[i] = (struct hv_vcpu){ .owner = v, .rflags = 2, .exited = vcpu_exited };
	assert_int_equal(lapic_create(&bus, &apic_bus, i, i == 0, 0, &lapic_host, v, &v->lapic), OK);
	assert_int_equal(lapic_msr_write(v->lapic, MSR_APIC_BASE, v->lapic->base | APIC_BASE_X2APIC), OK);
	assert_int_equal(lapic_msr_write(v->lapic, 0x80f, 0x1ff), OK);
	v->activity = i == ASKERS ? VCPU_WAIT_SIPI : VCPU_RUNNABLE;
	guests[i].dice = i;
	inside[i] = UINT64_MAX;
}

static void test_together(void **state)
{
	static const struct cpu_set sets[] = { { { 15 } }, { { 15 } }, { { 6 } }, { { 9 } } };
	pthread_t thread[CPUS];

	test_cpu_count = CPUS;
	lock_init(&machine.lock, RANK_MACHINE, "machine");
	bus.now = bus_now;
	for (unsigned i = 0; i < VCPUS; i++)
		create(i, &sets[i % ARRAY_SIZE(sets)]);
	lives = 1; /* so that the first one begins with it */
	for (unsigned i = 0; i < VCPUS; i++)
		queues_add(&vcpus[i], 0);
	for (unsigned i = 0; i < CPUS; i++)
		assert_int_equal(pthread_create(&thread[i], NULL, cpu, (void *)(uintptr_t)i), 0);
	for (unsigned i = 0; i < CPUS; i++)
		pthread_join(thread[i], NULL);
	for (unsigned i = 0; i < ASKERS; i++) {
		assert_int_equal(asked[i], ROUNDS);
		assert_true(guests[i].rounds == ROUNDS);
	}
	bus_close(&bus);
}

int main(void)
{
	const struct CMUnitTest tests[] = { cmocka_unit_test(test_together) };

	return cmocka_run_group_tests(tests, NULL, NULL);
}
