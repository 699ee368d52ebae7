/* SPDX-License-Identifier: Apache-2.0 */
// sources: mm/*.c pgm/*.c pgm/*/*.c lib/format.c lib/hash.c lib/status.c arch/x86_64/pt_format.c
/*
 * Access handlers, operation by operation: what each does to marks, to the second-level tables and to accesses, and
 * each of its errors.
 */
#include "test_pgm_handler_world.h"

static void test_types(void **state)
{
	struct pgm *pgm = machine_of(true, 32);
	handler_type type[HANDLER_TYPES], again, extra;
	struct note note = { 0 };

	for (unsigned i = 0; i < HANDLER_TYPES; i++) {
		type[i] = type_of(pgm, HANDLER_KIND_WRITE, 0);
		for (unsigned j = 0; j < i; j++)
			assert_int_not_equal(type[i], type[j]);
	}
	assert_int_equal(pgm_handler_type_register(pgm, HANDLER_KIND_ALL, 0, take_note, "x", &extra), LIMIT);
	assert_int_equal(pgm_handler_type_register(pgm, HANDLER_KIND_ALL, 8, take_note, "x", &extra), BAD_VALUE);
	assert_int_equal(pgm_handler_type_register(pgm, HANDLER_KIND_ALL, 0, NULL, "x", &extra), BAD_VALUE);
	assert_int_equal(
		pgm_handler_type_register(pgm, HANDLER_KIND_MMIO, HANDLER_NOT_IN_HARDWARE, take_note, "x", &extra),
		BAD_VALUE);
	put(pgm, type[7], PAGE(0), PAGE(1) - 1, &note);
	assert_int_equal(pgm_handler_type_deregister(pgm, type[7]), BUSY);
	assert_int_equal(pgm_handler_deregister(pgm, gpa(PAGE(0))), OK);
	assert_int_equal(pgm_handler_type_deregister(pgm, type[7]), OK);
	assert_int_equal(pgm_handler_type_deregister(pgm, type[7]), NOT_FOUND);
	assert_int_equal(pgm_handler_register(pgm, type[7], gpa(PAGE(0)), gpa(PAGE(1) - 1), &note, "x"), NOT_FOUND);
	/* The slot is used again, and the old handle still doesn't fit. */
	again = type_of(pgm, HANDLER_KIND_ALL, 0);
	assert_int_equal(again % HANDLER_TYPES, type[7] % HANDLER_TYPES);
	assert_int_not_equal(again, type[7]);
	assert_int_equal(pgm_handler_register(pgm, type[7], gpa(PAGE(0)), gpa(PAGE(1) - 1), &note, "x"), NOT_FOUND);
	assert_int_equal(pgm_handler_register(pgm, 0, gpa(PAGE(0)), gpa(PAGE(1) - 1), &note, "x"), NOT_FOUND);
	end_machine(pgm);
}

static enum status try(struct pgm *pgm, handler_type type, uint64_t first, uint64_t last)
{
	static struct note note;

	return pgm_handler_register(pgm, type, gpa(first), gpa(last), &note, "try");
}

static void test_register_errors(void **state)
{
	struct pgm *pgm = machine_of(true, 32);
	handler_type mmio = type_of(pgm, HANDLER_KIND_MMIO, 0), all = type_of(pgm, HANDLER_KIND_ALL, 0);
	handler_type write = type_of(pgm, HANDLER_KIND_WRITE, 0);
	handler_type whole = type_of(pgm, HANDLER_KIND_WRITE, HANDLER_NOT_IN_HARDWARE);
	struct pgm_handler_info info;

	assert_int_equal(try(pgm, all, PAGE(0), PAGE(0) + 99), BAD_VALUE);
	assert_int_equal(try(pgm, all, PAGE(0) + 1, PAGE(1) - 1), BAD_VALUE);
	assert_int_equal(try(pgm, whole, PAGE(0), PAGE(0) + 99), BAD_VALUE);
	assert_int_equal(try(pgm, mmio, MMIO_BASE, MMIO_BASE + 99), BAD_VALUE);
	assert_int_equal(try(pgm, write, PAGE(1), PAGE(0)), BAD_VALUE);
	assert_int_equal(try(pgm, write, 0, UINT64_MAX), BAD_VALUE);
	assert_int_equal(try(pgm, all, MMIO_BASE, MMIO_BASE + PAGE_SIZE - 1), BAD_ADDRESS);
	assert_int_equal(try(pgm, write, 16 * MIB - 1, 16 * MIB), BAD_ADDRESS); /* one byte too many */
	assert_int_equal(try(pgm, write, 0x9fff0, 0x100010), BAD_ADDRESS);      /* over two ranges */
	assert_int_equal(try(pgm, mmio, 15 * MIB, 17 * MIB - 1), CONFLICT);
	assert_int_equal(try(pgm, write, PAGE(0) + 16, PAGE(0) + 31), OK);
	assert_int_equal(try(pgm, write, PAGE(0) + 31, PAGE(0) + 40), CONFLICT);
	assert_int_equal(try(pgm, write, PAGE(0), PAGE(0) + 16), CONFLICT);
	assert_int_equal(try(pgm, write, PAGE(0) + 20, PAGE(0) + 21), CONFLICT);
	assert_int_equal(try(pgm, all, PAGE(0), PAGE(1) - 1), CONFLICT);
	assert_int_equal(try(pgm, write, PAGE(0) + 32, PAGE(0) + 32), OK);
	assert_true(is_registered(pgm, PAGE(0) + 16));
	assert_false(is_registered(pgm, PAGE(0) + 17));
	assert_true(pgm_handler_find(pgm, gpa(PAGE(0) + 31), &info)); /* the last byte as well */
	assert_int_equal(info.first, PAGE(0) + 16);
	assert_string_equal(info.description, "try");
	assert_string_equal(info.type_description, "note");
	assert_false(pgm_handler_find(pgm, gpa(PAGE(0) + 33), NULL));
	for (unsigned i = 2; i < 32; i++)
		assert_int_equal(try(pgm, write, PAGE(i), PAGE(i)), OK);
	assert_int_equal(try(pgm, write, PAGE(50), PAGE(50)), LIMIT);
	assert_int_equal(pgm->common.counters.handler_alloc_errors, 1);
	assert_int_equal(pgm->common.counters.handler_max, 32);
	assert_int_equal(pgm_handler_deregister(pgm, gpa(PAGE(0) + 17)), NOT_FOUND);
	assert_int_equal(pgm_handler_reset(pgm, gpa(PAGE(0) + 17)), NOT_FOUND);
	assert_int_equal(pgm_handler_change_user(pgm, gpa(PAGE(1)), NULL), NOT_FOUND);
	end_machine(pgm);
}

