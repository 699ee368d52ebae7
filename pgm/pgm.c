/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Birth and end of a machine's memory.
 *
 * At birth the accounts are reserved: base for every page of RAM and ROM, table for the worst case of
 * second-level tables and page records. The end is in end.c.
 */
#include <string.h>

#include "lib/format.h"
#include "pgm/internal.h"

#define LOW_RAM_END UINT64_C(0xa0000)
#define HIGH_RAM_START UINT64_C(0x100000)
/* Room in the directory for ranges that are added later: 1 KiB. */
#define DIRECTORY_SLACK (64 * GIB)
#define DEFAULT_HOLE (512 * MIB)
#define DEFAULT_HANDLERS 6144u

struct account *pgm_account(struct pgm *pgm)
{
	return &pgm->account;
}

hpa_t pgm_empty_root(void)
{
	return pgm_zero_block;
}

struct flush_domain *pgm_flush_domain(struct pgm *pgm)
{
	return &pgm->flush;
}

hpa_t pgm_slat_root(const struct pgm *pgm)
{
	return pgm->slat.root;
}

uint64_t pgm_ram_bytes(const struct pgm *pgm)
{
	return pgm->config.ram;
}

enum status pgm_start(void)
{
	void *zeros = heap_alloc(BLOCK_SIZE);

	if (!zeros)
		return NO_MEMORY;
	pgm_zero_block = direct_address(zeros);
	return is_aligned(pgm_zero_block.v, BLOCK_SIZE) ? OK : BAD_STATE;
}

static enum status config_check(struct pgm_config *c, char *why, size_t size)
{
	if (!c->ram_hole)
		c->ram_hole = DEFAULT_HOLE;
	if (!c->max_access_handlers)
		c->max_access_handlers = DEFAULT_HANDLERS;
	c->large_pages = c->large_pages && c->slat_2m; /* a large block is mapped by one 2 MiB leaf, or not at all */
	if (c->ram < MIB || !is_aligned(c->ram, PAGE_SIZE) || c->ram > 32 * GIB * KIB)
		return EXPLAIN(BAD_VALUE, why, size, "memory must be whole pages from 1 MiB to 32 TiB");
	if (c->ram_hole > 4 * GIB - 16 * MIB || !is_aligned(c->ram_hole, BLOCK_SIZE) || c->ram_hole < 32 * MIB)
		return EXPLAIN(BAD_VALUE, why, size, "ram_hole must be whole blocks of 2 MiB from 32 MiB to 4080 MiB");
	if (c->max_access_handlers < 32 || c->max_access_handlers > 65536)
		return EXPLAIN(BAD_VALUE, why, size, "max_access_handlers must be from 32 to 65536");
	return OK;
}

static enum status ram_ranges(struct pgm *pgm)
{
	uint64_t ram = pgm->config.ram, hole_start = 4 * GIB - pgm->config.ram_hole;
	uint64_t low_end = min_u64(ram, hole_start);
	enum status status = pgm_add_ram(pgm, gpa(0), LOW_RAM_END, "low");

	if (status == OK && low_end > HIGH_RAM_START)
		status = pgm_add_ram(pgm, gpa(HIGH_RAM_START), low_end - HIGH_RAM_START, "below 4G");
	if (status == OK && ram > hole_start)
		status = pgm_add_ram(pgm, gpa(4 * GIB), ram - hole_start, "above 4G");
	return status;
}

static uint64_t top_of_memory(const struct pgm_config *c)
{
	uint64_t hole_start = 4 * GIB - c->ram_hole;

	return (c->ram > hole_start ? 4 * GIB + c->ram - hole_start : 4 * GIB) + DIRECTORY_SLACK;
}

/* Worst case of tables: a level-0 table and a frame of records per block, an upper table and four of descriptors per GiB, the dirty log, a little more. */
static uint64_t table_pages(const struct pgm_config *c)
{
	return c->ram / BLOCK_SIZE * 2 + c->ram / GIB * 5 + (c->ram >> DIRTY_FRAME_SHIFT) + 64;
}

/* A full reserve, and the chunk that a collapse copies to, come on top of the RAM: neither eats the guest's quota. */
static uint64_t base_pages(const struct pgm_config *c)
{
	uint64_t collapse = c->large_pages && c->ram >= 2 * BLOCK_SIZE ? PAGES_PER_BLOCK : 0;

	return (c->ram >> PAGE_SHIFT) + PGM_ROM_PAGES + HANDY_SIZE + collapse;
}

static enum status build(struct pgm *pgm)
{
	enum status status;

	pgm->directory_count = align_up(top_of_memory(&pgm->config), BIT(DIRECTORY_SHIFT)) >> DIRECTORY_SHIFT;
	pgm->directory = heap_alloc(pgm->directory_count * sizeof(pgm->directory[0]));
	if (!pgm->directory)
		return NO_MEMORY;
	status = handler_table_create(&pgm->handlers, pgm->config.max_access_handlers, &pgm->common.counters);
	if (status == OK)
		status = slat_create(&pgm->slat, pgm->config.slat, &pgm->account);
	pgm->slat.leaving_context = pgm;
	if (pgm->config.large_no_execute)
		pgm->slat.large_access &= (uint8_t)~ACCESS_EXECUTE;
	if (status == OK)
		status = ram_ranges(pgm);
	return status;
}

enum status pgm_create(struct pgm **out, const struct pgm_config *config, void (*sync)(struct flush_domain *, uint64_t),
		       void *context, char *why, size_t why_size)
{
	struct pgm *pgm = heap_alloc(sizeof(*pgm));
	struct account_request request = { .priority = (enum machine_priority)config->priority };
	enum status status;

	format_string(why, why_size, "%s", status_text(NO_MEMORY));
	if (!pgm)
		return NO_MEMORY;
	pgm->config = *config;
	lock_init(&pgm->lock, RANK_PGM, "pgm");
	local_init(pgm, &pgm->common, HANDY_LOW);
	lock_init(&pgm->pins.lock, RANK_RESERVE, "pins");
	pgm->collapse.chunk = pgm->preallocation.chunks = HPA_NONE;
	pgm->flush = (struct flush_domain){ .sync = sync, .context = context };
	shadow_init(pgm);
	status = config_check(&pgm->config, why, why_size);
	if (status == OK) {
		request.pages[ACCOUNT_BASE] = base_pages(&pgm->config);
		request.pages[ACCOUNT_TABLE] = table_pages(&pgm->config);
		if (account_open(&pgm->account, &request, why, why_size) != OK)
			status = LIMIT;
	}
	if (status != OK) {
		heap_free(pgm, sizeof(*pgm));
		return status;
	}
	status = build(pgm);
	if (status != OK) {
		format_string(why, why_size, "page manager: %s", status_text(status));
		while (pgm_destroy_step(pgm) == BUSY)
			;
		return status;
	}
	pgm->built = true;
	*out = pgm;
	return OK;
}
