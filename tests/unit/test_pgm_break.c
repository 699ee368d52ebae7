/* SPDX-License-Identifier: Apache-2.0 */
// sources: mm/*.c pgm/*.c pgm/*/*.c arch/x86_64/pt_format.c lib/format.c lib/hash.c lib/status.c
/*
 * Break before make: what a page shows changes its frame only once no processor can still use the old one. Each case is
 * looked at from inside the flush: the new frame must not be there yet. And where another CPU has taken the old translation away
 * without having flushed, the change must flush for it.
 */
#include "common/pgm_world.h"
#include "pgm/slat/tables.h"

#define RAM (32 * MIB)
#define AT UINT64_C(0x800000)
#define OTHER (AT + 9 * PAGE_SIZE)
#define ROM UINT64_C(0xe0000)
#define DEVICE UINT64_C(0xe0000000)

static struct pgm *pgm;
static struct mmio2 *region;
static handler_type mmio_type;

static enum status pass(void *user, struct pgm_access *access)
{
	return NOT_FOUND;
}

static void touch(uint64_t where, unsigned access)
{
	assert_int_equal(pgm_fault(pgm, gpa(where), access), PGM_RESUME);
}

/* The block's pages have records, and AT reads as zero. */
static void detailed(void)
{
	inject_arm(MM_SITE_LARGE, 0, 1, 0);
	touch(AT + PAGE_SIZE, ACCESS_WRITE);
	inject_disarm(MM_SITE_LARGE);
}

static uint8_t byte_of(hpa_t frame, int put)
{
	uint8_t *bytes = frame_map(frame), old = *bytes;

	if (put >= 0)
		*bytes = (uint8_t)put;
	frame_unmap(bytes);
	return old;
}

static page_record *record_at(uint64_t where)
{
	return page_of(block_find(pgm, gpa(where)), gpa(where));
}

/* AT and OTHER share a frame, as page fusion will make them; it holds 0x55. */
static hpa_t share(void)
{
	frame_record *slot;
	hpa_t frame;

	touch(AT, ACCESS_WRITE);
	frame = page_frame(*record_at(AT));
	(void)byte_of(frame, 0x55);
	assert_int_equal(account_charge_locked(&pgm->account, ACCOUNT_BASE, 1), OK); /* OTHER's reference */
	slot = frame_slot(frame);
	record_store(slot, record_shared(2));
	chunks.shared_frames++;
	pgm->account.shared_pages += 2;
	page_set(record_at(AT), PAGE_SHARED, frame);
	page_set(record_at(OTHER), PAGE_SHARED, frame);
	block_find(pgm, gpa(AT))->held++;
	pgm_tables_drop(pgm);
	return frame;
}

static void shared(void)
{
	detailed();
	(void)share();
}

static void rom_of_two(void)
{
	uint8_t byte = 1;

	assert_int_equal(pgm_add_shadowed_rom(pgm, gpa(ROM), PAGE_SIZE, "rom"), OK);
	assert_int_equal(pgm_rom_load(pgm, gpa(ROM), &byte, 1), OK);
}

static void region_here(void)
{
	assert_int_equal(pgm_mmio2_register(pgm, 8 * PAGE_SIZE, "vram", &region), OK);
	assert_int_equal(pgm_mmio2_map(pgm, region, gpa(DEVICE)), OK);
}

static void guest_writes(void)
{
	touch(AT, ACCESS_WRITE);
}

static void device_writes(void)
{
	uint8_t byte = 1;

	assert_int_equal(pgm_write(pgm, gpa(AT), &byte, 1, ORIGIN_DEVICE, NULL), OK);
}

static void device_exchanges(void)
{
	uint64_t seen;

	assert_int_equal(pgm_compare_exchange(pgm, gpa(AT), 0, 1, 8, &seen), OK);
}

static void device_pins(void)
{
	hpa_t frame;

	assert_int_equal(pgm_pin(pgm, gpa(AT), true, "dma", &frame), OK);
	assert_int_equal(pgm_unpin(pgm, gpa(AT), true, "dma"), OK);
}

