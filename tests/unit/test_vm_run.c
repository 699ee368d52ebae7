/* SPDX-License-Identifier: Apache-2.0 */
// sources: vm/vcpu/run.c vm/vcpu/exits.c vm/vcpu/load.c
/*
 * The run loop against a backend played by the test: what it is given to run with, and when it is to be woken. The
 * host's clock runs at three ticks a nanosecond, as processors do and emulators don't.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <string.h>

#include "arch/x86_64/cpu.h"
#include "arch/x86_64/host.h"
#include "arch/x86_64/registers.h"
#include "pgm/slat/tables.h"
#include "vm/machine.h"
#include "vm/vcpu/enter.h"
#include "vm/vcpu/nested.h"

#define TICKS_PER_NS 3u
extern __thread int64_t test_tsc_ahead;

static struct hv_vcpu h;
static struct machine machine;
static struct lapic lapic;
static struct vcpu vcpu;
static struct flush_domain domain;
static uint64_t next_timer, deadline_seen;
static unsigned entries;

/* Each entry ends in a HLT, the first one perhaps in an exception. */
static bool trap_first;
static unsigned trap = VECTOR_DB, ends;
static bool guest_met_it;
static hpa_t retired;
enum status frame_retire(hpa_t frame)
{
	retired = frame;
	return OK;
}
bool host_machine_check(hpa_t *where)
{
	*where = hpa(0x5000);
	return guest_met_it;
}
static void (*in_guest)(void); /* what else the first entry does */
static void enter(struct hv_vcpu *v)
{
	if (in_guest && !entries)
		in_guest();
	deadline_seen = v->slice_deadline;
	v->valid = 0;
	if (!entries++ && trap_first) {
		v->exit.kind = EXIT_EXCEPTION;
		v->exit.exception.vector = (uint8_t)trap;
		v->exit.exception.detail = BIT(13);
		return;
	}
	v->exit.kind = EXIT_HLT;
	v->exit.length = 1;
	v->valid = REGS_SHADOW | REGS_RFLAGS;
}
static void run(struct hv_vcpu *v)
{
	do
		enter(v);
	while (vcpu_exited(v));
}
static void load(struct hv_vcpu *v, uint32_t groups)
{
	v->valid |= groups;
}
static unsigned unloads;
static void unload(struct hv_vcpu *v)
{
	unloads++;
}
static const struct hv_ops ops = { .name = "test", .run = run, .load = load, .unload = unload };
const struct hv_ops *hv = &ops;
struct hv_caps hv_capabilities = { .slice_timer = true };

/* Exits that don't come here. */
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
UNUSED_EXIT(exit_io)
UNUSED_EXIT(exit_slat_fault)
UNUSED_EXIT(exit_slat_misconfig)
UNUSED_EXIT(exit_task_switch)

static unsigned looks_for_emptiness;
void vcpu_look_for_emptiness(struct vcpu *v)
{
	looks_for_emptiness++;
}

/* It takes the devices' lock; whoever holds that may be waiting for all vcpus that are in the guest. */
static unsigned deliveries;
void vcpu_deliver(struct vcpu *v)
{
	assert_int_equal(v->in_guest, 0);
	deliveries++;
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
	assert_int_equal(vector, VECTOR_DB);
}
enum exit_action vcpu_inject_ud(struct vcpu *v)
{
	return ACTION_ENTER;
}
bool vcpu_skip_slowly(struct vcpu *v)
{
	fail();
	return false;
}
/* As INIT and SIPI do. */
static int init_takes = -1;
void vcpu_take_signals(struct vcpu *v)
{
	if (init_takes >= 0)
		v->activity = (uint8_t)init_takes;
	if (v->nested)
		assert_true(v->loaded);
}
void vcpu_nested_deadline(struct vcpu *v)
{
}
void board_place_windows(struct machine *m)
{
}

