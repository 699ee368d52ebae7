/* SPDX-License-Identifier: Apache-2.0 */
// sources: mm/*.c pgm/*.c pgm/*/*.c arch/x86_64/pt_format.c lib/format.c lib/hash.c lib/status.c
/* A closed A20 gate: reads, writes and walks see the even MiB below, whatever kind of block it is, and nothing stale stays. */
#include "pgm/walk.h"
#include "test_pgm_machine.h"

#define EVEN (4 * MIB)
#define ODD (EVEN + MIB)
#define ROOM (32 * MIB)

static struct pgm *make(const struct pt_format *format, bool large)
{
	struct pgm *pgm = machine_of(format, ROOM, large);
	hpa_t root, again;

	assert_int_equal(pgm_a20_root(pgm, &root), OK);
	assert_int_equal(pgm_a20_root(pgm, &again), OK);
	assert_true(root.v == again.v && root.v != pgm_slat_root(pgm).v);
	return pgm;
}

static void gate(bool open)
{
	gate_closed = !open;
}

static void test_alias(void **state)
{
	(void)state;
	for (unsigned n = 0; n < 4; n++) {
		struct pgm *pgm = make(n & 1 ? &pt_npt4 : &pt_ept4, n & 2);

		assert_true(guest_write(pgm, EVEN + 5, 0xee));
		assert_true(guest_write(pgm, ODD + 5, 0x0d));
		gate(false);
		assert_int_equal(guest_read(pgm, ODD + 5), 0xee);
		assert_int_equal(guest_read(pgm, EVEN + 5), 0xee);
		assert_true(guest_write(pgm, ODD + 6, 0x66));
		assert_int_equal(guest_read(pgm, EVEN + 6), 0x66);
		assert_true(guest_write(pgm, ODD + 3 * BLOCK_SIZE, 0x33)); /* nobody was there before */
		gate(true);
		assert_int_equal(guest_read(pgm, ODD + 5), 0x0d);
		assert_int_equal(guest_read(pgm, ODD + 6), 0);
		assert_int_equal(guest_read(pgm, EVEN + 6), 0x66);
		assert_int_equal(guest_read(pgm, EVEN + 3 * BLOCK_SIZE), 0x33);
		machine_end_test(pgm);
	}
}

/* Reading with the gate closed allocates nothing; the write that follows is seen on both sides. */
static void test_zero_then_write(void **state)
{
	struct pgm *pgm = make(&pt_ept4, false);
	uint64_t held = pgm->account.allocated[ACCOUNT_BASE];

	(void)state;
	gate(false);
	for (uint64_t at = 0; at < 2 * MIB; at += 16 * PAGE_SIZE)
		assert_int_equal(guest_read(pgm, EVEN + at), 0);
	assert_int_equal(pgm->account.allocated[ACCOUNT_BASE], held);
	assert_int_equal(table_rights(pgm, ODD) & ACCESS_WRITE, 0);
	gate(true);
	assert_true(guest_write(pgm, EVEN, 9));
	gate(false);
	assert_int_equal(guest_read(pgm, ODD), 9); /* the zero page is shown no more */
	assert_int_equal(guest_read(pgm, EVEN), 9);
	machine_end_test(pgm);
}

static enum status answer(void *user, struct pgm_access *access)
{
	(void)user;
	if (!access->write)
		access->value = 0x5a;
	return OK;
}

/* A handler that comes while the gate is closed narrows the aliases too, by way of the flush. */
static void test_narrowing(void **state)
{
	struct pgm *pgm = make(&pt_ept4, true);
	handler_type type;
	uint64_t drops;

	(void)state;
	assert_int_equal(pgm_handler_type_register(pgm, HANDLER_KIND_ALL, 0, answer, "test", &type), OK);
	gate(false);
	assert_true(guest_write(pgm, ODD, 1));
	assert_true(table_rights(pgm, ODD) & ACCESS_WRITE);
	drops = pgm->common.counters.shadow_page_drops;
	assert_int_equal(pgm_handler_register(pgm, type, gpa(EVEN), gpa(EVEN + PAGE_SIZE - 1), NULL, "all"), OK);
	assert_true(pgm->common.counters.shadow_page_drops > drops);
	assert_int_equal(table_rights(pgm, ODD), 0);
	assert_int_equal(guest_read(pgm, ODD), 0x5a);
	assert_true(guest_write(pgm, ODD + PAGE_SIZE, 2));
	assert_int_equal(pgm_handler_deregister(pgm, gpa(EVEN)), OK);
	assert_int_equal(guest_read(pgm, ODD), 1);
	assert_int_equal(guest_read(pgm, ODD + PAGE_SIZE), 2);
	machine_end_test(pgm);
}

/* A wrong alias is found. */
static void test_check_sees_aliases(void **state)
{
	struct pgm *pgm = make(&pt_ept4, true);
	uint64_t *entry, kept;
	unsigned level;

	(void)state;
	gate(false);
	assert_true(guest_write(pgm, ODD, 1));
	entry = slat_find(shadow_view(pgm, pgm->shadow.a20), gpa(ODD), &level);
	kept = *entry;
	*entry += PAGE_SIZE;
	assert_true(pgm_check(pgm, print_finding, NULL) > 0);
	*entry = kept;
	machine_end_test(pgm);
}

