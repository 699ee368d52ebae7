/* SPDX-License-Identifier: Apache-2.0 */
// sources: vm/machine/pressure.c lib/status.c
/*
 * What is done when little memory is left, over a host of numbers: the order of the steps, when they begin and end, whose balloon is
 * asked for how much, what guests that lie, stand still or are in need themselves get, and that all is given back.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "arch/x86_64/host.h"
#include "lib/bits.h"
#include "mm/frame.h"
#include "pgm/shadow/shadow.h"
#include "vm/machine/internal.h"

#define MACHINES 4u
#define HOST_PAGES 16000u /* 1000 are little, 1500 enough */
#define RAM_PAGES 8000u   /* of each machine: it keeps 1000 */
#define SECOND UINT64_C(1000000000)

static uint64_t now, left, percent;
static char did[64]; /* S, C, F, and a digit for a machine that is asked, or - and it for one that is given back to */
static struct machine machines[MACHINES];
static struct config_machine configs[MACHINES];
static struct guest {
	uint64_t available, asked, held; /* pages */
	bool without_figures;
} guests[MACHINES];
static unsigned shadows, fusions; /* of each there are so many steps */
static uint64_t shadow_frees, fusion_frees;
static bool fusion_on;

static void note(char what)
{
	size_t length = strlen(did);

	if (length + 1 < sizeof(did) && (!length || did[length - 1] != what))
		did[length] = what;
}

uint64_t host_now_ns(void)
{
	return now;
}
void frame_totals(struct frame_totals *t)
{
	*t = (struct frame_totals){ .pages = HOST_PAGES, .guest_pages = left, .promise_percent = percent };
}
unsigned machine_count(void)
{
	return MACHINES;
}
struct machine *machine_get(unsigned index)
{
	return index < MACHINES ? &machines[index] : NULL;
}
bool shadow_shrink(struct pgm *pgm, struct shadow_root *own)
{
	assert_null(own);
	note('S');
	if (!shadows)
		return false;
	shadows--;
	left += shadow_frees;
	return true;
}
bool fuse_is_on(void)
{
	return fusion_on;
}
bool machines_fuse_now(unsigned *looked)
{
	note('F');
	if (fusions)
		fusions--;
	left += fusion_frees;
	return !fusions;
}
enum status machine_balloon_collect(struct machine *m)
{
	note('C');
	return OK;
}
enum status machine_balloon_describe(struct machine *m, struct balloon_info *info)
{
	struct guest *g = &guests[m->index];

	*info = (struct balloon_info){ .ready = true, .asked = (uint32_t)g->asked, .held = (uint32_t)g->held };
	info->known = g->without_figures ? 0 : BIT(VIRTIO_BALLOON_S_AVAIL);
	info->statistics[VIRTIO_BALLOON_S_AVAIL] = g->available * PAGE_SIZE;
	return OK;
}
void machine_balloon_set(struct machine *m, uint64_t pages)
{
	struct guest *g = &guests[m->index];

	assert_in_range(pages, 0, RAM_PAGES);
	if (pages < g->asked)
		note('-');
	note((char)('0' + m->index));
	g->asked = pages;
}

/* The guests do as they are told. */
static void obey(void)
{
	for (unsigned i = 0; i < MACHINES; i++) {
		struct guest *g = &guests[i];

		left += g->asked - g->held;
		g->available -= g->asked - g->held;
		g->held = g->asked;
	}
}

static void pass(unsigned steps)
{
	while (steps--) {
		now += machines_relieve() ? 0 : SECOND;
	}
}

static int world(void **state)
{
	memset(did, 0, sizeof(did));
	memset(guests, 0, sizeof(guests));
	memset(machines, 0, sizeof(machines));
	pressure_counters = (struct pressure_counters){ 0 };
	shadows = fusions = 0;
	shadow_frees = fusion_frees = 0;
	fusion_on = true;
	percent = 150;
	for (unsigned i = 0; i < MACHINES; i++) {
		configs[i] = (struct config_machine){ .memory = RAM_PAGES * PAGE_SIZE,
						      .priority = CONFIG_PRIORITY_NORMAL,
						      .weight = 100 };
		machines[i] = (struct machine){
			.index = i, .config = &configs[i], .state = MACHINE_RUNNING, .pgm = (struct pgm *)&guests[i]
		};
		guests[i].without_figures = true;
	}
	/* Calm, whatever was before. */
	left = HOST_PAGES;
	now += 2 * SECOND;
	pass(20);
	memset(did, 0, sizeof(did));
	pressure_counters = (struct pressure_counters){ 0 };
	return 0;
}

static void give_figures(unsigned machine, uint64_t available)
{
	guests[machine].without_figures = false;
	guests[machine].available = available;
}

static void without_overcommit_nothing(void **state)
{
	percent = 100;
	left = 1;
	give_figures(0, 5000);
	pass(20);
	assert_string_equal(did, "");
}