void vcpu_apply_a20(struct vcpu *v)
{
}
void machine_end(struct machine *m, enum machine_end end, uint32_t value, const char *text, ...)
{
	ends += end == END_ERROR;
}
bool cpuid_has_tsc_aux(const struct cpuid_policy *policy)
{
	return false;
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
	return 1000;
}
uint64_t timer_next(const struct timer_queue *queue)
{
	return next_timer;
}
void timer_run(struct timer_queue *queue, uint64_t now)
{
}
static uint64_t apic_fired_at, looks_at_apic;
void lapic_timer_run(struct lapic *l, uint64_t now)
{
	if (l->deadline > now)
		return;
	l->deadline = UINT64_MAX;
	apic_fired_at = now;
}
void lapic_update(struct lapic *l)
{
	looks_at_apic++;
}
uint64_t host_xcr0(void)
{
	return 0;
}
void host_fpu_save(void *area)
{
}
void host_fpu_restore(const void *area)
{
}
static unsigned forgotten;
void host_forget_guest(void)
{
	forgotten++;
}
void host_timer_set(uint64_t deadline_ns)
{
}
void schedule_woken(struct vcpu *v, bool leaves)
{
}
bool schedule_spins(struct vcpu *v)
{
	return false;
}
void schedule_freed(const struct cpu_set *allowed)
{
}
void host_kick(unsigned cpu, bool urgent)
{
}
uint64_t host_now_ns(void)
{
	return rdtsc() / TICKS_PER_NS;
}
uint64_t host_tsc_to_ns(uint64_t ticks)
{
	return ticks / TICKS_PER_NS;
}
uint64_t host_ns_to_tsc(uint64_t ns)
{
	return ns * TICKS_PER_NS; /* what doesn't fit is lost, as in the host's */
}

static uint64_t apic_timer = UINT64_MAX;

static void run_once(uint64_t timer, uint64_t slice_end)
{
	memset(&h, 0, sizeof(h));
	h.dr[6] = 0xffff4ff2;
	h.dr[7] = 0x2400;
	h.owner = &vcpu;
	vcpu = (struct vcpu){ .hv = &h, .l1 = &h, .machine = &machine, .lapic = &lapic };
	lapic.deliverable = LAPIC_NOTHING;
	lapic.deadline = apic_timer;
	lock_init(&machine.lock, RANK_MACHINE, "machine");
	machine.vcpu[0] = &vcpu;
	next_timer = timer;
	entries = 0;
	assert_int_equal(vcpu_run(&vcpu, slice_end), VCPU_IDLE);
	vcpu_switch_out(&vcpu);
	assert_int_equal(entries, trap_first ? 2 : 1);
	assert_int_equal(vcpu.activity, VCPU_HALTED);
}

/* A guest may ask for any moment, such as a TSC deadline of all ones: far off stays far off. */
static void test_far_timers(void **state)
{
	const uint64_t hour = UINT64_C(3600000000000),
		       far[] = { hour, UINT64_C(1) << 62, UINT64_MAX / TICKS_PER_NS, UINT64_MAX / 2, UINT64_MAX - 1 };

	for (unsigned i = 0; i < sizeof(far) / sizeof(far[0]); i++) {
		uint64_t now = rdtsc(), end = now + 1000000000;

		run_once(far[i], end);
		assert_int_equal(deadline_seen, end);
		assert_true(vcpu.wakeup > now + 600000000000);
	}
	run_once(UINT64_MAX, UINT64_MAX - 1);
	assert_true(vcpu.wakeup == UINT64_MAX && deadline_seen == UINT64_MAX - 1);
}

static void test_near_timers(void **state)
{
	uint64_t now = rdtsc();

	run_once(1000000000 + 1000, UINT64_MAX - 1);
	assert_int_equal(deadline_seen, vcpu.wakeup);
	assert_true(vcpu.wakeup >= now + 3000000000 && vcpu.wakeup <= rdtsc() + 3000000000);
}

/* The APIC's own timer: on its vcpu, whichever that is, beside the machine's, which the boot vcpu runs. */
static void test_apic_timer(void **state)
{
	uint64_t now = rdtsc();

	apic_timer = 1000000000 + 500;
	run_once(1000000000 + 1000, UINT64_MAX - 1);
	assert_true(vcpu.wakeup_ns == apic_timer && vcpu.wakeup == deadline_seen);
	assert_true(vcpu.wakeup >= now + 3000000000 / 2 && vcpu.wakeup <= rdtsc() + 3000000000);
	vcpu.id = 1;
	lapic.deadline = 0;
	vcpu.activity = VCPU_HALTED;
	apic_fired_at = 0;
	assert_int_equal(vcpu_run(&vcpu, UINT64_MAX - 1), VCPU_IDLE);
	assert_true(apic_fired_at && vcpu.wakeup == UINT64_MAX); /* the machine's are none of its */
	lapic.deadline = UINT64_C(1) << 50;
	vcpu.activity = VCPU_HALTED;
	assert_int_equal(vcpu_run(&vcpu, UINT64_MAX - 1), VCPU_IDLE);
	assert_true(vcpu.wakeup != UINT64_MAX && vcpu.wakeup_ns == lapic.deadline);
	lapic.deadline = 5;
	vcpu_look_at_timer(&vcpu);
	assert_int_equal(h.slice_deadline, 0);
	apic_timer = UINT64_MAX;
}

