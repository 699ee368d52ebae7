/* SPDX-License-Identifier: Apache-2.0 */
// sources: mm/*.c pgm/*.c pgm/*/*.c arch/x86_64/pt_format.c lib/format.c lib/hash.c lib/status.c
/* The integrity check finds what is broken: each kind of damage is done, found, and undone. */
#include "common/pgm_world.h"
#include "common/shadow_view.h"
#include "pgm/slat/tables.h"

#define LARGE (4 * MIB)
#define DETAILED (8 * MIB)
#define UNTOUCHED (12 * MIB)
#define NOWHERE (3 * GIB)
#define ROM_AT (GIB)
#define DEVICE (2 * GIB)

static struct pgm *pgm;
static struct block *large, *detailed;

static enum status ignore(void *user, struct pgm_access *access)
{
	return OK;
}

static page_record *record_at(unsigned i)
{
	return page_of(detailed, gpa(DETAILED + i * PAGE_SIZE));
}

/* Page 0 has a frame and is mapped, page 1 has one and a handler, page 2 is zero and mapped, page 9 has nothing. */
static uint64_t *entry_of(uint64_t where)
{
	unsigned level;

	return slat_find(&pgm->slat, gpa(where), &level);
}

static void record_frame(void)
{
	record_at(0)->bits ^= 1;
}
static void damage_state(void)
{
	record_at(0)->bits ^= (uint64_t)(PAGE_ALLOCATED ^ PAGE_SHARED) << PAGE_STATE_SHIFT;
}
static void record_zero(void)
{
	record_at(0)->bits ^= (uint64_t)PAGE_ALLOCATED << PAGE_STATE_SHIFT;
}
static void record_type(void)
{
	record_at(9)->bits ^= (uint64_t)(PAGE_RAM ^ PAGE_ROM) << PAGE_TYPE_SHIFT;
}
static void flip_mark(unsigned i)
{
	record_at(i)->bits ^= (uint64_t)HANDLER_WRITE << PAGE_HANDLER_SHIFT;
}
static void record_mark(void)
{
	flip_mark(1);
}
static void record_no_handler(void)
{
	flip_mark(9);
}
static void record_unknown(void)
{
	record_at(9)->bits ^= BIT(61);
}
static void count_held(void)
{
	detailed->held ^= 1;
}
static void block_slot(void)
{
	detailed->slot = (uint64_t *)((uint64_t)detailed->slot ^ 8);
}
static void count_base(void)
{
	pgm->account.allocated[ACCOUNT_BASE] ^= 1024;
}
static void count_tables(void)
{
	pgm->slat.tables ^= 1;
}
static void count_handy(void)
{
	pgm->common.handy.count ^= 1;
}
static void entry_right(void)
{
	*entry_of(DETAILED + 2 * PAGE_SIZE) ^= pgm->slat.format->write;
}
static void entry_frame(void)
{
	*entry_of(DETAILED) ^= 0x4000;
}
static void entry_type(void)
{
	*entry_of(DETAILED) ^= 0x10;
}
static void entry_reserved(void)
{
	*entry_of(DETAILED) ^= BIT(51);
}
static void entry_handler(void)
{
	*entry_of(DETAILED + PAGE_SIZE) ^= slat_leaf(&pgm->slat, 0, page_frame(*record_at(1)), RWX, 6);
}
static void entry_large(void)
{
	*entry_of(LARGE) ^= 4 * MIB;
}
static void entry_zero(void)
{
	*entry_of(UNTOUCHED) ^= pgm->slat.format->write;
}
static void entry_nowhere(void)
{
	*entry_of(NOWHERE) ^= slat_leaf(&pgm->slat, 1, hpa(0), RX, 6);
}
static void large_chunk(void)
{
	large->word ^= 4 * MIB;
}
static void large_kind(void)
{
	detailed->word ^= BLOCK_LARGE ^ BLOCK_DETAILED;
}
static void large_lost(void)
{
	large->word ^= BLOCK_LARGE;
}

/* What the rest of the damages exchange with what is there; found once by prepare(). */
static uint64_t device_flip, reserve_flip;
static hpa_t rom_frame;