/* ALL on one page of a large block: the other 511 translate as before, and come back all the same. */
static void test_all_splits_large(void **state)
{
	struct pgm *pgm = machine_of(true, 32);
	struct note note = { .give = 0x1122334455667788 };
	handler_type all = type_of(pgm, HANDLER_KIND_ALL, 0);
	static const uint8_t zeros[100];
	hpa_t before, after;

	touch(pgm, RAM_BASE, ACCESS_WRITE);
	store(pgm, PAGE(7) + 8, 0xabcdef, 8);
	assert_int_equal(record_at(pgm, PAGE(7)).bits >> PAGE_STATE_SHIFT & 7, PAGE_ALLOCATED);
	assert_int_equal(granted(pgm, PAGE(0), &before), 7);
	flushes = 0;
	put(pgm, all, PAGE(7), PAGE(8) - 1, &note);
	assert_true(flushes > 0);
	assert_int_equal(granted(pgm, PAGE(7), NULL), 0);
	for (unsigned i = 0; i < 512; i++) {
		if (i == 7)
			continue;
		assert_int_equal(granted(pgm, PAGE(i), &after), 7);
		assert_int_equal(after.v, before.v + i * PAGE_SIZE);
	}
	assert_int_equal(pgm_fault(pgm, gpa(PAGE(7)), ACCESS_READ), PGM_EMULATE);
	assert_int_equal(load(pgm, PAGE(7) + 8, 8), note.give);
	store(pgm, PAGE(7) + 12, 0x99, 4);
	assert_int_equal(note.calls, 2);
	assert_int_equal(note.where, PAGE(7) + 12);
	assert_int_equal(note.value, 0x99);
	assert_int_equal(pgm_check(pgm, print_finding, NULL), 0);
	note.answer = NOT_FOUND; /* not mine: the ordinary access, with what was there before */
	assert_int_equal(load(pgm, PAGE(7) + 8, 8), 0xabcdef);
	store(pgm, PAGE(7) + 12, 0x77, 4);
	assert_int_equal(load(pgm, PAGE(7) + 12, 4), 0x77);
	note.answer = DENIED; /* anything else goes to the caller */
	assert_int_equal(pgm_write(pgm, gpa(PAGE(6) + 4000), zeros, sizeof(zeros), ORIGIN_GUEST, NULL), DENIED);
	flushes = 0;
	assert_int_equal(pgm_handler_deregister(pgm, gpa(PAGE(7))), OK);
	assert_int_equal(flushes, 0);
	touch(pgm, PAGE(7), ACCESS_WRITE);
	assert_int_equal(granted(pgm, PAGE(7), &after), 7);
	assert_int_equal(after.v, before.v + 7 * PAGE_SIZE);
	assert_int_equal(load(pgm, PAGE(7) + 8, 4), 0xabcdef);
	end_machine(pgm);
}

static void test_write_on_zero(void **state)
{
	struct pgm *pgm = machine_of(true, 32);
	handler_type write = type_of(pgm, HANDLER_KIND_WRITE, 0);
	struct note note = { 0 };
	hpa_t frame;

	touch(pgm, PAGE(3), ACCESS_READ); /* the 2 MiB zero leaf goes */
	put(pgm, write, PAGE(2), PAGE(5) - 1, &note);
	assert_int_equal(pgm->account.allocated[ACCOUNT_BASE], 0);
	assert_int_equal(granted(pgm, PAGE(3), NULL), 0);
	touch(pgm, PAGE(3), ACCESS_READ);
	assert_int_equal(granted(pgm, PAGE(3), &frame), ACCESS_READ | ACCESS_EXECUTE);
	assert_int_equal(frame.v, pgm_zero_block.v);
	assert_int_equal(pgm_fault(pgm, gpa(PAGE(3)), ACCESS_WRITE), PGM_EMULATE);
	assert_int_equal(load(pgm, PAGE(3), 8), 0);
	store(pgm, PAGE(3), 1, 1);
	assert_int_equal(note.bytes, 1);
	assert_int_equal(pgm->account.allocated[ACCOUNT_BASE], 0);
	note.answer = NOT_FOUND;
	store(pgm, PAGE(3), 0x55, 1);
	assert_int_equal(load(pgm, PAGE(3), 1), 0x55);
	assert_int_equal(page_get_state(record_at(pgm, PAGE(3))), PAGE_ALLOCATED);
	assert_int_equal(page_get_state(record_at(pgm, PAGE(2))), PAGE_ZERO);
	touch(pgm, PAGE(3), ACCESS_READ);
	assert_int_equal(granted(pgm, PAGE(3), NULL), ACCESS_READ | ACCESS_EXECUTE);
	end_machine(pgm);
}

