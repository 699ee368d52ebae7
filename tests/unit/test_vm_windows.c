/* SPDX-License-Identifier: Apache-2.0 */
// sources: mm/*.c pgm/*.c pgm/*/*.c vm/machine/windows.c arch/x86_64/pt_format.c lib/format.c lib/hash.c lib/status.c
/* BARs that move, in a real PGM: what answers where after each move, two that change places, and places that are taken. */
#include "common/pgm_world.h"

#include "vm/machine/parts.h"
#include "vm/vcpu/vcpu.h"

#define PLACE UINT64_C(0xfc000000)

static struct machine machine;
static struct board board;
static struct mmio_window a = { .name = "a", .size = 0x2000 }, b = { .name = "b", .size = 0x2000 };
static unsigned requests;
static struct vcpu vcpu;

void vcpu_request(struct vcpu *v, uint32_t bits)
{
	assert_int_equal(bits, REQUEST_WINDOWS);
	requests++;
}

static enum status answer(void *user, struct pgm_access *access)
{
	struct mmio_window *w = user;

	access->value = (w == &a ? 0xa000 : 0xb000) + (access->where.v - w->base);
	return OK;
}

static uint64_t seen(uint64_t where)
{
	uint16_t value;

	assert_int_equal(pgm_read(machine.pgm, gpa(where), &value, 2, ORIGIN_GUEST, NULL), OK);
	return value;
}

static void place(uint64_t at_a, uint64_t at_b)
{
	a.wanted = at_a;
	b.wanted = at_b;
	board_place_windows(&machine);
}

static void open_machine(void)
{
	machine = (struct machine){ .board = &board, .vcpu_count = 2, .name = "m" };
	board = (struct board){ .machine = &machine };
	machine.pgm = make_pgm(16 * MIB);
	assert_int_equal(
		pgm_handler_type_register(machine.pgm, HANDLER_KIND_MMIO, 0, answer, "device", &board.mmio_type), OK);
	a.wanted = b.wanted = a.base = b.base = MMIO_NOWHERE;
	bus_window_open(&machine, &a);
	bus_window_open(&machine, &b);
}

static void windows_move(void **state)
{
	open_machine();
	place(PLACE, PLACE + 0x2000);
	assert_int_equal(seen(PLACE), 0xa000);
	assert_int_equal(seen(PLACE + 0x1ffe), 0xbffe);
	assert_int_equal(seen(PLACE + 0x2004), 0xb004);
	place(PLACE + 0x2000, PLACE); /* they change places */
	assert_int_equal(seen(PLACE), 0xb000);
	assert_int_equal(seen(PLACE + 0x2004), 0xa004);
	place(PLACE + 0x2000, MMIO_NOWHERE);
	assert_int_equal(seen(PLACE), 0xffff);
	place(PLACE + 0x1000, MMIO_NOWHERE); /* over its own old place */
	assert_int_equal(seen(PLACE + 0x1004), 0xa004);
	assert_int_equal(seen(PLACE + 0x3000), 0xffff);
	end_pgm(machine.pgm);
}

static void taken_places(void **state)
{
	open_machine();
	machine.window_complaints = 0;
	place(PLACE, PLACE + 0x1000); /* one of them has it */
	assert_true((a.base == MMIO_NOWHERE) != (b.base == MMIO_NOWHERE));
	place(PLACE, PLACE + 0x2000); /* and when it goes, the other */
	assert_int_equal(a.base, PLACE);
	assert_int_equal(b.base, PLACE + 0x2000);
	place(MIB, PLACE); /* memory is there; the other may have the place all the same */
	assert_int_equal(a.base, MMIO_NOWHERE);
	assert_int_equal(seen(PLACE), 0xb000);
	assert_int_equal(seen(MIB), 0);
	place(PGM_MAX_GPA, UINT64_C(0xffffffffff000)); /* beyond all */
	assert_true(a.base == MMIO_NOWHERE && b.base == MMIO_NOWHERE);
	assert_int_equal(machine.window_complaints, 4);
	place(PLACE, PLACE + 0x2000);
	assert_int_equal(seen(PLACE + 8), 0xa008);
	end_pgm(machine.pgm);
}

static void every_vcpu_is_asked(void **state)
{
	requests = 0;
	machine = (struct machine){ .board = &board, .vcpu_count = 3 };
	bus_windows_moved(&machine); /* none is there yet */
	assert_int_equal(requests, 0);
	machine.vcpu[0] = machine.vcpu[2] = &vcpu;
	bus_windows_moved(&machine);
	assert_int_equal(requests, 2);
}

static int setup(void **state)
{
	pgm_world_start(64 * MIB);
	return 0;
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(windows_move),
		cmocka_unit_test(taken_places),
		cmocka_unit_test(every_vcpu_is_asked),
	};

	return cmocka_run_group_tests(tests, setup, NULL);
}