static void entry_untouched(void)
{
	*entry_of(DEVICE) ^= device_flip;
}
static void entry_mark(void)
{
	*entry_of(DETAILED + 40 * PAGE_SIZE) ^= pgm->slat.format->misconfigured;
}
static uint64_t *alias_entry(void)
{
	unsigned level;

	return slat_find(shadow_view(pgm, pgm->shadow.a20), gpa((DETAILED + 2 * PAGE_SIZE) | A20_BIT), &level);
}
static void alias_right(void)
{
	*alias_entry() ^= pgm->slat.format->write;
}
static void alias_frame(void)
{
	*alias_entry() ^= 4 * MIB;
}
static void alias_lost(void)
{
	static uint64_t kept;
	uint64_t now = *alias_entry();

	*alias_entry() = kept;
	kept = now;
}
static void alias_unknown(void)
{
	uint64_t *slots = direct_pointer(hpa(detailed->shadows & BITS(51, 12)));

	slots[2] ^= 8; /* the next entry's address */
}
static void pin_mark(void)
{
	record_at(20)->bits ^= PAGE_PINNED;
}
static void pin_stray(void)
{
	record_at(21)->bits ^= PAGE_PINNED;
}
static void reserve_frame(void)
{
	pgm->common.handy.frame[0].v ^= reserve_flip;
}
static void rom_copy(void)
{
	record_store(frame_slot(rom_frame), record_load(frame_slot(rom_frame)) ^ (UINT64_C(1) << RECORD_PAGE_SHIFT));
}
static struct handler_node *node_of(uint64_t first)
{
	for (uint32_t i = 0; i < pgm->handlers.used; i++)
		if (handler_in_order(&pgm->handlers, i)->first == first)
			return handler_in_order(&pgm->handlers, i);
	fail_msg("no handler at %#llx", (unsigned long long)first);
	return NULL;
}
static void node_into_next(void)
{
	node_of(DEVICE)->last ^= 0x2000;
}
static void node_upside_down(void)
{
	struct handler_node *n = node_of(DEVICE + 2 * PAGE_SIZE);

	n->last ^= (n->first - 1) ^ (n->first + PAGE_SIZE - 1);
}
static void node_count(void)
{
	pgm->handlers.used ^= 1;
}
static void node_order(void)
{
	pgm->handlers.order[0] ^= UINT64_C(3) << 16;
}
static void node_unused(void)
{
	pgm->handlers.free ^= 1u << 30;
}
static void node_type(void)
{
	node_of(DEVICE)->type ^= 30;
}
static void type_users(void)
{
	pgm->handlers.type[node_of(DEVICE)->type].users ^= 4;
}
static void node_off(void)
{
	node_of(DETAILED + PAGE_SIZE)->off ^= HANDLER_OFF_HEAD | HANDLER_OFF_TAIL;
}

static void watch(enum handler_kind kind, uint64_t first, uint64_t last)
{
	handler_type type;

	assert_int_equal(pgm_handler_type_register(pgm, kind, 0, ignore, "", &type), OK);
	assert_int_equal(pgm_handler_register(pgm, type, gpa(first), gpa(last), NULL, ""), OK);
}