static void test_rom_and_mmio(void **state)
{
	struct pgm *pgm = machine_of(true, 32);
	handler_type write = type_of(pgm, HANDLER_KIND_WRITE, 0), all = type_of(pgm, HANDLER_KIND_ALL, 0);
	handler_type mmio = type_of(pgm, HANDLER_KIND_MMIO, 0);
	struct note w = { 0 }, a = { .give = 0x42 }, m = { .give = 0x4344 };
	uint64_t code = 0xc0de;

	assert_int_equal(pgm_rom_load(pgm, gpa(ROM_BASE), &code, 8), OK);
	put(pgm, write, ROM_BASE, ROM_BASE + PAGE_SIZE - 1, &w);
	put(pgm, all, ROM_BASE + PAGE_SIZE, ROM_BASE + 2 * PAGE_SIZE - 1, &a);
	put(pgm, mmio, MMIO_BASE, MMIO_BASE + PAGE_SIZE - 1, &m);
	store(pgm, ROM_BASE, 1, 8);
	assert_int_equal(w.calls, 1);
	w.answer = NOT_FOUND;
	store(pgm, ROM_BASE, 1, 8);
	assert_int_equal(w.calls, 2);
	assert_int_equal(load(pgm, ROM_BASE, 8), 0xc0de);
	assert_int_equal(load(pgm, ROM_BASE + PAGE_SIZE, 1), 0x42);
	assert_int_equal(load(pgm, MMIO_BASE + 4, 2), 0x4344);
	m.answer = NOT_FOUND;
	assert_int_equal(load(pgm, MMIO_BASE + 4, 2), 0xffff);
	store(pgm, MMIO_BASE + 4, 0, 2);
	assert_int_equal(load(pgm, MMIO_BASE + PAGE_SIZE, 8), UINT64_MAX);
	store(pgm, MMIO_BASE + PAGE_SIZE, 0, 8);
	/* Half on the device, half past it. */
	m.answer = OK;
	assert_int_equal(load(pgm, MMIO_BASE + PAGE_SIZE - 2, 4), 0xffff4344);
	end_machine(pgm);
}

static void test_below_a_page(void **state)
{
	struct pgm *pgm = machine_of(true, 32);
	handler_type write = type_of(pgm, HANDLER_KIND_WRITE, 0);
	struct note a = { 0 }, b = { 0 }, tail = { 0 };
	uint8_t bytes[64], back[64];
	uint64_t seen;

	memset(bytes, 0x77, sizeof(bytes));
	put(pgm, write, PAGE(0) + 16, PAGE(0) + 23, &a);
	put(pgm, write, PAGE(0) + 32, PAGE(0) + 34, &b);
	put(pgm, write, PAGE(0) + 4000, PAGE(2) + 99, &tail);
	assert_int_equal(pgm_write(pgm, gpa(PAGE(0)), bytes, sizeof(bytes), ORIGIN_DEVICE, NULL), OK);
	assert_int_equal(a.bytes, 8);
	assert_int_equal(b.bytes, 3);
	assert_int_equal(tail.bytes, 0);
	memset(bytes + 16, 0, 8);
	memset(bytes + 32, 0, 3);
	assert_int_equal(pgm_read(pgm, gpa(PAGE(0)), back, sizeof(back), ORIGIN_DEVICE, NULL), OK);
	assert_memory_equal(bytes, back, sizeof(bytes));
	a.answer = NOT_FOUND;
	store(pgm, PAGE(0) + 20, 0x0123456789abcdef, 8);
	assert_int_equal(a.where, PAGE(0) + 20);
	assert_int_equal(a.size, 4);
	assert_int_equal(load(pgm, PAGE(0) + 20, 8), 0x0123456789abcdef);
	/* Beside them exchanges and simple writes work, on them they say HANDLER. */
	assert_int_equal(pgm_compare_exchange(pgm, gpa(PAGE(0) + 40), 0x7777777777777777, 5, 8, &seen), OK);
	assert_int_equal(seen, 0x7777777777777777);
	assert_int_equal(load(pgm, PAGE(0) + 40, 8), 5);
	assert_int_equal(pgm_compare_exchange(pgm, gpa(PAGE(0) + 32), 0, 5, 8, &seen), HANDLER);
	assert_int_equal(pgm_write_simple(pgm, gpa(PAGE(0) + 35), bytes, 5), OK);
	assert_int_equal(pgm_write_simple(pgm, gpa(PAGE(0) + 34), bytes, 5), HANDLER);
	/* One goes, the page stays write-protected for the other; the last one takes the mark along. */
	assert_int_equal(pgm_handler_deregister(pgm, gpa(PAGE(0) + 16)), OK);
	assert_int_equal(mark_at(pgm, PAGE(0)), HANDLER_WRITE);
	assert_int_equal(pgm_handler_deregister(pgm, gpa(PAGE(0) + 4000)), OK);
	assert_int_equal(mark_at(pgm, PAGE(0)), HANDLER_WRITE);
	assert_int_equal(mark_at(pgm, PAGE(1)), HANDLER_NONE);
	assert_int_equal(mark_at(pgm, PAGE(2)), HANDLER_NONE);
	assert_int_equal(pgm_handler_deregister(pgm, gpa(PAGE(0) + 32)), OK);
	assert_int_equal(mark_at(pgm, PAGE(0)), HANDLER_NONE);
	touch(pgm, PAGE(0), ACCESS_WRITE);
	end_machine(pgm);
}

static void test_page_off(void **state)
{
	struct pgm *pgm = machine_of(true, 32);
	handler_type write = type_of(pgm, HANDLER_KIND_WRITE, 0), mmio = type_of(pgm, HANDLER_KIND_MMIO, 0);
	struct note a = { 0 }, b = { 0 };
	struct pgm_handler_info info;

	put(pgm, write, PAGE(0), PAGE(3) + 99, &a);
	put(pgm, write, PAGE(3) + 200, PAGE(3) + 299, &b);
	put(pgm, mmio, MMIO_BASE, MMIO_BASE + PAGE_SIZE - 1, &a);
	assert_int_equal(pgm_handler_page_off(pgm, gpa(MMIO_BASE), gpa(MMIO_BASE)), NOT_SUPPORTED);
	assert_int_equal(pgm_handler_page_off(pgm, gpa(PAGE(0)), gpa(PAGE(4))), BAD_VALUE);
	assert_int_equal(pgm_handler_page_off(pgm, gpa(PAGE(0)), gpa(PAGE(1) + 1)), BAD_VALUE);
	assert_int_equal(pgm_handler_page_off(pgm, gpa(PAGE(0)), gpa(PAGE(1))), OK);
	assert_int_equal(pgm_handler_page_off(pgm, gpa(PAGE(0)), gpa(PAGE(1))), OK); /* off is off */
	assert_int_equal(mark_at(pgm, PAGE(1)), HANDLER_DISABLED);
	touch(pgm, PAGE(1), ACCESS_WRITE);
	store(pgm, PAGE(1), 1, 8);
	assert_int_equal(a.calls, 0);
	/* On the shared page it is off for the one, and the other keeps its trap. */
	assert_int_equal(pgm_handler_page_off(pgm, gpa(PAGE(0)), gpa(PAGE(3))), OK);
	assert_int_equal(mark_at(pgm, PAGE(3)), HANDLER_WRITE);
	store(pgm, PAGE(3), 0x1234, 8);
	store(pgm, PAGE(3) + 200, 1, 8);
	assert_int_equal(a.calls, 0);
	assert_int_equal(b.calls, 1);
	assert_int_equal(load(pgm, PAGE(3), 8), 0x1234);
	assert_int_equal(pgm_handler_page_off(pgm, gpa(PAGE(3) + 200), gpa(PAGE(3))), OK);
	assert_int_equal(mark_at(pgm, PAGE(3)), HANDLER_DISABLED);
	touch(pgm, PAGE(3), ACCESS_WRITE);
	assert_true(pgm_handler_find(pgm, gpa(PAGE(0)), &info));
	assert_true(info.excepted);
	assert_int_equal(pgm_check(pgm, print_finding, NULL), 0);
	flushes = 0;
	assert_int_equal(pgm_handler_reset(pgm, gpa(PAGE(0))), OK);
	assert_true(flushes > 0);
	assert_int_equal(granted(pgm, PAGE(1), NULL) & ACCESS_WRITE, 0);
	assert_int_equal(granted(pgm, PAGE(3), NULL) & ACCESS_WRITE, 0);
	store(pgm, PAGE(1), 1, 8);
	store(pgm, PAGE(3), 1, 8);
	assert_int_equal(a.calls, 2);
	store(pgm, PAGE(3) + 200, 1, 8); /* the neighbour is off still */
	assert_int_equal(b.calls, 1);
	assert_int_equal(pgm->common.counters.handler_resets, 1);
	end_machine(pgm);
}

