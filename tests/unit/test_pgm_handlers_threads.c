/* SPDX-License-Identifier: Apache-2.0 */
// sources: mm/*.c pgm/*.c pgm/*/*.c lib/format.c lib/hash.c lib/status.c arch/x86_64/pt_format.c
// threads
/*
 * Handlers come, change and go on one CPU while two others call them and a fourth has a vcpu's faults. The user
 * value of each is freed the moment deregister returns: a call that came later, or had not ended, is a use after
 * free, which both sanitizers see. What was written where no handler is at any time must be there in the end.
 */
#include <pthread.h>
#include <sched.h>

#define WORLD_STRICT 17u
#include "test_pgm_handler_world.h"

extern __thread unsigned test_cpu;
extern unsigned test_cpu_count;

#define CALLERS 2u
#define ROUNDS 4000u
#define PLACES 8u
#define PLACE(i) (PAGE(0) + (i)*1024u) /* several to a page */

struct user {
	uint64_t alive, calls;
};

static struct pgm *pgm;
static handler_type free_type, keep_type, mmio_type;
static uint32_t running;

#define must(condition)                                                                                                \
	do {                                                                                                           \
		if (!(condition)) {                                                                                    \
			fprintf(stderr, "%s:%d: %s fails\n", __FILE__, __LINE__, #condition);                          \
			abort();                                                                                       \
		}                                                                                                      \
	} while (0)

static enum status on_access(void *context, struct pgm_access *access)
{
	struct user *user = context;

	must(__atomic_load_n(&user->alive, __ATOMIC_RELAXED) == 0xa11ce);
	__atomic_fetch_add(&user->calls, 1, __ATOMIC_RELAXED);
	for (unsigned i = 0; i < 50; i++)
		spin_pause();
	must(__atomic_load_n(&user->alive, __ATOMIC_RELAXED) == 0xa11ce);
	access->value = 0x11;
	return access->where.v & 1 ? NOT_FOUND : OK;
}

static struct user *fresh_user(void)
{
	struct user *user = calloc(1, sizeof(*user));

	user->alive = 0xa11ce;
	return user;
}

static void bury(struct user *user)
{
	/* A plain store: TSan sees it race with a call that isn't over. */
	user->alive = 0;
	free(user);
}

static void one_life(uint64_t place, bool mmio, uint64_t dice)
{
	struct user *user = fresh_user(), *second;
	uint64_t last = place + (mmio ? 4 * PAGE_SIZE : 100) - 1;
	handler_type type = mmio ? mmio_type : dice & 1 ? keep_type : free_type;

	must(pgm_handler_register(pgm, type, gpa(place), gpa(last), user, "life") == OK);
	switch (dice / 2 % 5) {
	case 0:
		second = fresh_user();
		must(pgm_handler_change_user(pgm, gpa(place), second) == OK);
		bury(user);
		user = second;
		break;
	case 1:
		must(pgm_handler_split(pgm, gpa(place), gpa(mmio ? place + PAGE_SIZE : place + 50)) == OK);
		must(pgm_handler_join(pgm, gpa(place), gpa(mmio ? place + PAGE_SIZE : place + 50)) == OK);
		break;
	case 2:
		if (mmio)
			must(pgm_handler_alias_mmio2(pgm, gpa(place), gpa(place), gpa(MMIO2_BASE)) == OK);
		else
			must(pgm_handler_page_off(pgm, gpa(place), gpa(align_down(place, PAGE_SIZE))) == OK);
		must(pgm_handler_reset(pgm, gpa(place)) == OK);
		break;
	case 3:
		must(pgm_handler_modify(pgm, gpa(place), gpa(place + (mmio ? PAGE_SIZE : 10)), gpa(last)) == OK);
		place += mmio ? PAGE_SIZE : 10;
		break;
	default: break;
	}
	must(pgm_handler_deregister(pgm, gpa(place)) == OK);
	bury(user);
}

static void *run_operator(void *context)
{
	uint64_t seed = 99;

	test_cpu = 0;
	for (unsigned i = 0; i < ROUNDS; i++) {
		uint64_t dice = random_of(&seed);

		one_life(i % 3 ? PLACE(dice % PLACES) : MMIO_BASE, !(i % 3), dice >> 8);
	}
	__atomic_store_n(&running, 0, __ATOMIC_RELEASE);
	(void)context;
	return NULL;
}

/* Its own byte beside every handler counts up; everything else is there to get in the way. */
static void *run_caller(void *context)
{
	unsigned cpu = (unsigned)(uintptr_t)context;
	uint64_t seed = cpu + 1;
	uint8_t count = 0, back;

	test_cpu = cpu;
	while (__atomic_load_n(&running, __ATOMIC_ACQUIRE)) {
		uint64_t dice = random_of(&seed), value = dice, own = PLACE(PLACES - 1) + 512 + cpu;

		must(pgm_write(pgm, gpa(PLACE(dice % PLACES) + dice / 64 % 110), &value, 8, ORIGIN_DEVICE, NULL) == OK);
		must(pgm_read(pgm, gpa(MMIO_BASE + dice / 8 % (4 * PAGE_SIZE - 8)), &value, 8, ORIGIN_DEVICE, NULL) ==
		     OK);
		count++;
		must(pgm_write(pgm, gpa(own), &count, 1, ORIGIN_DEVICE, NULL) == OK);
		must(pgm_read(pgm, gpa(own), &back, 1, ORIGIN_DEVICE, NULL) == OK);
		must(back == count);
	}
	return NULL;
}

/* A thread of Linux can stand between a charge and its link at will: sums are left to the check at the end. */
static void on_finding(void *context, const char *line)
{
	(void)context;
	if (strstr(line, "counted"))
		return;
	fprintf(stderr, "check: %s\n", line);
	abort();
}

static void *run_vcpu(void *context)
{
	uint64_t seed = 12345;

	test_cpu = CALLERS + 1;
	while (__atomic_load_n(&running, __ATOMIC_ACQUIRE)) {
		uint64_t dice = random_of(&seed);
		struct pgm_handler_info info;

		(void)pgm_fault(pgm, gpa(PAGE(dice % 3)), dice & 64 ? ACCESS_WRITE : ACCESS_READ);
		(void)pgm_fault(pgm, gpa(MMIO_BASE + dice % 4 * PAGE_SIZE), ACCESS_READ);
		(void)pgm_handler_find(pgm, gpa(PLACE(dice % PLACES)), &info);
		if (dice % 64 == 0)
			(void)pgm_check(pgm, on_finding, NULL);
	}
	(void)context;
	return NULL;
}

static void test_come_and_go(void **state)
{
	pthread_t threads[CALLERS + 2];

	test_cpu_count = CALLERS + 2;
	pgm = machine_of(true, 64);
	store(pgm, MMIO2_BASE, 1, 1);
	free_type = type_of(pgm, HANDLER_KIND_WRITE, 0);
	assert_int_equal(pgm_handler_type_register(pgm, HANDLER_KIND_WRITE, 0, on_access, "free", &free_type), OK);
	assert_int_equal(
		pgm_handler_type_register(pgm, HANDLER_KIND_WRITE, HANDLER_KEEP_LOCK, on_access, "keep", &keep_type),
		OK);
	assert_int_equal(pgm_handler_type_register(pgm, HANDLER_KIND_MMIO, 0, on_access, "mmio", &mmio_type), OK);
	running = 1;
	assert_int_equal(pthread_create(&threads[0], NULL, run_operator, NULL), 0);
	for (uintptr_t i = 1; i <= CALLERS; i++)
		assert_int_equal(pthread_create(&threads[i], NULL, run_caller, (void *)i), 0);
	assert_int_equal(pthread_create(&threads[CALLERS + 1], NULL, run_vcpu, NULL), 0);
	for (unsigned i = 0; i < CALLERS + 2; i++)
		assert_int_equal(pthread_join(threads[i], NULL), 0);
	test_cpu = 0;
	assert_int_equal(pgm->handlers.used, 0);
	assert_int_equal(pgm_handler_type_deregister(pgm, mmio_type), OK);
	assert_int_equal(pgm_handler_type_deregister(pgm, keep_type), OK);
	test_cpu = 0;
	end_machine(pgm);
}

static uint32_t asked, returned;

/* Stays inside until deregister has been called, and long enough for it to come back if it didn't wait. */
static enum status on_long_access(void *context, struct pgm_access *access)
{
	while (!__atomic_load_n(&asked, __ATOMIC_ACQUIRE))
		sched_yield();
	for (unsigned i = 0; i < 5000; i++) {
		must(!__atomic_load_n(&returned, __ATOMIC_ACQUIRE));
		sched_yield();
	}
	(void)context;
	(void)access;
	return OK;
}

static void *run_deregister(void *context)
{
	test_cpu = 1;
	while (!(__atomic_load_n(&pgm->handlers.calls[0].sequence, __ATOMIC_ACQUIRE) & 1))
		sched_yield();
	__atomic_store_n(&asked, 1, __ATOMIC_RELEASE);
	must(pgm_handler_deregister(pgm, gpa(MMIO_BASE)) == OK);
	__atomic_store_n(&returned, 1, __ATOMIC_RELEASE);
	(void)context;
	return NULL;
}

static void test_deregister_waits(void **state)
{
	pthread_t thread;

	test_cpu_count = 2;
	pgm = machine_of(true, 64);
	assert_int_equal(pgm_handler_type_register(pgm, HANDLER_KIND_MMIO, 0, on_long_access, "long", &mmio_type), OK);
	assert_int_equal(pgm_handler_register(pgm, mmio_type, gpa(MMIO_BASE), gpa(MMIO_BASE + PAGE_SIZE - 1), NULL, ""),
			 OK);
	assert_int_equal(pthread_create(&thread, NULL, run_deregister, NULL), 0);
	(void)load(pgm, MMIO_BASE, 1);
	assert_int_equal(pthread_join(thread, NULL), 0);
	test_cpu = 1;
	test_cpu = 0;
	end_machine(pgm);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_come_and_go),
		cmocka_unit_test(test_deregister_waits),
	};

	world_start(64 * MIB);
	assert_int_equal(pgm_start(), OK);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
