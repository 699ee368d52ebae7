/* SPDX-License-Identifier: Apache-2.0 */
// sources: vm/vcpu/run.c vm/vcpu/exits.c vm/machine/flush.c
// threads
/*
 * Four vcpus of one machine, a thread each, over a processor that is a loop here: it stays in the guest until it is kicked, or
 * exits by itself. Each port access takes the devices' lock and flushes under it, and before each entry there is an
 * interrupt to deliver, which takes the lock as well. What must hold: nobody waits for ever, and nobody is in the guest with
 * an older generation once a flush has ended.
 */
#include <pthread.h>
#include <sched.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "arch/x86_64/host.h"
#include "arch/x86_64/percpu.h"
#include "dev/apic/lapic.h"
#include "vm/machine.h"
#include "vm/machine/internal.h"
#include "vm/vcpu/vcpu.h"

#define VCPUS 4u
#define ROUNDS 100u

extern __thread unsigned test_cpu;
static struct machine machine;
static struct vcpu vcpus[VCPUS];
static struct hv_vcpu hv_of[VCPUS];
static struct lapic lapics[VCPUS];
static uint32_t kicked[VCPUS]; /* atomic */
static uint64_t translation;   /* of the guest's only page: the generation that made it; atomic */
static uint64_t inside[VCPUS]; /* atomic: the generation that this processor has cached; UINT64_MAX: not in the guest */
static unsigned rounds[VCPUS];
static struct flush_domain domain = { .sync = machine_sync_flush, .context = &machine };

static void enter(struct hv_vcpu *h)
{
	struct vcpu *vcpu = h->owner;
	unsigned i = vcpu->id, patience = (rounds[i] * 7 + i * 3) % 40;

	h->flush_pending = false;
	__atomic_store_n(&inside[i], __atomic_load_n(&translation, __ATOMIC_SEQ_CST), __ATOMIC_SEQ_CST);
	while (!__atomic_exchange_n(&kicked[i], 0, __ATOMIC_SEQ_CST) && patience--)
		sched_yield();
	__atomic_store_n(&inside[i], UINT64_MAX, __ATOMIC_SEQ_CST);
	h->exit.kind = EXIT_IO;
}

static void run(struct hv_vcpu *h)
{
	do
		enter(h);
	while (vcpu_exited(h));
}

static const struct hv_ops ops = { .name = "test", .run = run };
const struct hv_ops *hv = &ops;
struct hv_caps hv_capabilities = { .slice_timer = true };

enum status frame_retire(hpa_t frame)
{
	return OK;
}
bool host_machine_check(hpa_t *where)
{
	return false;
}
void schedule_woken(struct vcpu *v, bool leaves)
{
}
bool schedule_spins(struct vcpu *v)
{
	return false;
}
void host_kick(unsigned cpu, bool nmi)
{
	__atomic_store_n(&kicked[cpu], 1, __ATOMIC_SEQ_CST);
}

void vcpu_deliver(struct vcpu *vcpu)
{
	lock_acquire(&machine.lock);
	lock_release(&machine.lock);
}

/* A device changes the tables: as gather_finish() does it, under the devices' lock. */
enum exit_action exit_io(struct vcpu *vcpu)
{
	uint64_t generation;

	lock_acquire(&machine.lock);
	__atomic_fetch_add(&translation, 1, __ATOMIC_SEQ_CST);
	generation = __atomic_add_fetch(&domain.generation, 1, __ATOMIC_SEQ_CST);
	domain.sync(&domain, generation);
	for (unsigned i = 0; i < VCPUS; i++) {
		uint64_t cached = __atomic_load_n(&inside[i], __ATOMIC_SEQ_CST);

		assert_true(cached >= generation);
	}
	lock_release(&machine.lock);
	return ++rounds[vcpu->id] == ROUNDS ? ACTION_LEAVE : ACTION_ENTER;
}

#define UNUSED_EXIT(name)                                                                                              \
	enum exit_action name(struct vcpu *v)                                                                          \
	{                                                                                                              \
		fail();                                                                                                \
		return ACTION_LEAVE;                                                                                   \
	}
UNUSED_EXIT(exit_cpuid)
UNUSED_EXIT(exit_msr_read)
UNUSED_EXIT(exit_msr_write)
UNUSED_EXIT(exit_cr_access)
UNUSED_EXIT(exit_dr_access)
UNUSED_EXIT(exit_xsetbv)
UNUSED_EXIT(exit_hypercall)
UNUSED_EXIT(exit_slat_fault)
UNUSED_EXIT(exit_slat_misconfig)
UNUSED_EXIT(exit_task_switch)

void vcpu_look_for_emptiness(struct vcpu *v)
{
}

