/* SPDX-License-Identifier: Apache-2.0 */
// sources: vm/vcpu/signal.c
// threads
/*
 * NMI, INIT and SIPI between processors: what comes in which order, and what is there after many came at once. The vcpu's own CPU is
 * the test, or a thread of it.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <pthread.h>
#include <sched.h>
#include <string.h>

#include "arch/x86_64/registers.h"
#include "vm/vcpu/nested.h"

static struct hv_vcpu l1;
static struct vcpu vcpu;
static unsigned inits;

static void load(struct hv_vcpu *v, uint32_t groups)
{
	v->valid |= groups;
}
static const struct hv_ops ops = { .name = "test", .load = load };
const struct hv_ops *hv = &ops;
struct hv_caps hv_capabilities;

void vcpu_request(struct vcpu *v, uint32_t requests)
{
	__atomic_fetch_or(&v->requests, requests, __ATOMIC_SEQ_CST);
}

void vcpu_init(struct vcpu *v)
{
	inits++;
	v->activity = v->id ? VCPU_WAIT_SIPI : VCPU_RUNNABLE;
	memset(v->l1, 0, sizeof(*v->l1));
}

static enum hv_nested_verdict verdict;
bool vcpu_nested_takes_event(struct vcpu *v, enum hv_nested_event what)
{
	assert_int_equal(what, NESTED_INIT);
	if (verdict == NESTED_TAKEN)
		v->init_pending = false;
	return verdict != NESTED_INJECT;
}

static int started_below = -1;
void vcpu_nested_startup(struct vcpu *v, uint8_t vector)
{
	started_below = vector;
	v->hv = v->l1;
}

static int setup(void **state)
{
	memset(&vcpu, 0, sizeof(vcpu));
	vcpu.id = 1;
	vcpu.hv = vcpu.l1 = &l1;
	inits = 0;
	verdict = NESTED_INJECT;
	return 0;
}

/* As the run loop does. */
static void look(void)
{
	if (__atomic_exchange_n(&vcpu.requests, 0, __ATOMIC_ACQ_REL) & REQUEST_EVENT)
		vcpu_take_signals(&vcpu);
}

static void init_then_startup(void **state)
{
	vcpu_send_init(&vcpu);
	look();
	assert_int_equal(vcpu.activity, VCPU_WAIT_SIPI);
	l1.rip = 5;
	vcpu_send_startup(&vcpu, 0x9a);
	look();
	assert_int_equal(vcpu.activity, VCPU_RUNNABLE);
	assert_int_equal(l1.rip, 0);
	assert_int_equal(l1.segment[SEG_CS].selector, 0x9a00);
	assert_int_equal(l1.segment[SEG_CS].base, 0x9a000);
	assert_true(l1.changed & REGS_CODE);
}

/* Before the vcpu has looked: it must neither be lost nor come before the INIT. */
static void startup_at_once(void **state)
{
	vcpu_send_init(&vcpu);
	vcpu_send_startup(&vcpu, 0x10);
	look();
	assert_int_equal(inits, 1);
	assert_int_equal(vcpu.activity, VCPU_RUNNABLE);
	assert_int_equal(l1.segment[SEG_CS].base, 0x10000);
}

static void the_second_startup_is_ignored(void **state)
{
	vcpu_send_init(&vcpu);
	vcpu_send_startup(&vcpu, 0x10);
	vcpu_send_startup(&vcpu, 0x20);
	look();
	assert_int_equal(l1.segment[SEG_CS].base, 0x10000);
	l1.rip = 77;
	vcpu_send_startup(&vcpu, 0x30);
	look();
	assert_int_equal(l1.rip, 77);
	/* Nor does one that came while it ran start it after the next INIT. */
	vcpu_send_startup(&vcpu, 0x30);
	vcpu_send_init(&vcpu);
	look();
	assert_int_equal(vcpu.activity, VCPU_WAIT_SIPI);
	vcpu_send_startup(&vcpu, 0x40);
	look();
	assert_int_equal(l1.segment[SEG_CS].base, 0x40000);
}

static void init_undoes_what_came_before(void **state)
{
	vcpu.nmi_pending = true;
	vcpu_send_nmi(&vcpu);
	vcpu_send_init(&vcpu);
	look();
	assert_false(vcpu.nmi_pending);
	vcpu_send_nmi(&vcpu);
	look();
	assert_true(vcpu.nmi_pending);
	assert_int_equal(vcpu.activity, VCPU_WAIT_SIPI);
}