/* A machine with something of everything that is checked. */
static void prepare(const struct pt_format *format)
{
	struct pgm_config config = plain_config(32 * MIB);
	static const char owner[] = "dma";
	uint64_t *upper;
	hpa_t unused;

	config.slat = format;
	config.misconfig_exit = format == &pt_ept4;
	pgm = make_pgm_of(&config);
	assert_int_equal(pgm_fault(pgm, gpa(LARGE), ACCESS_WRITE), PGM_RESUME);
	assert_int_equal(pgm_fault(pgm, gpa(UNTOUCHED), ACCESS_READ), PGM_RESUME);
	inject_arm(MM_SITE_LARGE, 0, 1, 0);
	assert_int_equal(pgm_fault(pgm, gpa(DETAILED), ACCESS_WRITE), PGM_RESUME);
	inject_disarm(MM_SITE_LARGE);
	assert_int_equal(pgm_write(pgm, gpa(DETAILED + PAGE_SIZE), "x", 1, ORIGIN_DEVICE, NULL), OK);
	assert_int_equal(pgm_fault(pgm, gpa(DETAILED + 2 * PAGE_SIZE), ACCESS_READ), PGM_RESUME);
	watch(HANDLER_KIND_WRITE, DETAILED + PAGE_SIZE, DETAILED + PAGE_SIZE + 7);
	for (unsigned i = 0; i < 5; i++)
		watch(HANDLER_KIND_MMIO, DEVICE + i * PAGE_SIZE, DEVICE + (i + 1) * PAGE_SIZE - 1);
	assert_int_equal(pgm_fault(pgm, gpa(DEVICE), ACCESS_READ), PGM_EMULATE);
	assert_int_equal(pgm_pin(pgm, gpa(DETAILED + 20 * PAGE_SIZE), true, owner, &unused), OK);
	assert_int_equal(pgm_pin(pgm, gpa(DETAILED + 20 * PAGE_SIZE), false, owner, &unused), OK);
	assert_int_equal(pgm_add_shadowed_rom(pgm, gpa(ROM_AT), PAGE_SIZE, "rom"), OK);
	assert_int_equal(pgm_rom_load(pgm, gpa(ROM_AT), "rom", 4), OK);
	assert_int_equal(pgm_rom_protect(pgm, gpa(ROM_AT), PAGE_SIZE, ROM_READ_ROM_WRITE_RAM), OK);
	assert_int_equal(pgm_write(pgm, gpa(ROM_AT), "ram", 4, ORIGIN_GUEST, NULL), OK);
	/* An upper table over a place without memory, as a stray mapping would make it; and one under a device. */
	assert_int_equal(slat_entry(&pgm->slat, gpa(NOWHERE), 1, &upper), OK);
	assert_int_equal(block_get(pgm, gpa(DEVICE), &large), OK);
	assert_int_equal(slat_entry(&pgm->slat, gpa(DEVICE), 0, &upper), OK);
	assert_int_equal(block_get(pgm, gpa(LARGE), &large), OK);
	assert_int_equal(block_get(pgm, gpa(DETAILED), &detailed), OK);
	assert_int_equal(pgm_a20_root(pgm, &unused), OK);
	assert_int_equal(pgm_a20_fault(pgm, gpa((DETAILED + 2 * PAGE_SIZE) | A20_BIT), ACCESS_READ), PGM_RESUME);
	assert_true(slat_present(&pgm->slat, *alias_entry()));
	device_flip = *entry_of(DEVICE) ^ slat_leaf(&pgm->slat, 0, page_frame(*record_at(0)), RX, 6);
	reserve_flip = pgm->common.handy.frame[0].v ^ page_frame(*record_at(0)).v;
	rom_frame = rom_page_at(pgm, gpa(ROM_AT))->other;
	assert_false(hpa_is_none(rom_frame));
}

static unsigned lines;

static void count_line(void *context, const char *line)
{
	lines++;
	assert_true(strlen(line) > 20);
}

static void run(const struct pt_format *format)
{
#define DAMAGE(name)                                                                                                   \
	{                                                                                                              \
		name, #name                                                                                            \
	}
	static const struct {
		void (*done)(void);
		const char *name;
	} damages[] = {
		DAMAGE(record_frame),  DAMAGE(damage_state),      DAMAGE(record_zero),      DAMAGE(record_type),
		DAMAGE(record_mark),   DAMAGE(record_no_handler), DAMAGE(record_unknown),   DAMAGE(count_held),
		DAMAGE(block_slot),    DAMAGE(count_base),        DAMAGE(count_tables),     DAMAGE(count_handy),
		DAMAGE(entry_right),   DAMAGE(entry_frame),       DAMAGE(entry_type),       DAMAGE(entry_reserved),
		DAMAGE(entry_handler), DAMAGE(entry_large),       DAMAGE(entry_zero),       DAMAGE(entry_nowhere),
		DAMAGE(large_chunk),   DAMAGE(large_kind),        DAMAGE(large_lost),       DAMAGE(entry_untouched),
		DAMAGE(entry_mark),    DAMAGE(alias_right),       DAMAGE(alias_frame),      DAMAGE(alias_lost),
		DAMAGE(alias_unknown), DAMAGE(pin_mark),          DAMAGE(pin_stray),        DAMAGE(reserve_frame),
		DAMAGE(rom_copy),      DAMAGE(node_into_next),    DAMAGE(node_upside_down), DAMAGE(node_order),
		DAMAGE(node_count),    DAMAGE(node_unused),       DAMAGE(node_type),        DAMAGE(type_users),
		DAMAGE(node_off),
	};
	prepare(format);
	for (unsigned i = 0; i < ARRAY_SIZE(damages); i++) {
		unsigned found;

		if (damages[i].done == entry_mark && !format->misconfigured)
			continue;
		check_silent(pgm);
		lines = 0;
		damages[i].done();
		found = pgm_check(pgm, count_line, NULL);
		if (!found)
			fail_msg("%s: %s wasn't found", format->name, damages[i].name);
		assert_int_equal(found, lines);
		damages[i].done();
	}
	end_pgm(pgm);
}

static void test_damage(void **state)
{
	run(&pt_ept4);
	run(&pt_npt4);
}

int main(void)
{
	const struct CMUnitTest tests[] = { cmocka_unit_test(test_damage) };

	pgm_world_start(64 * MIB);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