static void test_alias(void **state)
{
	struct pgm *pgm = machine_of(true, 32);
	handler_type mmio = type_of(pgm, HANDLER_KIND_MMIO, 0), write = type_of(pgm, HANDLER_KIND_WRITE, 0);
	hpa_t host = pgm_zero_block, frame, vram;
	struct note note = { .give = 0xee };
	struct pgm_usage before, after;

	host.v += PAGE_SIZE; /* any frame will do; nothing is written there */
	put(pgm, mmio, MMIO_BASE, MMIO_BASE + 4 * PAGE_SIZE - 1, &note);
	put(pgm, write, PAGE(0), PAGE(1) - 1, &note);
	assert_int_equal(pgm_handler_alias_mmio2(pgm, gpa(MMIO_BASE), gpa(MMIO_BASE), gpa(MMIO2_BASE)), BAD_ADDRESS);
	store(pgm, MMIO2_BASE, 0x5ca1ab1e, 8);
	vram = page_frame(record_at(pgm, MMIO2_BASE));
	assert_int_equal(pgm_handler_alias_mmio2(pgm, gpa(MMIO_BASE), gpa(MMIO_BASE), gpa(PAGE(9))), BAD_VALUE);
	assert_int_equal(pgm_handler_alias_mmio2(pgm, gpa(MMIO_BASE), gpa(MMIO_BASE + 1), gpa(MMIO2_BASE)), BAD_VALUE);
	assert_int_equal(pgm_handler_alias_mmio2(pgm, gpa(PAGE(0)), gpa(PAGE(0)), gpa(MMIO2_BASE)), NOT_SUPPORTED);
	assert_int_equal(pgm_handler_alias_frame(pgm, gpa(MMIO_BASE), gpa(MMIO_BASE), hpa(123)), BAD_VALUE);
	pgm_usage(pgm, &before);
	assert_int_equal(pgm_handler_alias_mmio2(pgm, gpa(MMIO_BASE), gpa(MMIO_BASE + PAGE_SIZE), gpa(MMIO2_BASE)), OK);
	assert_int_equal(pgm_handler_alias_mmio2(pgm, gpa(MMIO_BASE), gpa(MMIO_BASE + PAGE_SIZE), gpa(MMIO2_BASE)), OK);
	assert_int_equal(pgm_handler_alias_frame(pgm, gpa(MMIO_BASE), gpa(MMIO_BASE + PAGE_SIZE), host), CONFLICT);
	assert_int_equal(pgm_handler_alias_frame(pgm, gpa(MMIO_BASE), gpa(MMIO_BASE + 2 * PAGE_SIZE), host), OK);
	pgm_usage(pgm, &after);
	assert_int_equal(before.private_pages, after.private_pages);
	assert_int_equal(page_get_type(record_at(pgm, MMIO_BASE + PAGE_SIZE)), PAGE_MMIO2_ALIAS_MMIO);
	assert_int_equal(page_get_type(record_at(pgm, MMIO_BASE + 2 * PAGE_SIZE)), PAGE_SPECIAL_ALIAS_MMIO);
	/* Straight to the frames in the tables; our own accesses follow to MMIO2, and to the handler from the host's page. */
	touch(pgm, MMIO_BASE + PAGE_SIZE, ACCESS_WRITE);
	granted(pgm, MMIO_BASE + PAGE_SIZE, &frame);
	assert_int_equal(frame.v, vram.v);
	assert_int_equal(load(pgm, MMIO_BASE + PAGE_SIZE, 8), 0x5ca1ab1e);
	store(pgm, MMIO_BASE + PAGE_SIZE, 0xfade, 8);
	assert_int_equal(load(pgm, MMIO2_BASE, 8), 0xfade);
	assert_int_equal(note.calls, 0);
	touch(pgm, MMIO_BASE + 2 * PAGE_SIZE, ACCESS_WRITE);
	granted(pgm, MMIO_BASE + 2 * PAGE_SIZE, &frame);
	assert_int_equal(frame.v, host.v);
	assert_int_equal(load(pgm, MMIO_BASE + 2 * PAGE_SIZE, 1), 0xee);
	assert_int_equal(pgm_fault(pgm, gpa(MMIO_BASE), ACCESS_READ), PGM_EMULATE);
	assert_int_equal(pgm_check(pgm, print_finding, NULL), 0);
	flushes = 0;
	assert_int_equal(pgm_handler_reset(pgm, gpa(MMIO_BASE)), OK);
	assert_true(flushes > 0);
	assert_int_equal(granted(pgm, MMIO_BASE + PAGE_SIZE, NULL), 0);
	assert_int_equal(granted(pgm, MMIO_BASE + 2 * PAGE_SIZE, NULL), 0);
	assert_int_equal(page_get_type(record_at(pgm, MMIO_BASE + PAGE_SIZE)), PAGE_INVALID);
	assert_int_equal(pgm_fault(pgm, gpa(MMIO_BASE + PAGE_SIZE), ACCESS_READ), PGM_EMULATE);
	assert_int_equal(pgm_handler_alias_frame(pgm, gpa(MMIO_BASE), gpa(MMIO_BASE + 3 * PAGE_SIZE), host), OK);
	touch(pgm, MMIO_BASE + 3 * PAGE_SIZE, ACCESS_WRITE);
	assert_int_equal(pgm_handler_deregister(pgm, gpa(MMIO_BASE)), OK);
	assert_int_equal(granted(pgm, MMIO_BASE + 3 * PAGE_SIZE, NULL), 0);
	assert_int_equal(load(pgm, MMIO_BASE + 3 * PAGE_SIZE, 1), 0xff);
	put(pgm, mmio, MMIO_BASE, MMIO_BASE + 4 * PAGE_SIZE - 1, &note); /* the end with an alias standing */
	assert_int_equal(pgm_handler_alias_frame(pgm, gpa(MMIO_BASE), gpa(MMIO_BASE + 3 * PAGE_SIZE), host), OK);
	end_machine(pgm);
}