static void steps_in_order(void **state)
{
	give_figures(2, 5000);
	fusions = 3;
	left = 900;
	pass(30);
	assert_memory_equal(did, "SCF2", 4);
	assert_int_equal(pressure_counters.times, 1);
}

static void begins_and_ends(void **state)
{
	left = 1000;
	pass(10);
	assert_string_equal(did, "");
	left = 999;
	shadows = 100;
	shadow_frees = 100; /* the sixth is enough */
	pass(50);
	assert_string_equal(did, "S");
	assert_int_equal(shadows, 94);
	assert_int_equal(left, 1599);
}

static void shadows_that_come_again(void **state)
{
	shadows = 1000000;
	left = 500;
	pass(520);
	assert_non_null(strchr(did, 'C'));
	assert_in_range(1000000 - shadows, 4, 4 * 128);
}

static void fusion_goes_on_while_it_helps(void **state)
{
	fusions = 1000;
	fusion_frees = 10;
	left = 800;
	give_figures(0, 5000);
	pass(100);
	assert_string_equal(did, "SCF");
	assert_in_range(left, 1500, 1600);
}

static void fusion_waits_if_told_so(void **state)
{
	fusion_on = false;
	left = 800;
	give_figures(0, 5000);
	pass(10);
	assert_string_equal(did, "SC0");
}

static void endless_fusion_lets_balloons_have_a_turn(void **state)
{
	fusions = 1000000;
	left = 800;
	give_figures(0, 5000);
	pass(300);
	assert_memory_equal(did, "SCF0", 4);
}

/* To where balloons are asked for the first time. */
static void to_balloons(void)
{
	for (unsigned i = 0; i < 100 && !strpbrk(did, "0123"); i++)
		pass(1);
}

static void low_ones_give_first(void **state)
{
	configs[0].priority = CONFIG_PRIORITY_HIGH;
	configs[1].weight = 50;
	configs[2].priority = CONFIG_PRIORITY_LOW;
	for (unsigned i = 0; i < MACHINES; i++)
		give_figures(i, 1200 + i);
	left = 1200 - 500; /* 800 are missing; each has a little over 200 to spare */
	to_balloons();
	assert_string_equal(did, "SCF2130");
	assert_int_equal(guests[2].asked, 101);
	assert_int_equal(guests[1].asked, 101);
	assert_int_equal(guests[3].asked, 102);
	assert_int_equal(guests[0].asked, 100);
}

static void as_much_as_is_missing(void **state)
{
	for (unsigned i = 0; i < MACHINES; i++)
		give_figures(i, 5000 + i);
	left = 950;
	to_balloons();
	assert_string_equal(did, "SCF3");
	assert_int_equal(guests[3].asked, 550);
	pass(1); /* not obeyed yet: nothing more is asked for */
	assert_int_equal(pressure_counters.asked, 550);
	obey();
	pass(3);
	assert_int_equal(pressure_counters.asked, 550);
	assert_int_equal(left, 1500);
}

static void operators_word_counts(void **state)
{
	for (unsigned i = 0; i < MACHINES; i++)
		give_figures(i, 1010 + 1000 * (i == 1));
	machines[1].balloon_fixed = true;
	machines[2].state = MACHINE_PAUSED;
	guests[3].without_figures = true;
	left = 100;
	pass(30);
	assert_null(strpbrk(did, "123"));
	assert_true(pressure_counters.asked > 0);
}

static void liars(void **state)
{
	give_figures(0, UINT64_MAX / PAGE_SIZE);
	left = 0;
	for (unsigned i = 0; i < 200; i++) {
		pass(1);
		guests[0].held = guests[0].asked;
	}
	assert_in_range(guests[0].asked, 1, RAM_PAGES); /* machine_balloon_set() saw no more either */
}

static void one_that_stands_still(void **state)
{
	give_figures(0, 5000);
	give_figures(1, 4000);
	left = 500;
	to_balloons();
	assert_int_equal(guests[0].asked, 1000);
	assert_int_equal(guests[1].asked, 0);
	pass(10);
	assert_int_equal(guests[0].asked, 0);
	assert_true(guests[1].asked > 0);
	guests[0].held = 10; /* it moves again */
	left = 100;
	pass(3);
	assert_true(guests[0].asked > 10);
}

/* It lets some pages go, takes them back, and so on: what it owes isn't waited for, others are asked. */
static void one_that_goes_to_and_fro(void **state)
{
	give_figures(0, 5000);
	give_figures(1, 4000);
	left = 500;
	to_balloons();
	assert_int_equal(guests[0].asked, 1000);
	for (unsigned i = 0; i < 30 && !guests[1].asked; i++) {
		guests[0].held = i % 2 * 40;
		pass(1);
	}
	assert_true(guests[1].asked > 0);
	/* Nor for one that gives a page at a time. */
	world(NULL);
	give_figures(0, 5000);
	give_figures(1, 4000);
	left = 500;
	to_balloons();
	for (unsigned i = 0; i < 30 && !guests[1].asked; i++) {
		guests[0].held++;
		pass(1);
	}
	assert_true(guests[1].asked > 0);
	/* A slow one that goes on is. */
	world(NULL);
	give_figures(0, 5000);
	give_figures(1, 4000);
	left = 500;
	to_balloons();
	while (guests[0].held < guests[0].asked && !guests[1].asked) {
		guests[0].held += 20;
		left += 20;
		pass(1);
	}
	assert_int_equal(guests[1].asked, 0);
}