static void arm_apic(void)
{
	lapic.deadline = 1000000000 + 1000;
}
static void arm_device(void)
{
	next_timer = 1000000000 + 1000;
	machine_timer_moved(&machine);
}

/* A timer that the guest arms right before its HLT is known before the vcpu sleeps. */
static void test_armed_before_halt(void **state)
{
	void (*const ways[])(void) = { arm_apic, arm_device };

	for (unsigned i = 0; i < sizeof(ways) / sizeof(ways[0]); i++) {
		in_guest = ways[i];
		run_once(UINT64_MAX, UINT64_MAX - 1);
		assert_int_equal(vcpu.wakeup_ns, 1000000000 + 1000);
		assert_true(vcpu.wakeup <= rdtsc() + 3000000000);
	}
	in_guest = NULL;
}

/* Another one's turn ends the slice before its time, once. */
static void give_way(void)
{
	__atomic_fetch_or(&vcpu.requests, REQUEST_YIELD, __ATOMIC_SEQ_CST);
	h.exit.kind = EXIT_NOTHING;
}
static void test_gives_way(void **state)
{
	run_once(UINT64_MAX, UINT64_MAX - 1);
	give_way();
	vcpu.activity = VCPU_RUNNABLE;
	entries = 0;
	assert_int_equal(vcpu_run(&vcpu, UINT64_MAX - 1), VCPU_SLICE_OVER);
	assert_int_equal(entries, 0);
	assert_int_equal(vcpu_run(&vcpu, UINT64_MAX - 1), VCPU_IDLE);
	vcpu_switch_out(&vcpu);
	assert_int_equal(looks_for_emptiness, 0); /* turns may be short: not each time */
	vcpu.activity = VCPU_RUNNABLE;
	assert_int_equal(vcpu_run(&vcpu, 0), VCPU_SLICE_OVER);
	assert_int_equal(looks_for_emptiness, 1);
	vcpu_switch_out(&vcpu);
}

/*
 * Of one that may move nothing stays in a CPU on which another one runs, and a look at it alone leaves nothing; a pinned one's backend
 * keeps what it has. Its time goes on as it went where it was.
 */
static void test_moves(void **state)
{
	struct hv_vcpu other_h = { .owner = NULL }, l2 = { .owner = NULL };
	struct hv_nested s = { .l2 = &l2, .deadline = 200700, .timer = UINT64_MAX };
	struct vcpu_nested nested = { .state = &s };
	struct vcpu other;

	run_once(UINT64_MAX, UINT64_MAX - 1);
	other = (struct vcpu){ .hv = &other_h, .l1 = &other_h, .machine = &machine, .lapic = &lapic };
	other_h.owner = &other;
	for (unsigned movable = 0; movable < 2; movable++) {
		vcpu.movable = movable;
		vcpu_switch_in(&vcpu);
		unloads = 0;
		vcpu_switch_in(&other);
		assert_true(!vcpu.loaded && other.loaded && unloads == movable);
		vcpu_settle(&vcpu);
		assert_int_equal(unloads, 2 * movable);
		vcpu_settle(&other);
		assert_int_equal(unloads, 2 * movable);
		vcpu_switch_out(&other);
	}
	h.tsc_offset = 5000;
	vcpu.parked_until = 100000;
	test_tsc_ahead = 700;
	vcpu_switch_in(&vcpu);
	assert_true(h.tsc_offset == 4300 && h.tsc_changed && vcpu.parked_until == 100700 && !vcpu.wakeup);
	vcpu_switch_out(&vcpu);
	test_tsc_ahead = 0;
	vcpu.nested = &nested;
	vcpu_switch_in(&vcpu);
	assert_true(h.tsc_offset == 5000 && vcpu.parked_until == 100000);
	assert_true(s.deadline == 200000 && s.timer == UINT64_MAX);
	vcpu_switch_out(&vcpu);
	vcpu.nested = NULL;
}

/* What came from other processors is looked at when it is asked for, and only then. */
static void test_looks_at_apic(void **state)
{
	looks_at_apic = 0;
	run_once(UINT64_MAX, UINT64_MAX - 1);
	assert_int_equal(looks_at_apic, 0);
	vcpu_request(&vcpu, REQUEST_EVENT);
	vcpu.activity = VCPU_RUNNABLE;
	assert_int_equal(vcpu_run(&vcpu, UINT64_MAX - 1), VCPU_IDLE);
	assert_int_equal(looks_at_apic, 1);
	vcpu_switch_out(&vcpu);
}