static void test_split_and_join(void **state)
{
	struct pgm *pgm = machine_of(true, 32);
	handler_type write = type_of(pgm, HANDLER_KIND_WRITE, 0), all = type_of(pgm, HANDLER_KIND_ALL, 0);
	struct note a = { 0 }, b = { 0 };
	struct pgm_handler_info info;

	put(pgm, write, PAGE(0) + 100, PAGE(4) - 1, &a);
	put(pgm, all, PAGE(8), PAGE(12) - 1, &a);
	assert_int_equal(pgm_handler_split(pgm, gpa(PAGE(0) + 100), gpa(PAGE(0) + 100)), BAD_VALUE);
	assert_int_equal(pgm_handler_split(pgm, gpa(PAGE(0) + 100), gpa(PAGE(4))), BAD_VALUE);
	assert_int_equal(pgm_handler_split(pgm, gpa(PAGE(8)), gpa(PAGE(9) + 1)), BAD_VALUE);
	assert_int_equal(pgm_handler_split(pgm, gpa(PAGE(8)), gpa(PAGE(9))), OK);
	assert_int_equal(pgm_handler_page_off(pgm, gpa(PAGE(0) + 100), gpa(PAGE(0))), OK);
	assert_int_equal(pgm_handler_page_off(pgm, gpa(PAGE(0) + 100), gpa(PAGE(1))), OK);
	assert_int_equal(pgm_handler_page_off(pgm, gpa(PAGE(0) + 100), gpa(PAGE(2))), OK);
	/* Cut through page 1: that one is armed, 0 stays off on the left, 2 on the right. */
	assert_int_equal(pgm_handler_split(pgm, gpa(PAGE(0) + 100), gpa(PAGE(1) + 50)), OK);
	assert_int_equal(pgm_check(pgm, print_finding, NULL), 0);
	assert_int_equal(mark_at(pgm, PAGE(0)), HANDLER_DISABLED);
	assert_int_equal(mark_at(pgm, PAGE(1)), HANDLER_WRITE);
	assert_int_equal(mark_at(pgm, PAGE(2)), HANDLER_DISABLED);
	assert_true(pgm_handler_find(pgm, gpa(PAGE(1) + 49), &info));
	assert_int_equal(info.first, PAGE(0) + 100);
	assert_true(info.excepted);
	assert_true(pgm_handler_find(pgm, gpa(PAGE(1) + 50), &info));
	assert_int_equal(info.last, PAGE(4) - 1);
	assert_true(info.excepted);
	/* Each half has its own user now. */
	assert_int_equal(pgm_handler_change_user(pgm, gpa(PAGE(1) + 50), &b), OK);
	store(pgm, PAGE(1) + 46, 1, 8);
	assert_int_equal(a.bytes, 4);
	assert_int_equal(b.bytes, 4);
	assert_int_equal(pgm_handler_join(pgm, gpa(PAGE(0) + 100), gpa(PAGE(1) + 50)), CONFLICT);
	assert_int_equal(pgm_handler_change_user(pgm, gpa(PAGE(1) + 50), &a), OK);
	assert_int_equal(pgm_handler_join(pgm, gpa(PAGE(0) + 100), gpa(PAGE(1) + 51)), NOT_FOUND);
	assert_int_equal(pgm_handler_join(pgm, gpa(PAGE(0) + 100), gpa(PAGE(8))), BAD_VALUE);
	assert_int_equal(pgm_handler_page_off(pgm, gpa(PAGE(1) + 50), gpa(PAGE(1))), OK);
	assert_int_equal(pgm_handler_join(pgm, gpa(PAGE(0) + 100), gpa(PAGE(1) + 50)), OK);
	assert_true(pgm_handler_find(pgm, gpa(PAGE(3)), &info));
	assert_int_equal(info.first, PAGE(0) + 100);
	/* Off for one of them alone: armed. 0 and 2 stay off. */
	assert_int_equal(mark_at(pgm, PAGE(0)), HANDLER_DISABLED);
	assert_int_equal(mark_at(pgm, PAGE(1)), HANDLER_WRITE);
	assert_int_equal(mark_at(pgm, PAGE(2)), HANDLER_DISABLED);
	assert_int_equal(pgm_check(pgm, print_finding, NULL), 0);
	assert_int_equal(pgm_handler_join(pgm, gpa(PAGE(8)), gpa(PAGE(9))), OK);
	assert_int_equal(pgm_handler_deregister(pgm, gpa(PAGE(0) + 100)), OK);
	assert_int_equal(pgm_handler_deregister(pgm, gpa(PAGE(8))), OK);
	assert_false(pgm_handler_next(pgm, gpa(0), &info));
	for (unsigned i = 0; i < 12; i++)
		assert_int_equal(mark_at(pgm, PAGE(i)), HANDLER_NONE);
	end_machine(pgm);
}