bool vcpu_has_wake_event(struct vcpu *v)
{
	return false;
}
void vcpu_recover_event(struct vcpu *v)
{
}
void vcpu_inject_exception(struct vcpu *v, uint8_t vector, bool has_error, uint32_t error)
{
}
enum exit_action vcpu_inject_ud(struct vcpu *v)
{
	return ACTION_ENTER;
}
bool vcpu_skip_slowly(struct vcpu *v)
{
	return true;
}
void vcpu_take_signals(struct vcpu *v)
{
}
void board_place_windows(struct machine *m)
{
}

void vcpu_apply_a20(struct vcpu *v)
{
}
void vcpu_switch_in(struct vcpu *v)
{
}
void machine_end(struct machine *m, enum machine_end end, uint32_t value, const char *text, ...)
{
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
uint64_t timer_next(const struct timer_queue *queue)
{
	return UINT64_MAX;
}
void timer_run(struct timer_queue *queue, uint64_t now)
{
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
void lapic_timer_run(struct lapic *l, uint64_t now)
{
}
void lapic_update(struct lapic *l)
{
}
uint64_t host_ns_to_tsc(uint64_t ns)
{
	return ns;
}

static void set_up(void)
{
	machine = (struct machine){ .vcpu_count = VCPUS };
	lock_init(&machine.lock, RANK_MACHINE, "machine");
	for (unsigned i = 0; i < VCPUS; i++) {
		vcpus[i] = (struct vcpu){
			.hv = &hv_of[i], .l1 = &hv_of[i], .machine = &machine, .lapic = &lapics[i], .id = i, .cpu = i
		};
		hv_of[i] = (struct hv_vcpu){ .owner = &vcpus[i] };
		lapics[i].deliverable = 0x40;
		lapics[i].deadline = UINT64_MAX;
		machine.vcpu[i] = &vcpus[i];
		inside[i] = UINT64_MAX;
		kicked[i] = 0;
		rounds[i] = 0;
	}
}

static void *one_vcpu(void *context)
{
	struct vcpu *vcpu = context;

	test_cpu = vcpu->cpu;
	while (rounds[vcpu->id] < ROUNDS)
		(void)vcpu_run(vcpu, UINT64_MAX - 1);
	return NULL;
}

static void test_flush_under_the_devices_lock(void **state)
{
	pthread_t threads[VCPUS];

	set_up();
	for (unsigned i = 0; i < VCPUS; i++)
		assert_int_equal(pthread_create(&threads[i], NULL, one_vcpu, &vcpus[i]), 0);
	for (unsigned i = 0; i < VCPUS; i++)
		assert_int_equal(pthread_join(threads[i], NULL), 0);
}

/* Only who is in the guest is kicked; the others find the request. */
static void test_who_is_kicked(void **state)
{
	set_up();
	test_cpu = 0;
	vcpus[0].in_guest = 1; /* this CPU's own: never waited for */
	vcpus[2].in_guest = 1; /* in the guest, but it has flushed already */
	vcpus[2].flush_seen = 10;
	machine_sync_flush(&domain, 10);
	for (unsigned i = 0; i < VCPUS; i++) {
		assert_int_equal(vcpus[i].requests, REQUEST_FLUSH);
		assert_int_equal(kicked[i], 0);
	}
}

/* The processors that were kicked answer when the last of them has been, and not before: *all says whether that came. */
static void *answer_together(void *all)
{
	while (!__atomic_load_n(&kicked[1], __ATOMIC_SEQ_CST))
		sched_yield();
	for (unsigned i = 0; i < 2000 && !*(bool *)all; i++) {
		*(bool *)all = __atomic_load_n(&kicked[2], __ATOMIC_SEQ_CST);
		sched_yield();
	}
	for (unsigned i = 0; i < VCPUS; i++)
		__atomic_store_n(&vcpus[i].flush_seen, 10, __ATOMIC_RELEASE);
	return NULL;
}

/* All are kicked before any is waited for; who sleeps is left asleep. */
static void test_one_kick_for_all(void **state)
{
	pthread_t thread;
	bool all = false;

	set_up();
	test_cpu = 0;
	for (unsigned i = 0; i < 3; i++)
		vcpus[i].in_guest = 1;
	assert_int_equal(pthread_create(&thread, NULL, answer_together, &all), 0);
	machine_sync_flush(&domain, 10);
	assert_int_equal(pthread_join(thread, NULL), 0);
	assert_true(all);
	assert_false(kicked[0] || kicked[3]);
	for (unsigned i = 0; i < VCPUS; i++)
		assert_int_equal(vcpus[i].requests & REQUEST_FLUSH, REQUEST_FLUSH);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_who_is_kicked),
		cmocka_unit_test(test_one_kick_for_all),
		cmocka_unit_test(test_flush_under_the_devices_lock),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