/* An end of an interrupt that the guest may have made is known before its exit's handler looks, and before a sleep. */
static unsigned settled;
void pv_eoi_settle(struct vcpu *v)
{
	assert_int_equal(v->in_guest, 0);
	v->eoi_offered = false;
	settled++;
}
static void interrupted(void)
{
	h.exit.kind = EXIT_HOST_INTERRUPT;
	(void)h.exited(&h);
}
static void test_offer_is_settled(void **state)
{
	settled = 0;
	run_once(UINT64_MAX, UINT64_MAX - 1);
	assert_int_equal(settled, 0);
	vcpu.activity = VCPU_RUNNABLE;
	vcpu.eoi_offered = true;
	h.exit.kind = EXIT_NOTHING;
	vcpu.in_guest = 1;
	h.slice_deadline = 0;
	(void)vcpu_exited(&h);
	assert_true(settled == 1 && !vcpu.eoi_offered);
	/* An interrupt of the host's: it stands if the guest goes on. */
	vcpu.eoi_offered = true;
	h.exit.kind = EXIT_HOST_INTERRUPT;
	h.slice_deadline = UINT64_MAX;
	assert_true(vcpu_exited(&h) && settled == 1 && vcpu.eoi_offered && vcpu.in_guest);
	entries = 0;
	in_guest = interrupted;
	assert_true(vcpu_enter_alone(&vcpu));
	in_guest = NULL;
	assert_true(settled == 2 && !vcpu.eoi_offered);
	/* No entry came of it: requests. */
	vcpu.eoi_offered = true;
	vcpu_request(&vcpu, REQUEST_LEAVE);
	assert_int_equal(vcpu_run(&vcpu, UINT64_MAX - 1), VCPU_LEFT);
	assert_true(settled == 3 && !vcpu.eoi_offered);
	vcpu_switch_out(&vcpu);
}

/*
 * A trap that the hypervisor intercepts leaves DR6 and DR7 to it: a handler that still found GD set would trap for ever. An
 * older breakpoint's bit goes, the rest gathers.
 */
static void test_debug_trap(void **state)
{
	trap_first = true;
	run_once(UINT64_MAX, UINT64_MAX - 1);
	trap_first = false;
	assert_int_equal(h.dr[6], 0xffff6ff0);
	assert_int_equal(h.dr[7], 0x400);
	assert_true(h.changed & REGS_DEBUG);
}

/* The hardware's own error: no exception of the guest's, and its end only when its own access has met it. */
static void test_machine_check(void **state)
{
	trap = VECTOR_MC;
	trap_first = true;
	run_once(UINT64_MAX, UINT64_MAX - 1);
	assert_int_equal(ends, 0);
	assert_int_equal(h.inject.kind, EVENT_NONE);
	guest_met_it = true;
	entries = 0;
	vcpu.activity = VCPU_RUNNABLE;
	assert_int_equal(vcpu_run(&vcpu, UINT64_MAX - 1), VCPU_LEFT);
	assert_int_equal(ends, 1);
	assert_int_equal(retired.v, 0x5000); /* before anybody else could get it */
	assert_int_equal(entries, 1);
	trap_first = false;
}

/* Between the guests of different machines a CPU forgets; not between a machine's own vcpus, nor when one comes again. */
static void test_machines_are_kept_apart(void **state)
{
	static struct machine other;
	static struct hv_vcpu hv_of[3];
	struct vcpu vcpus[] = { { .hv = &hv_of[0], .l1 = &hv_of[0], .machine = &machine, .lapic = &lapic },
				{ .hv = &hv_of[1], .l1 = &hv_of[1], .machine = &machine, .lapic = &lapic, .id = 1 },
				{ .hv = &hv_of[2], .l1 = &hv_of[2], .machine = &other, .lapic = &lapic } };
	static const struct {
		unsigned vcpu, forgotten;
	} steps[] = { { 2, 1 }, { 2, 0 }, { 0, 1 }, { 1, 0 }, { 0, 0 }, { 2, 1 }, { 1, 1 } };

	run_once(UINT64_MAX, UINT64_MAX - 1);
	for (unsigned i = 0; i < 3; i++)
		hv_of[i].owner = &vcpus[i];
	lock_init(&other.lock, RANK_MACHINE, "machine");
	machine.vcpu[0] = &vcpus[0];
	other.vcpu[0] = &vcpus[2];
	for (unsigned i = 0; i < sizeof(steps) / sizeof(steps[0]); i++) {
		struct vcpu *v = &vcpus[steps[i].vcpu];

		forgotten = 0;
		v->activity = VCPU_RUNNABLE;
		assert_int_equal(vcpu_run(v, UINT64_MAX - 1), VCPU_IDLE);
		if (i % 2)
			vcpu_switch_out(v); /* whether it left the CPU meanwhile or not */
		assert_int_equal(forgotten, steps[i].forgotten);
	}
	vcpu_switch_out(&vcpus[1]);
}