/* The gate is no way to use up the tables: more than the bound, and all start anew. */
static void test_bounded(void **state)
{
	struct pgm *pgm = machine_of(&pt_ept4, GIB, false);
	hpa_t root;

	(void)state;
	assert_int_equal(pgm_a20_root(pgm, &root), OK);
	gate(false);
	for (uint64_t at = 0; at < GIB - 512 * MIB; at += BLOCK_SIZE)
		if (at >= BLOCK_SIZE)
			assert_int_equal(guest_read(pgm, at + MIB), 0);
	assert_true(pgm->common.counters.shadow_tables_dropped > 0);
	assert_true(pgm->shadow.frames <= A20_FRAMES);
	machine_end_test(pgm);
}

static void put64(struct pgm *pgm, uint64_t where, uint64_t v)
{
	assert_int_equal(pgm_write(pgm, gpa(where), &v, 8, ORIGIN_DEVICE, NULL), OK);
}

/* Every entry's address and the result pass the gate, in every mode. */
static void test_walks(void **state)
{
	struct pgm *pgm = make(&pt_ept4, true);
	struct walk_context c = { .cr0 = 0x80000001, .cr3 = ODD, .cr4 = 0x20, .efer = 0x500, .physical_bits = 40 };
	struct walk_result r;

	(void)state;
	/* Four levels in an odd MiB, others in the even MiB below it. */
	for (unsigned side = 0; side < 2; side++) {
		uint64_t base = side ? ODD : EVEN;

		put64(pgm, base, (ODD + PAGE_SIZE) | 7);
		put64(pgm, base + PAGE_SIZE, (ODD + 2 * PAGE_SIZE) | 7);
		put64(pgm, base + 2 * PAGE_SIZE, (ODD + 3 * PAGE_SIZE) | 7);
		put64(pgm, base + 3 * PAGE_SIZE, (side ? 0x701000 : 0x903000) | 7);
	}
	assert_int_equal(guest_walk(pgm, &c, gva(0x123), ACCESS_READ, &r), OK);
	assert_int_equal(r.gpa.v, 0x701123);
	c.a20_mask = a20_mask(false);
	assert_int_equal(guest_walk(pgm, &c, gva(0x123), ACCESS_WRITE, &r), OK);
	assert_int_equal(r.gpa.v, 0x803123);
	assert_int_equal(r.step[0].where.v, EVEN);
	/* Accessed and dirty went to the even side. */
	assert_int_equal(guest_read(pgm, EVEN + 3 * PAGE_SIZE) & 0x60, 0x60);
	assert_int_equal(guest_read(pgm, ODD + 3 * PAGE_SIZE) & 0x60, 0x20);
	c = (struct walk_context){ .a20_mask = a20_mask(false) };
	assert_int_equal(guest_walk(pgm, &c, gva(0x100010), ACCESS_READ, &r), OK);
	assert_int_equal(r.gpa.v, 0x10);
	c.a20_mask = a20_mask(true);
	assert_int_equal(guest_walk(pgm, &c, gva(0x100010), ACCESS_READ, &r), OK);
	assert_int_equal(r.gpa.v, 0x100010);
	machine_end_test(pgm);
}

/* A random life with the gate opening and closing, handlers coming and going, resets; against a plain array. */
static void life(unsigned n, uint64_t seed)
{
	static uint8_t content[ROOM / PAGE_SIZE];
	struct pgm *pgm = make(n & 1 ? &pt_npt4 : &pt_ept4, n & 2);
	bool covered = false;
	handler_type type;

	memset(content, 0, sizeof(content));
	assert_int_equal(pgm_handler_type_register(pgm, HANDLER_KIND_WRITE, 0, answer, "test", &type), OK);
	for (unsigned step = 0; step < 4000; step++) {
		uint64_t page, where;

		seed = seed * 6364136223846793005u + 1442695040888963407u;
		page = 256 + (seed >> 40) % (ROOM / PAGE_SIZE - 512); /* RAM from 1 MiB on, even and odd */
		if (gate_closed)
			page = max_u64(page, 512);
		where = page * PAGE_SIZE + 3;
		switch (seed >> 33 & 31) {
		case 0: gate(gate_closed); break;
		case 1:
			if (covered)
				assert_int_equal(pgm_handler_deregister(pgm, gpa(ODD)), OK);
			else /* its callback swallows what is written */
				assert_int_equal(
					pgm_handler_register(pgm, type, gpa(ODD), gpa(ODD + PAGE_SIZE - 1), NULL, "w"),
					OK);
			covered = !covered;
			break;
		case 2:
			if (step % 8)
				break;
			reset(pgm, true);
			memset(content, 0, sizeof(content));
			break;
		default:
			if (bus_address(where).v >> PAGE_SHIFT == ODD >> PAGE_SHIFT)
				break;
			if (seed >> 38 & 1) {
				assert_true(guest_write(pgm, where, (uint8_t)step));
				content[bus_address(where).v >> PAGE_SHIFT] = (uint8_t)step;
			} else if (guest_read(pgm, where) != content[bus_address(where).v >> PAGE_SHIFT]) {
				fail_msg("life %u, step %u: wrong byte at %#llx, gate %s", n, step,
					 (unsigned long long)where, gate_closed ? "closed" : "open");
			}
		}
		if (step % 500 == 0)
			assert_int_equal(pgm_check(pgm, print_finding, NULL), 0);
	}
	machine_end_test(pgm);
}

static void test_random(void **state)
{
	(void)state;
	for (unsigned n = 0; n < 8; n++)
		life(n, 977 + n);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_alias),     cmocka_unit_test(test_zero_then_write),
		cmocka_unit_test(test_narrowing), cmocka_unit_test(test_check_sees_aliases),
		cmocka_unit_test(test_bounded),   cmocka_unit_test(test_walks),
		cmocka_unit_test(test_random),
	};

	machine_world(64 * MIB);
	return cmocka_run_group_tests_name("pgm_a20", tests, NULL, NULL);
}
