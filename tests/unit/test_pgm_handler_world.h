/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A machine of 16 MiB for the tests of access handlers: RAM from 1 MiB to 16 MiB, a ROM, a piece of MMIO2, and room
 * for MMIO; and a handler that notes what it is asked.
 */
#pragma once

#include "test_mm_world.h"

#include "pgm/internal.h"
#include "common/whole.h"

#define USED __attribute__((unused)) static

#define RAM_BASE (4 * MIB)
#define ROM_BASE UINT64_C(0xfff00000)
#define MMIO2_BASE UINT64_C(0xf1000000)
#define MMIO_BASE UINT64_C(0xf0000000)
#define PAGE(n) (RAM_BASE + (uint64_t)(n)*PAGE_SIZE)

static unsigned flushes;

USED void count_flush(struct flush_domain *domain, uint64_t generation)
{
	__atomic_fetch_add(&flushes, 1, __ATOMIC_RELAXED);
	(void)domain;
	(void)generation;
}

USED struct pgm *machine_of(bool large_pages, uint32_t max_handlers)
{
	struct pgm_config config = { .ram = 16 * MIB,
				     .large_pages = large_pages,
				     .slat = &pt_ept4,
				     .slat_2m = true,
				     .physical_bits = 40,
				     .max_access_handlers = max_handlers };
	struct pgm *pgm = NULL;
	char why[256] = "";
	enum status status = pgm_create(&pgm, &config, count_flush, NULL, why, sizeof(why));

	if (status != OK)
		fprintf(stderr, "pgm_create: %s\n", why);
	assert_int_equal(status, OK);
	assert_int_equal(pgm_add_rom(pgm, gpa(ROM_BASE), 4 * PAGE_SIZE, "rom"), OK);
	assert_int_equal(range_add(pgm, gpa(MMIO2_BASE), 16 * PAGE_SIZE, PAGE_MMIO2, "vram"), OK);
	return pgm;
}

USED void end_machine(struct pgm *pgm)
{
	enum status status;

	assert_int_equal(pgm_check(pgm, print_finding, NULL), 0);
	while ((status = pgm_destroy_step(pgm)) == BUSY)
		;
	assert_int_equal(status, OK);
	assert_int_equal(frame_check(print_finding, NULL), 0);
}

/* What the second-level tables grant now. */
USED unsigned granted(struct pgm *pgm, uint64_t where, hpa_t *frame)
{
	unsigned level;
	uint64_t entry = *slat_find(&pgm->slat, gpa(where), &level);

	if (!slat_present(&pgm->slat, entry))
		return 0;
	if (frame)
		*frame = hpa(slat_frame(&pgm->slat, level, entry).v +
			     (where & (BIT(pt_shift(pgm->slat.format, level)) - 1) & ~(PAGE_SIZE - 1)));
	return slat_rights(&pgm->slat, entry);
}

USED page_record record_at(struct pgm *pgm, uint64_t where)
{
	struct pgm_page_info info;

	pgm_page_describe(pgm, gpa(where), &info);
	return info.record;
}

USED enum page_handler mark_at(struct pgm *pgm, uint64_t where)
{
	return page_get_handler(record_at(pgm, where));
}

/* user of every handler below */
struct note {
	unsigned calls, bytes;
	uint64_t where, value;
	unsigned size;
	bool write;
	enum status answer;
	uint64_t give;
};

USED enum status take_note(void *user, struct pgm_access *access)
{
	struct note *n = user;

	n->calls++;
	n->bytes += access->size;
	n->where = access->where.v;
	n->size = access->size;
	n->write = access->write;
	if (access->write)
		n->value = access->value;
	else
		access->value = n->give;
	return n->answer;
}

USED handler_type type_of(struct pgm *pgm, enum handler_kind kind, unsigned flags)
{
	handler_type type = 0;

	assert_int_equal(pgm_handler_type_register(pgm, kind, flags, take_note, "note", &type), OK);
	return type;
}

USED void put(struct pgm *pgm, handler_type type, uint64_t first, uint64_t last, struct note *note)
{
	assert_int_equal(pgm_handler_register(pgm, type, gpa(first), gpa(last), note, "test"), OK);
}

/* Does a handler start here? */
USED bool is_registered(struct pgm *pgm, uint64_t first)
{
	struct pgm_handler_info info;

	return pgm_handler_find(pgm, gpa(first), &info) && info.first == first;
}

USED void store(struct pgm *pgm, uint64_t where, uint64_t value, size_t size)
{
	assert_int_equal(pgm_write(pgm, gpa(where), &value, size, ORIGIN_GUEST, NULL), OK);
}

USED uint64_t load(struct pgm *pgm, uint64_t where, size_t size)
{
	uint64_t value = 0;

	assert_int_equal(pgm_read(pgm, gpa(where), &value, size, ORIGIN_GUEST, NULL), OK);
	return value;
}

USED void touch(struct pgm *pgm, uint64_t where, unsigned access)
{
	assert_int_equal(pgm_fault(pgm, gpa(where), access), PGM_RESUME);
	assert_int_equal(granted(pgm, where, NULL) & access, access);
}

USED uint64_t random_of(uint64_t *seed)
{
	*seed ^= *seed << 13;
	*seed ^= *seed >> 7;
	*seed ^= *seed << 17;
	return *seed * UINT64_C(0x2545f4914f6cdd1d) >> 16;
}