static void the_boot_processor_starts_anew(void **state)
{
	vcpu.id = 0;
	vcpu_send_init(&vcpu);
	vcpu_send_startup(&vcpu, 0x10);
	look();
	assert_int_equal(inits, 1);
	assert_int_equal(vcpu.activity, VCPU_RUNNABLE);
	assert_int_equal(l1.segment[SEG_CS].base, 0);
}

/* VMX root operation, or GIF clear. */
static void a_hypervisor_holds_it_up(void **state)
{
	vcpu.nested = (struct vcpu_nested *)&vcpu;
	verdict = NESTED_HELD;
	vcpu_send_init(&vcpu);
	vcpu_send_startup(&vcpu, 0x10);
	look();
	assert_int_equal(inits, 0);
	assert_true(vcpu.init_pending);
	verdict = NESTED_INJECT;
	vcpu_request(&vcpu, REQUEST_EVENT);
	look();
	assert_int_equal(inits, 1);
	assert_false(vcpu.init_pending);
	assert_int_equal(vcpu.activity, VCPU_WAIT_SIPI);
	/* Its guest ran: the exit is all there is. */
	verdict = NESTED_TAKEN;
	vcpu_send_init(&vcpu);
	look();
	assert_int_equal(inits, 1);
	assert_false(vcpu.init_pending);
	vcpu.nested = NULL;
}

/* Its guest waits: the SIPI is that one's, and the INIT before it waits on. */
static void a_guests_guest_waits_for_startup(void **state)
{
	struct hv_vcpu l2 = { 0 };

	vcpu.nested = (struct vcpu_nested *)&vcpu;
	vcpu.hv = &l2;
	vcpu.activity = VCPU_WAIT_SIPI;
	verdict = NESTED_HELD;
	l1.rip = 77;
	vcpu_send_init(&vcpu);
	vcpu_send_startup(&vcpu, 0x10);
	look();
	assert_true(started_below == 0x10 && inits == 0 && vcpu.init_pending);
	assert_true(l1.rip == 77 && vcpu.activity == VCPU_RUNNABLE);
	vcpu.nested = NULL;
}

#define ROUNDS 3000u
static uint32_t round_done, stop, looks;

static void *target(void *context)
{
	while (!__atomic_load_n(&stop, __ATOMIC_ACQUIRE)) {
		sched_yield();
		look();
		__atomic_fetch_add(&looks, 1, __ATOMIC_SEQ_CST);
		if (vcpu.activity == VCPU_RUNNABLE)
			__atomic_store_n(&round_done, (uint32_t)(vcpu.l1->segment[SEG_CS].base >> 12),
					 __ATOMIC_RELEASE);
	}
	return NULL;
}

static void *disturber(void *context)
{
	while (!__atomic_load_n(&stop, __ATOMIC_ACQUIRE))
		vcpu_send_nmi(&vcpu), sched_yield();
	return NULL;
}

/* INIT and SIPI at once, many times, with NMIs between: the vcpu always starts, and where the last SIPI says. */
static void never_lost(void **state)
{
	pthread_t threads[2];

	pthread_create(&threads[0], NULL, target, NULL);
	pthread_create(&threads[1], NULL, disturber, NULL);
	for (unsigned i = 0; i < ROUNDS; i++) {
		uint8_t vector = (uint8_t)(i % 200 + 1);
		uint32_t sent;

		vcpu_send_init(&vcpu);
		vcpu_send_startup(&vcpu, vector);
		sent = __atomic_load_n(&looks, __ATOMIC_SEQ_CST);
		for (bool late = false; __atomic_load_n(&round_done, __ATOMIC_ACQUIRE) != vector;) {
			assert_false(late); /* it looked often enough before it was asked whether it runs */
			late = __atomic_load_n(&looks, __ATOMIC_SEQ_CST) - sent > 1000;
			sched_yield();
		}
	}
	__atomic_store_n(&stop, 1, __ATOMIC_RELEASE);
	for (unsigned i = 0; i < 2; i++)
		pthread_join(threads[i], NULL);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup(init_then_startup, setup),
		cmocka_unit_test_setup(startup_at_once, setup),
		cmocka_unit_test_setup(the_second_startup_is_ignored, setup),
		cmocka_unit_test_setup(init_undoes_what_came_before, setup),
		cmocka_unit_test_setup(the_boot_processor_starts_anew, setup),
		cmocka_unit_test_setup(a_hypervisor_holds_it_up, setup),
		cmocka_unit_test_setup(a_guests_guest_waits_for_startup, setup),
		cmocka_unit_test_setup(never_lost, setup),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