static void who_is_in_need_gets_back(void **state)
{
	give_figures(0, 3000);
	left = 500;
	to_balloons();
	obey();
	assert_int_equal(guests[0].held, 1000);
	guests[0].available = 400;
	left = 500; /* and so is the host */
	pass(1);
	assert_int_equal(guests[0].asked, 1000 - 600);
	guests[0].available = 600;
	pass(1);
	assert_int_equal(guests[0].asked, 1000 - 600);
}

static void all_is_given_back(void **state)
{
	configs[1].priority = CONFIG_PRIORITY_HIGH;
	for (unsigned i = 0; i < 3; i++)
		give_figures(i, 2000);
	left = 0;
	for (unsigned i = 0; i < 60; i++) {
		pass(1);
		obey();
	}
	assert_true(guests[0].held && guests[1].held && guests[2].held);
	left = 2900;
	memset(did, 0, sizeof(did));
	pass(5);
	assert_string_equal(did, ""); /* no plenty */
	left = 3200;
	pass(1);
	assert_memory_equal(did, "-1", 2);
	for (unsigned i = 0; i < 60; i++) {
		pass(1);
		left = 9000;
	}
	for (unsigned i = 0; i < MACHINES; i++)
		assert_int_equal(guests[i].asked, 0);
	assert_int_equal(pressure_counters.returned, pressure_counters.asked);
}

/* One that is paused, or whose driver starts anew, when all is given back gets its part later. */
static void nobody_is_forgotten(void **state)
{
	for (unsigned paused = 0; paused < 2; paused++) {
		world(NULL);
		give_figures(0, 3000);
		left = 500;
		to_balloons();
		obey();
		assert_int_equal(guests[0].asked, 1000);
		machines[0].state = paused ? MACHINE_PAUSED : MACHINE_RUNNING;
		guests[0].without_figures = !paused;
		left = HOST_PAGES;
		pass(20);
		machines[0].state = MACHINE_RUNNING;
		guests[0].without_figures = false;
		pass(20);
		assert_int_equal(guests[0].asked, 0);
	}
}

/* `balloon NAME auto` after a number. */
static void what_an_operator_has_asked_for_comes_back(void **state)
{
	percent = 100;
	give_figures(0, 4000);
	guests[0].asked = guests[0].held = 500;
	pass(5);
	assert_int_equal(guests[0].asked, 500);
	pressure_lent();
	pass(5);
	assert_int_equal(guests[0].asked, 0);
}

static void is_told(void **state)
{
	struct pressure_info info;

	give_figures(0, 3000);
	give_figures(1, 1500);
	pressure_describe(&info);
	assert_string_equal(info.relief, "none");
	assert_int_equal(info.spare, 2500);
	left = 10;
	to_balloons();
	pressure_describe(&info);
	assert_string_equal(info.relief, "asking balloons");
	/* Who asks changes nothing, however often. */
	for (unsigned i = 0; i < 100; i++)
		pressure_describe(&info);
	assert_int_equal(guests[0].asked, 1000);
	assert_int_equal(machines[0].balloon_looks, 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup(without_overcommit_nothing, world),
		cmocka_unit_test_setup(steps_in_order, world),
		cmocka_unit_test_setup(begins_and_ends, world),
		cmocka_unit_test_setup(shadows_that_come_again, world),
		cmocka_unit_test_setup(fusion_goes_on_while_it_helps, world),
		cmocka_unit_test_setup(fusion_waits_if_told_so, world),
		cmocka_unit_test_setup(endless_fusion_lets_balloons_have_a_turn, world),
		cmocka_unit_test_setup(low_ones_give_first, world),
		cmocka_unit_test_setup(as_much_as_is_missing, world),
		cmocka_unit_test_setup(operators_word_counts, world),
		cmocka_unit_test_setup(liars, world),
		cmocka_unit_test_setup(one_that_stands_still, world),
		cmocka_unit_test_setup(one_that_goes_to_and_fro, world),
		cmocka_unit_test_setup(nobody_is_forgotten, world),
		cmocka_unit_test_setup(who_is_in_need_gets_back, world),
		cmocka_unit_test_setup(all_is_given_back, world),
		cmocka_unit_test_setup(what_an_operator_has_asked_for_comes_back, world),
		cmocka_unit_test_setup(is_told, world),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