static void test_delivery_is_before_the_guest(void **state)
{
	run_once(UINT64_MAX, UINT64_MAX - 1);
	lapic.deliverable = 0x40;
	vcpu.activity = VCPU_RUNNABLE;
	deliveries = 0;
	assert_int_equal(vcpu_run(&vcpu, UINT64_MAX - 1), VCPU_IDLE);
	assert_int_equal(deliveries, 1);
	vcpu_switch_out(&vcpu);
}

/* An INIT stops a vcpu before its next entry, and a SIPI starts it out of its sleep without anything else to wake it. */
/* INIT and SIPI while it halts: what they have started doesn't sleep. */
static void start_anew(void)
{
	init_takes = VCPU_RUNNABLE;
	vcpu.signals = 1;
	vcpu_request(&vcpu, REQUEST_EVENT);
}
static void test_started_while_it_halts(void **state)
{
	run_once(UINT64_MAX, UINT64_MAX - 1);
	vcpu.activity = VCPU_RUNNABLE;
	entries = 0;
	in_guest = start_anew;
	assert_int_equal(vcpu_run(&vcpu, UINT64_MAX - 1), VCPU_IDLE);
	assert_int_equal(entries, 2);
	in_guest = NULL;
	init_takes = -1;
	vcpu_switch_out(&vcpu);
}

/* A hypervisor's own processor may get an exit for what wakes it, and load MSRs: only when it is in the CPU. */
static void test_wakes_in_the_cpu(void **state)
{
	struct hv_vcpu l2 = { .owner = &vcpu };
	struct hv_nested s = { .l2 = &l2, .deadline = UINT64_MAX, .timer = UINT64_MAX };
	struct vcpu_nested nested = { .state = &s };

	run_once(UINT64_MAX, UINT64_MAX - 1);
	vcpu_switch_out(&vcpu);
	vcpu.nested = &nested;
	vcpu.activity = VCPU_HALTED;
	vcpu.signals = 1;
	vcpu_request(&vcpu, REQUEST_EVENT);
	assert_int_equal(vcpu_run(&vcpu, UINT64_MAX), VCPU_IDLE);
	vcpu_switch_out(&vcpu);
	vcpu.nested = NULL;
}

static void test_init_and_startup(void **state)
{
	run_once(UINT64_MAX, UINT64_MAX - 1);
	vcpu.activity = VCPU_RUNNABLE;
	entries = 0;
	init_takes = VCPU_WAIT_SIPI;
	vcpu.signals = 1;
	vcpu_request(&vcpu, REQUEST_EVENT);
	assert_int_equal(vcpu_run(&vcpu, UINT64_MAX - 1), VCPU_IDLE);
	assert_int_equal(entries, 0);
	assert_int_equal(vcpu.activity, VCPU_WAIT_SIPI);
	init_takes = -1;
	vcpu_request(&vcpu, REQUEST_EVENT);
	assert_int_equal(vcpu_run(&vcpu, UINT64_MAX - 1), VCPU_IDLE);
	assert_int_equal(entries, 0);
	init_takes = VCPU_RUNNABLE;
	vcpu_request(&vcpu, REQUEST_EVENT);
	assert_int_equal(vcpu_run(&vcpu, UINT64_MAX - 1), VCPU_IDLE);
	assert_int_equal(entries, 1);
	init_takes = -1;
	vcpu_switch_out(&vcpu);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_delivery_is_before_the_guest),
		cmocka_unit_test(test_started_while_it_halts),
		cmocka_unit_test(test_init_and_startup),
		cmocka_unit_test(test_wakes_in_the_cpu),
		cmocka_unit_test(test_far_timers),
		cmocka_unit_test(test_armed_before_halt),
		cmocka_unit_test(test_gives_way),
		cmocka_unit_test(test_moves),
		cmocka_unit_test(test_near_timers),
		cmocka_unit_test(test_apic_timer),
		cmocka_unit_test(test_looks_at_apic),
		cmocka_unit_test(test_offer_is_settled),
		cmocka_unit_test(test_debug_trap),
		cmocka_unit_test(test_machine_check),
		cmocka_unit_test(test_machines_are_kept_apart),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