static void test_modify(void **state)
{
	struct pgm *pgm = machine_of(true, 32);
	handler_type write = type_of(pgm, HANDLER_KIND_WRITE, 0), mmio = type_of(pgm, HANDLER_KIND_MMIO, 0);
	struct note a = { 0 }, b = { 0 }, m = { .give = 0x31 };

	put(pgm, write, PAGE(0) + 8, PAGE(3) - 1, &a);
	put(pgm, write, PAGE(6), PAGE(6) + 7, &b);
	put(pgm, mmio, MMIO_BASE, MMIO_BASE + 2 * PAGE_SIZE - 1, &m);
	assert_int_equal(pgm_handler_page_off(pgm, gpa(PAGE(0) + 8), gpa(PAGE(1))), OK);
	assert_int_equal(pgm_handler_modify(pgm, gpa(PAGE(0) + 8), gpa(PAGE(4)), gpa(PAGE(6))), CONFLICT);
	assert_int_equal(pgm_handler_modify(pgm, gpa(PAGE(0) + 8), gpa(MMIO_BASE), gpa(MMIO_BASE + 1)), BAD_ADDRESS);
	assert_int_equal(pgm_handler_modify(pgm, gpa(PAGE(0) + 8), gpa(PAGE(4)), gpa(PAGE(3))), BAD_VALUE);
	assert_int_equal(mark_at(pgm, PAGE(1)), HANDLER_DISABLED); /* all as it was */
	assert_int_equal(pgm_check(pgm, print_finding, NULL), 0);
	/* It may overlap itself, and pass its neighbour. */
	assert_int_equal(pgm_handler_modify(pgm, gpa(PAGE(0) + 8), gpa(PAGE(1)), gpa(PAGE(4) + 1)), OK);
	assert_int_equal(mark_at(pgm, PAGE(0)), HANDLER_NONE);
	for (unsigned i = 1; i <= 4; i++)
		assert_int_equal(mark_at(pgm, PAGE(i)), HANDLER_WRITE);
	store(pgm, PAGE(0) + 8, 1, 8);
	assert_int_equal(a.calls, 0);
	store(pgm, PAGE(4), 1, 8);
	assert_int_equal(a.bytes, 2);
	assert_int_equal(pgm_handler_modify(pgm, gpa(PAGE(1)), gpa(PAGE(600)), gpa(PAGE(600) + 7)), OK);
	assert_int_equal(mark_at(pgm, PAGE(600)), HANDLER_WRITE);
	assert_int_equal(mark_at(pgm, PAGE(4)), HANDLER_NONE);
	assert_int_equal(pgm_handler_alias_frame(pgm, gpa(MMIO_BASE), gpa(MMIO_BASE), pgm_zero_block), OK);
	assert_int_equal(
		pgm_handler_modify(pgm, gpa(MMIO_BASE), gpa(MMIO_BASE + PAGE_SIZE), gpa(MMIO_BASE + 3 * PAGE_SIZE - 1)),
		OK);
	assert_int_equal(load(pgm, MMIO_BASE, 1), 0xff);
	assert_int_equal(load(pgm, MMIO_BASE + 2 * PAGE_SIZE, 1), 0x31);
	end_machine(pgm);
}

static void test_not_in_hardware(void **state)
{
	struct pgm *pgm = machine_of(true, 32);
	handler_type all = type_of(pgm, HANDLER_KIND_ALL, HANDLER_NOT_IN_HARDWARE);
	struct note note = { .give = 0x99 };

	put(pgm, all, PAGE(1), PAGE(2) - 1, &note);
	touch(pgm, PAGE(1), ACCESS_WRITE);
	assert_int_equal(granted(pgm, PAGE(1), NULL), 7);
	assert_int_equal(load(pgm, PAGE(1), 1), 0x99);
	store(pgm, PAGE(1), 1, 1);
	assert_int_equal(note.calls, 2);
	assert_int_equal(pgm_check(pgm, print_finding, NULL), 0);
	assert_int_equal(pgm_handler_deregister(pgm, gpa(PAGE(1))), OK);
	assert_int_equal(load(pgm, PAGE(1), 1), 0);
	end_machine(pgm);
}

static struct pgm *inner_pgm;
static enum status inner_status[8];

/* Does all that a callback may and may not do. */
static enum status meddle(void *user, struct pgm_access *access)
{
	uint64_t value = 0;

	inner_status[0] = pgm_handler_deregister(inner_pgm, gpa(PAGE(0)));
	inner_status[1] = pgm_handler_change_user(inner_pgm, gpa(PAGE(0)), NULL);
	inner_status[2] = pgm_handler_modify(inner_pgm, gpa(PAGE(0)), gpa(PAGE(1)), gpa(PAGE(1)));
	inner_status[3] = pgm_handler_type_deregister(inner_pgm, 0);
	inner_status[4] = pgm_read(inner_pgm, gpa(PAGE(5)), &value, 8, ORIGIN_DEVICE, NULL);
	inner_status[5] = pgm_handler_page_off(inner_pgm, gpa(PAGE(0)), gpa(PAGE(0)));
	inner_status[6] = pgm_handler_reset(inner_pgm, gpa(PAGE(0)));
	access->value = value;
	(void)user;
	return OK;
}

static void test_inside_a_handler(void **state)
{
	struct pgm *pgm = inner_pgm = machine_of(true, 32);
	handler_type free_type, keep_type, inner = type_of(pgm, HANDLER_KIND_ALL, HANDLER_KEEP_LOCK);
	struct note note = { .give = 0x1234 };

	assert_int_equal(pgm_handler_type_register(pgm, HANDLER_KIND_ALL, 0, meddle, "meddle", &free_type), OK);
	assert_int_equal(
		pgm_handler_type_register(pgm, HANDLER_KIND_ALL, HANDLER_KEEP_LOCK, meddle, "keep", &keep_type), OK);
	put(pgm, inner, PAGE(5), PAGE(6) - 1, &note);
	put(pgm, keep_type, PAGE(0), PAGE(1) - 1, NULL);
	assert_int_equal(load(pgm, PAGE(0), 8), 0x1234); /* a handler that keeps the lock within another one */
	for (unsigned i = 0; i < 7; i++)
		assert_int_equal(inner_status[i], i == 4 ? OK : BAD_STATE);
	assert_int_equal(pgm_handler_deregister(pgm, gpa(PAGE(0))), OK);
	put(pgm, free_type, PAGE(0), PAGE(1) - 1, NULL);
	assert_int_equal(load(pgm, PAGE(0), 8), 0x1234);
	for (unsigned i = 0; i < 7; i++)
		assert_int_equal(inner_status[i], i >= 4 ? OK : BAD_STATE);
	assert_int_equal(pgm_handler_deregister(pgm, gpa(PAGE(0))), OK);
	assert_int_equal(pgm_handler_type_deregister(pgm, free_type), OK);
	end_machine(pgm);
}

