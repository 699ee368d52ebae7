/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Admission: may this much be promised? Guest pages come out of whole chunks only; table pages and
 * frame records (one frame per split chunk) out of kernel chunks, ragged ones first. The sum of all
 * promises, with what the kernel holds already, must fit into the chunks that exist; chunk.c then
 * keeps guests from taking the chunks that were promised to tables. With overcommit the promises weigh less.
 *
 * admission_lock has RANK_ACCOUNT like an account's own lock: the two are never held together.
 */
#include "lib/format.h"
#include "mm/chunk.h"
#include "mm/counters.h"

/* Chunks left for what the host itself comes to need. */
#define ADMISSION_SLACK 2u
#define PAGES_PER_MIB (MIB / PAGE_SIZE)
/* With overcommit one chunk in so many is for machines of higher priority than low. */
#define KEPT_PART 32u

static struct spinlock admission_lock = SPINLOCK(RANK_ACCOUNT, "admission");
static struct {
	enum overcommit policy;
	unsigned percent;
	uint64_t guest, table; /* pages promised to all machines */
} admission = { .policy = OVERCOMMIT_NONE, .percent = 100 };

void account_policy(enum overcommit policy, unsigned percent)
{
	HOLD(&admission_lock);
	admission.policy = policy;
	admission.percent = policy == OVERCOMMIT_NONE || percent < 100 ? 100 : percent;
}

uint64_t admission_promised(void)
{
	HOLD(&admission_lock);
	return admission.guest + admission.table;
}

unsigned admission_percent(void)
{
	return admission.percent; /* set once, at boot */
}

static uint64_t divide_up(uint64_t value, uint64_t by)
{
	return (value + by - 1) / by;
}

/* Kernel frames that promises of this size will want: tables, and one frame of records per split chunk. */
static uint64_t kernel_share(uint64_t guest, uint64_t table)
{
	return table + divide_up(guest, PAGES_PER_BLOCK);
}

/* Whole chunks that promises of this size would take, and those that there are. Under admission_lock. */
static void weigh(uint64_t guest, uint64_t table, uint64_t *needed, uint64_t *there)
{
	uint64_t kernel;

	guest = divide_up(guest * 100, admission.percent);
	table = divide_up(table * 100, admission.percent);
	HOLD(&chunk_lock);
	if (!admission.guest && !admission.table)
		chunks.kernel_base = chunks.kernel_present - chunks.kernel_free;
	kernel = chunks.kernel_base + kernel_share(guest, table);
	kernel = kernel > chunks.ragged_pages ? kernel - chunks.ragged_pages : 0;
	*needed = divide_up(guest, PAGES_PER_BLOCK) + divide_up(kernel, PAGES_PER_BLOCK - 1) + ADMISSION_SLACK;
	*there = (chunks.pages - chunks.ragged_pages - chunks.retired_frames) / PAGES_PER_BLOCK;
}

/* Under admission_lock. */
static void promise(uint64_t guest, uint64_t table)
{
	admission.guest = guest;
	admission.table = table;
	HOLD(&chunk_lock);
	chunks.kernel_promised = divide_up(kernel_share(guest, table) * 100, admission.percent);
	/* Without overcommit every promise is covered: nothing may be kept from anyone. */
	chunks.kept = admission.percent > 100 ? chunks.pages / PAGES_PER_BLOCK / KEPT_PART : 0;
}

/* In figures that add up: asked and promised, less what may be promised, is what is short. Under admission_lock. */
static void tell(uint64_t guest, uint64_t table, uint64_t needed, uint64_t there, char *why, size_t size)
{
	uint64_t asked = divide_up(guest + table, PAGES_PER_MIB);
	uint64_t promised = divide_up(admission.guest + admission.table, PAGES_PER_MIB);
	uint64_t missing = divide_up((needed - there) * (BLOCK_SIZE / MIB) * admission.percent, 100);

	format_string(why, size,
		      "%lu MiB asked (%lu of them for tables), %lu MiB promised to other machines, and %lu MiB may be "
		      "promised in all (%u %% of %lu MiB, less the hypervisor's own): %lu MiB short",
		      asked, divide_up(table, PAGES_PER_MIB), promised,
		      asked + promised > missing ? asked + promised - missing : 0, admission.percent,
		      there * (BLOCK_SIZE / MIB), missing);
}

/* Raises what is promised, if it fits. */
enum status admission_raise(uint64_t guest, uint64_t table, char *why, size_t size)
{
	uint64_t needed = 0, there = 0;

	HOLD(&admission_lock);
	weigh(admission.guest + guest, admission.table + table, &needed, &there);
	if (needed <= there) {
		promise(admission.guest + guest, admission.table + table);
		return OK;
	}
	tell(guest, table, needed, there, why, size);
	mm_count(&mm_counters.refusals, 1);
	return NO_MEMORY;
}

void admission_lower(uint64_t guest, uint64_t table)
{
	HOLD(&admission_lock);
	promise(admission.guest - guest, admission.table - table);
}