static void rom_switches(void)
{
	assert_int_equal(pgm_rom_protect(pgm, gpa(ROM), PAGE_SIZE, ROM_READ_RAM_WRITE_RAM), OK);
}

static const struct {
	const char *name;
	void (*before)(void);
	void (*what)(void);
	uint64_t where;
} changes[] = {
	{ "zeros, 4 KiB, guest", detailed, guest_writes, AT },
	{ "zeros, 4 KiB, device", detailed, device_writes, AT },
	{ "zeros, 4 KiB, exchange", detailed, device_exchanges, AT },
	{ "zeros, 4 KiB, pin", detailed, device_pins, AT },
	{ "zeros, 2 MiB, guest", NULL, guest_writes, AT },
	{ "zeros, 2 MiB, device", NULL, device_writes, AT },
	{ "shared, guest", shared, guest_writes, AT },
	{ "shared, device", shared, device_writes, AT },
	{ "shared, pin", shared, device_pins, AT },
	{ "ROM's copies", rom_of_two, rom_switches, ROM },
};

static unsigned current, live, seen;
static hpa_t old_frame;

static void start(unsigned i)
{
	current = i;
	pgm = make_pgm(RAM);
	if (changes[i].before)
		changes[i].before();
	touch(changes[i].where, ACCESS_READ);
	(void)granted(pgm, changes[i].where, &old_frame);
	flushes = live = 0;
	seen = 99;
}

/* In the flush, before any processor has lost the old frame: is another one there? */
static void look(void)
{
	const struct block *b = block_find(pgm, gpa(changes[current].where));
	hpa_t frame = old_frame;

	/* Where another CPU can fault now, it does. */
	if (!(b->word & BLOCK_LOCKED))
		touch(changes[current].where, ACCESS_READ);
	(void)granted(pgm, changes[current].where, &frame);
	live += frame.v != old_frame.v;
}

static void test_old_goes_first(void **state)
{
	for (unsigned i = 0; i < ARRAY_SIZE(changes); i++) {
		hpa_t now = HPA_NONE;

		start(i);
		at_flush = look;
		changes[i].what();
		at_flush = NULL;
		touch(changes[i].where, ACCESS_READ);
		(void)granted(pgm, changes[i].where, &now);
		if (!flushes || live || now.v == old_frame.v)
			fail_msg("%s: %u flushes, in %u of them the new frame was there", changes[i].name, flushes,
				 live);
		end_pgm(pgm);
	}
}

static void meanwhile(void)
{
	at_flush = NULL;
	flushes = 0;
	changes[current].what();
	seen = flushes;
}

/* Another CPU drops all tables; before its flush comes, the page changes. */
static void test_owed_flush(void **state)
{
	for (unsigned i = 0; i < ARRAY_SIZE(changes); i++) {
		start(i);
		at_flush = meanwhile;
		pgm_tables_drop(pgm);
		at_flush = NULL;
		if (seen != 1)
			fail_msg("%s: %u flushes", changes[i].name, seen);
		assert_int_equal(pgm->flush.pending, 0);
		end_pgm(pgm);
	}
}

/* Nothing was mapped and nobody owes a flush: none is made. */
static void test_none_owed(void **state)
{
	pgm = make_pgm(RAM);
	detailed();
	flushes = 0;
	touch(AT, ACCESS_WRITE);
	touch(AT + 2 * MIB, ACCESS_WRITE);
	assert_int_equal(flushes, 0);
	end_pgm(pgm);
}

/* One alias goes with its handler, whose flush is still owed when another comes in its place. */
static void show_another(void)
{
	at_flush = NULL;
	flushes = 0;
	assert_int_equal(pgm_handler_register(pgm, mmio_type, gpa(DEVICE + MIB), gpa(DEVICE + MIB + PAGE_SIZE - 1),
					      NULL, "again"),
			 OK);
	assert_int_equal(pgm_handler_alias_mmio2(pgm, gpa(DEVICE + MIB), gpa(DEVICE + MIB), gpa(DEVICE + PAGE_SIZE)),
			 OK);
	seen = flushes;
}