static enum status settled(struct pgm *pgm, enum status status)
{
	while (status == BUSY)
		status = pgm_handlers_step(pgm);
	return status;
}

/* Every allocation that an operation makes fails in turn: all stays as it was. */
static void test_no_memory(void **state)
{
	for (uint64_t after = 0, failed = 1; failed; after++) {
		struct pgm *pgm = machine_of(true, 32);
		handler_type write = type_of(pgm, HANDLER_KIND_WRITE, 0);
		handler_type mmio = type_of(pgm, HANDLER_KIND_MMIO, 0);
		struct note note = { 0 };
		enum status status[3];

		touch(pgm, PAGE(512), ACCESS_WRITE); /* one of the blocks is large */
		put(pgm, write, PAGE(1), PAGE(2) - 1, &note);
		put(pgm, mmio, MMIO_BASE, MMIO_BASE + PAGE_SIZE - 1, &note);
		inject_arm(MM_SITE_TABLE, after, 1, 0);
		status[0] = settled(pgm, pgm_handler_register(pgm, write, gpa(PAGE(2)), gpa(PAGE(1600)), &note, "x"));
		status[1] = settled(pgm, pgm_handler_modify(pgm, gpa(PAGE(1)), gpa(PAGE(1700)), gpa(PAGE(2100))));
		status[2] = pgm_handler_alias_frame(pgm, gpa(MMIO_BASE), gpa(MMIO_BASE), pgm_zero_block);
		failed = inject_count(MM_SITE_TABLE);
		inject_disarm(MM_SITE_TABLE);
		for (unsigned i = 0; i < 3; i++)
			assert_true(status[i] == OK || status[i] == NO_MEMORY);
		assert_int_equal(is_registered(pgm, PAGE(2)), status[0] == OK);
		assert_int_equal(is_registered(pgm, PAGE(1)), status[1] != OK);
		assert_int_equal(mark_at(pgm, PAGE(1)), status[1] == OK ? HANDLER_NONE : HANDLER_WRITE);
		assert_int_equal(mark_at(pgm, PAGE(3)), status[0] == OK ? HANDLER_WRITE : HANDLER_NONE);
		assert_true(failed || (status[0] == OK && status[1] == OK && status[2] == OK));
		end_machine(pgm);
	}
}

/* Marks over much memory come in steps; each is bounded, what can't wait is refused, and the end is as if in one. */
static void test_steps(void **state)
{
	struct pgm *pgm = machine_of(true, 32);
	handler_type write = type_of(pgm, HANDLER_KIND_WRITE, 0), mmio = type_of(pgm, HANDLER_KIND_MMIO, 0);
	const uint64_t first = 2 * MIB, last = 14 * MIB - 1; /* six blocks */
	struct note note = { 0 };
	unsigned before = 0, marked = 0;

	for (uint64_t a = first; a < last; a += BLOCK_SIZE)
		touch(pgm, a, ACCESS_WRITE);
	put(pgm, mmio, MMIO_BASE, MMIO_BASE + PAGE_SIZE - 1, &note);
	put(pgm, write, 15 * MIB, 15 * MIB, &note);
	assert_int_equal(try(pgm, mmio, MMIO_BASE + 4 * MIB, MMIO_BASE + 15 * MIB - 1), OK);
	assert_int_equal(pgm_handlers_step(pgm), OK); /* nothing to do */
	assert_int_equal(try(pgm, write, first, last), BUSY);
	for (uint64_t a = first; a < last; a += BLOCK_SIZE)
		before += !(granted(pgm, a, NULL) & ACCESS_WRITE);
	assert_in_range(before, 1, 5);
	store(pgm, first, 1, 1); /* our own accesses have it from the store, where marks are there */
	assert_int_equal(pgm_check(pgm, print_finding, NULL), 0);
	assert_int_equal(pgm_handler_deregister(pgm, gpa(first)), BAD_STATE);
	assert_int_equal(pgm_handler_page_off(pgm, gpa(first), gpa(first)), BAD_STATE);
	assert_int_equal(try(pgm, write, 14 * MIB, 14 * MIB), BAD_STATE);
	assert_int_equal(pgm_handler_reset(pgm, gpa(15 * MIB)), BAD_STATE);
	assert_int_equal(
		pgm_handler_modify(pgm, gpa(MMIO_BASE), gpa(MMIO_BASE + PAGE_SIZE), gpa(MMIO_BASE + 2 * PAGE_SIZE - 1)),
		OK);
	assert_int_equal(try(pgm, mmio, MMIO_BASE + 32 * MIB, MMIO_BASE + 43 * MIB - 1), BAD_STATE);
	assert_int_equal(pgm_handler_deregister(pgm, gpa(MMIO_BASE + 4 * MIB)), BAD_STATE);
	assert_int_equal(settled(pgm, BUSY), OK);
	for (uint64_t a = first; a < last; a += PAGE_SIZE) {
		assert_int_equal(mark_at(pgm, a), HANDLER_WRITE);
		marked += !(granted(pgm, a, NULL) & ACCESS_WRITE);
	}
	assert_int_equal(marked, (last + 1 - first) / PAGE_SIZE);
	assert_int_equal(pgm_check(pgm, print_finding, NULL), 0);
	assert_int_equal(pgm_handler_deregister(pgm, gpa(MMIO_BASE + 4 * MIB)), OK);
	assert_int_equal(pgm_handler_page_off(pgm, gpa(first), gpa(last + 1 - PAGE_SIZE)), OK);
	assert_int_equal(settled(pgm, pgm_handler_reset(pgm, gpa(first))), OK);
	assert_int_equal(mark_at(pgm, last + 1 - PAGE_SIZE), HANDLER_WRITE);
	/* It is gone at once, and its marks little by little. */
	assert_int_equal(pgm_handler_deregister(pgm, gpa(first)), BUSY);
	assert_false(is_registered(pgm, first));
	assert_int_equal(mark_at(pgm, last), HANDLER_WRITE);
	assert_int_equal(settled(pgm, BUSY), OK);
	assert_int_equal(mark_at(pgm, last), HANDLER_NONE);
	assert_int_equal(pgm_check(pgm, print_finding, NULL), 0);
	end_machine(pgm);
}

/* Attack 14. The work is counted in words moved and table sizes, not in time. */
static void test_attack14_65536_handlers(void **state)
{
	struct pgm *pgm = machine_of(false, 65536);
	handler_type write = type_of(pgm, HANDLER_KIND_WRITE, 0);
	struct note note = { 0 };
	const uint64_t base = MIB, step = 192; /* 12 MiB of RAM, many to a page */
	uint64_t seed = 7;

	for (uint64_t i = 0; i < 65536; i++) {
		uint64_t at = base + i * 40503 % 65536 * step; /* each once, in no order */

		put(pgm, write, at, at + 99, &note);
	}
	assert_int_equal(pgm_handler_register(pgm, write, gpa(15 * MIB), gpa(15 * MIB), &note, "one more"), LIMIT);
	assert_true(pgm->common.counters.handler_rebalances <
		    UINT64_C(65536) * 65536 / 4 / 3); /* a third of the words, on average */
	for (unsigned i = 0; i < 65536; i++) {
		uint64_t offset = random_of(&seed) % (65536 * step);
		struct pgm_handler_info info;

		assert_int_equal(pgm_handler_find(pgm, gpa(base + offset), &info), offset % step < 100);
	}
	for (unsigned i = 0; i < 1000; i++)
		store(pgm, base + random_of(&seed) % (65535 * step), 1, 1);
	assert_int_equal(pgm_check(pgm, print_finding, NULL), 0);
	for (uint64_t i = 0; i < 65536; i++)
		assert_int_equal(pgm_handler_deregister(pgm, gpa(base + i * 25165 % 65536 * step)), OK);
	assert_int_equal(pgm->handlers.used, 0);
	end_machine(pgm);
}

static void test_cache(void **state)
{
	struct pgm *pgm = machine_of(true, 32);
	handler_type mmio = type_of(pgm, HANDLER_KIND_MMIO, 0);
	struct note a = { 0 }, b = { 0 };

	put(pgm, mmio, MMIO_BASE, MMIO_BASE + PAGE_SIZE - 1, &a);
	put(pgm, mmio, MMIO_BASE + PAGE_SIZE, MMIO_BASE + 2 * PAGE_SIZE - 1, &b);
	load(pgm, MMIO_BASE + PAGE_SIZE, 1);
	assert_int_equal(pgm->common.counters.handler_misses, 1);
	load(pgm, MMIO_BASE, 1);
	assert_int_equal(pgm->common.counters.handler_misses, 2);
	load(pgm, MMIO_BASE + PAGE_SIZE - 1, 1); /* the last byte of the range hits as well */
	assert_int_equal(pgm->common.counters.handler_hits, 1);
	load(pgm, MMIO_BASE + PAGE_SIZE, 1);
	assert_int_equal(pgm->common.counters.handler_misses, 3);
	assert_int_equal(b.calls, 2);
	assert_int_equal(pgm_handler_deregister(pgm, gpa(MMIO_BASE + PAGE_SIZE)), OK);
	assert_int_equal(load(pgm, MMIO_BASE + PAGE_SIZE, 1), 0xff); /* it was the recent one */
	assert_int_equal(b.calls, 2);
	end_machine(pgm);
}

static unsigned found;

static void expect_finding(void *context, const char *line)
{
	found++;
	(void)context;
	(void)line;
}

/* The check sees a mark without a handler, a handler without its mark, and counts that are wrong. */
static void test_check_sees(void **state)
{
	struct pgm *pgm = machine_of(true, 32);
	handler_type write = type_of(pgm, HANDLER_KIND_WRITE, 0);
	struct note note = { 0 };
	struct block *b;

	put(pgm, write, PAGE(0), PAGE(2) - 1, &note);
	b = block_find(pgm, gpa(PAGE(0)));
	page_set_handler(page_of(b, gpa(PAGE(5))), HANDLER_WRITE);
	assert_int_equal(pgm_check(pgm, expect_finding, NULL), 1);
	page_set_handler(page_of(b, gpa(PAGE(5))), HANDLER_NONE);
	page_set_handler(page_of(b, gpa(PAGE(1))), HANDLER_NONE);
	assert_int_equal(pgm_check(pgm, expect_finding, NULL), 1);
	page_set_handler(page_of(b, gpa(PAGE(1))), HANDLER_WRITE);
	pgm->handlers.type[write % HANDLER_TYPES].users++;
	assert_int_equal(pgm_check(pgm, expect_finding, NULL), 1);
	pgm->handlers.type[write % HANDLER_TYPES].users--;
	end_machine(pgm);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_types),
		cmocka_unit_test(test_register_errors),
		cmocka_unit_test(test_all_splits_large),
		cmocka_unit_test(test_write_on_zero),
		cmocka_unit_test(test_rom_and_mmio),
		cmocka_unit_test(test_below_a_page),
		cmocka_unit_test(test_page_off),
		cmocka_unit_test(test_alias),
		cmocka_unit_test(test_split_and_join),
		cmocka_unit_test(test_modify),
		cmocka_unit_test(test_not_in_hardware),
		cmocka_unit_test(test_inside_a_handler),
		cmocka_unit_test(test_no_memory),
		cmocka_unit_test(test_steps),
		cmocka_unit_test(test_attack14_65536_handlers),
		cmocka_unit_test(test_cache),
		cmocka_unit_test(test_check_sees),
	};

	world_start(64 * MIB);
	assert_int_equal(pgm_start(), OK);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