static void test_aliases(void **state)
{
	pgm = make_pgm(RAM);
	region_here();
	assert_int_equal(pgm_handler_type_register(pgm, HANDLER_KIND_MMIO, 0, pass, "", &mmio_type), OK);
	assert_int_equal(pgm_handler_register(pgm, mmio_type, gpa(DEVICE + MIB), gpa(DEVICE + MIB + PAGE_SIZE - 1),
					      NULL, "first"),
			 OK);
	assert_int_equal(pgm_handler_alias_mmio2(pgm, gpa(DEVICE + MIB), gpa(DEVICE + MIB), gpa(DEVICE)), OK);
	touch(DEVICE + MIB, ACCESS_WRITE);
	seen = 0;
	at_flush = show_another;
	assert_int_equal(pgm_handler_deregister(pgm, gpa(DEVICE + MIB)), OK);
	assert_int_equal(seen, 1);
	assert_int_equal(pgm_handler_deregister(pgm, gpa(DEVICE + MIB)), OK);
	end_pgm(pgm);
}

/* A region is shown where another's pages were, whose flush is still owed. */
static void show_region(void)
{
	at_flush = NULL;
	flushes = 0;
	assert_int_equal(pgm_mmio2_map(pgm, region, gpa(DEVICE)), OK);
	seen = flushes;
}

static void test_regions(void **state)
{
	struct mmio2 *first;

	pgm = make_pgm(RAM);
	region_here();
	first = region;
	touch(DEVICE, ACCESS_READ);
	assert_int_equal(pgm_mmio2_register(pgm, PAGE_SIZE, "second", &region), OK);
	seen = 0;
	at_flush = show_region;
	pgm_mmio2_unmap(pgm, first);
	assert_int_equal(seen, 1);
	end_pgm(pgm);
}

/* A write to a shared page copies it, once; the other page keeps what it had, and the last reference is the frame's end. */
static void test_shared(void **state)
{
	uint8_t byte = 0x77, read = 0;
	hpa_t frame;

	pgm = make_pgm(RAM);
	detailed();
	frame = share();
	touch(AT, ACCESS_READ);
	assert_int_equal(granted(pgm, AT, &old_frame), RX);
	assert_int_equal(old_frame.v, frame.v);
	touch(AT, ACCESS_WRITE);
	assert_int_equal(granted(pgm, AT, &old_frame), RWX);
	assert_int_not_equal(old_frame.v, frame.v);
	assert_int_equal(byte_of(old_frame, -1), 0x55);
	assert_int_equal(pgm_write(pgm, gpa(OTHER), &byte, 1, ORIGIN_GUEST, NULL), OK);
	assert_int_equal(pgm_read(pgm, gpa(AT), &read, 1, ORIGIN_GUEST, NULL), OK);
	assert_int_equal(read, 0x55);
	assert_int_equal(pgm_read(pgm, gpa(OTHER), &read, 1, ORIGIN_GUEST, NULL), OK);
	assert_int_equal(read, 0x77);
	assert_int_equal(chunks.shared_frames, 0);
	end_pgm(pgm);
}

/* No memory for the copy: the page is as it was. */
static void test_shared_no_memory(void **state)
{
	hpa_t frame;

	pgm = make_pgm(RAM);
	detailed();
	frame = share();
	inject_arm(MM_SITE_HANDY, 0, 1, 0);
	for (unsigned i = 0; pgm->common.handy.count; i++) /* what is left in the reserve goes first */
		touch(AT + (64 + i) * PAGE_SIZE, ACCESS_WRITE);
	assert_int_equal(pgm_fault(pgm, gpa(AT), ACCESS_WRITE), PGM_NO_MEMORY);
	inject_disarm(MM_SITE_HANDY);
	assert_int_equal(page_get_state(*record_at(AT)), PAGE_SHARED);
	assert_int_equal(page_frame(*record_at(AT)).v, frame.v);
	end_pgm(pgm);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_old_goes_first),   cmocka_unit_test(test_owed_flush),
		cmocka_unit_test(test_none_owed),        cmocka_unit_test(test_aliases),
		cmocka_unit_test(test_regions),          cmocka_unit_test(test_shared),
		cmocka_unit_test(test_shared_no_memory),
	};

	pgm_world_start(64 * MIB);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
