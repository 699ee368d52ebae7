/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A machine with processors made of C, for tests of the dirty log: each walks the second-level tables as hardware does,
 * keeps translations (with their dirty bit) until it is told to flush, sets dirty bits by compare-and-exchange, and
 * keeps a list of written pages if the machine has PML. What a page holds is a number that counts its writes.
 */
#pragma once

#include <sched.h>

#include "test_mm_world.h"

#include "pgm/internal.h"
#include "common/whole.h"

#define QUIET __attribute__((unused)) static
/* The processor's side: it races with PGM's plain reads of tables, as hardware does. */
#define HARDWARE __attribute__((unused, no_sanitize("thread")))

#define RAM (8 * MIB)
#define PAGES (RAM / PAGE_SIZE)
#define FIRST_PAGE (2 * MIB / PAGE_SIZE)
#define CPUS 2u
#define PML_SIZE 512u
#define PML_NONE (~UINT64_C(0))

struct translation {
	bool present, writable, dirty;
};

struct fake_cpu {
	struct pgm *pgm;
	uint32_t requests, in_guest, parked; /* atomic */
	uint64_t flush_seen;                 /* atomic */
	struct translation tlb[PAGES];
	uint64_t pml[PML_SIZE]; /* atomic */
	struct spinlock pml_lock;
	unsigned pml_left;
	int pml_index; /* the processor's own */
	bool pml_full;
	uint64_t faults, fulls;
};

static struct fake_cpu cpus[CPUS];
static unsigned cpus_used;
static struct pgm *machine;
/* Writes to each page, ever: atomic. */
static uint64_t version[PAGES];

QUIET uint64_t random_of(uint64_t *seed)
{
	*seed ^= *seed << 13;
	*seed ^= *seed >> 7;
	*seed ^= *seed << 17;
	return *seed * 0x2545f4914f6cdd1d;
}

QUIET gpa_t address_of(uint64_t page)
{
	return gpa(page << PAGE_SHIFT);
}

/* As vm/machine/start.c's: returns when no processor is in the guest with older translations. */
QUIET void fake_sync(struct flush_domain *domain, uint64_t generation)
{
	for (unsigned i = 0; i < cpus_used; i++) {
		struct fake_cpu *c = &cpus[i];

		__atomic_store_n(&c->requests, 1, __ATOMIC_SEQ_CST);
		while (__atomic_load_n(&c->in_guest, __ATOMIC_SEQ_CST) &&
		       __atomic_load_n(&c->flush_seen, __ATOMIC_ACQUIRE) < generation &&
		       __atomic_load_n(&c->requests, __ATOMIC_ACQUIRE))
			sched_yield();
	}
}

QUIET void fake_collect_one(struct fake_cpu *c)
{
	uint64_t pages[PML_SIZE];
	unsigned count = 0;

	lock_acquire(&c->pml_lock);
	while (c->pml_left && __atomic_load_n(&c->pml[c->pml_left - 1], __ATOMIC_ACQUIRE) != PML_NONE) {
		c->pml_left--;
		pages[count++] = __atomic_exchange_n(&c->pml[c->pml_left], PML_NONE, __ATOMIC_ACQ_REL);
	}
	lock_release(&c->pml_lock);
	for (unsigned i = 0; i < count; i++)
		pgm_dirty_note(c->pgm, gpa(pages[i]));
}

QUIET void fake_collect(void *context)
{
	for (unsigned i = 0; i < cpus_used; i++)
		fake_collect_one(&cpus[i]);
}

/* The leaf of a page, or NULL. */
HARDWARE static uint64_t *hardware_walk(struct pgm *pgm, uint64_t page, uint64_t *value)
{
	const struct pt_format *f = pgm->slat.format;
	uint64_t *table = direct_pointer(pgm->slat.root);

	for (unsigned l = f->levels - 1;; l--) {
		uint64_t *entry = &table[pt_index(f, l, page << PAGE_SHIFT)];

		*value = __atomic_load_n(entry, __ATOMIC_ACQUIRE);
		if (!(*value & f->present))
			return NULL;
		if (pt_is_leaf(f, l, *value))
			return entry;
		table = direct_pointer(hpa(*value & f->address));
	}
}

/* One store by the guest. false: it faulted, or the PML buffer is full. */
HARDWARE static bool hardware_store(struct fake_cpu *c, uint64_t page)
{
	const struct pt_format *f = c->pgm->slat.format;
	bool tracks = c->pgm->config.accessed_dirty, logs = c->pgm->config.pml;
	struct translation *t = &c->tlb[page];
	uint64_t value, *entry;

	while (!(t->present && t->writable && (t->dirty || !tracks))) {
		entry = hardware_walk(c->pgm, page, &value);
		if (!entry || !(value & f->write))
			return false;
		if (tracks && !(value & f->dirty)) {
			if (logs && c->pml_index < 0) {
				c->pml_full = true;
				return false;
			}
			if (!__atomic_compare_exchange_n(entry, &value, value | f->dirty, false, __ATOMIC_ACQ_REL,
							 __ATOMIC_ACQUIRE))
				continue;
			if (logs) /* with some offset, as Bochs leaves it */
				__atomic_store_n(&c->pml[c->pml_index--], (page << PAGE_SHIFT) | 0x123,
						 __ATOMIC_RELEASE);
		}
		*t = (struct translation){ .present = true, .writable = true, .dirty = true };
	}
	__atomic_fetch_add(&version[page], 1, __ATOMIC_RELAXED);
	return true;
}

/* Before an entry. false: there was a request, and it has been taken. */
QUIET bool fake_enter(struct fake_cpu *c)
{
	uint64_t generation;

	__atomic_store_n(&c->in_guest, 1, __ATOMIC_SEQ_CST);
	if (!__atomic_load_n(&c->requests, __ATOMIC_SEQ_CST))
		return true;
	__atomic_store_n(&c->in_guest, 0, __ATOMIC_RELEASE);
	__atomic_exchange_n(&c->requests, 0, __ATOMIC_ACQ_REL);
	generation = __atomic_load_n(&c->pgm->flush.generation, __ATOMIC_ACQUIRE);
	memset(c->tlb, 0, sizeof(c->tlb));
	__atomic_store_n(&c->flush_seen, generation, __ATOMIC_RELEASE);
	return false;
}

/* Ends what fake_enter() began. As in vmx/run.c, a full list is emptied before anyone sees that the guest was left. */
QUIET void fake_leave(struct fake_cpu *c)
{
	if (c->pml_full) {
		fake_collect_one(c);
		lock_acquire(&c->pml_lock);
		assert_int_equal(c->pml_left, 0);
		c->pml_left = PML_SIZE;
		c->pml_index = PML_SIZE - 1;
		lock_release(&c->pml_lock);
		c->fulls++;
	}
	__atomic_store_n(&c->in_guest, 0, __ATOMIC_RELEASE);
}

/* After the exit that a failed store is. */
QUIET void fake_handle_exit(struct fake_cpu *c, uint64_t page)
{
	if (c->pml_full) {
		c->pml_full = false;
		return;
	}
	c->faults++;
	assert_int_equal(pgm_fault(c->pgm, address_of(page), ACCESS_WRITE), PGM_RESUME);
}

/* A guest write from beginning to end. */
QUIET void guest_write(struct fake_cpu *c, uint64_t page)
{
	for (bool done = false; !done;) {
		if (!fake_enter(c))
			continue;
		done = hardware_store(c, page);
		fake_leave(c);
		if (!done)
			fake_handle_exit(c, page);
	}
}

QUIET void device_write(struct pgm *pgm, uint64_t page)
{
	uint64_t value = 0x1234;

	__atomic_fetch_add(&version[page], 1, __ATOMIC_RELAXED);
	assert_int_equal(pgm_write(pgm, gpa((page << PAGE_SHIFT) + 8), &value, sizeof(value), ORIGIN_DEVICE, NULL), OK);
}

/* A kind of processor, and one way to log on it. */
struct way {
	const char *name;
	const struct pt_format *slat;
	bool accessed_dirty, pml;
	enum dirty_mode mode;
};

static const struct way ways[] = {
	{ "EPT with PML", &pt_ept4, true, true, DIRTY_PML },
	{ "EPT with dirty bits", &pt_ept4, true, false, DIRTY_ACCESSED_DIRTY },
	{ "EPT by write protection", &pt_ept4, false, false, DIRTY_WRITE_PROTECT },
	{ "EPT with PML by write protection", &pt_ept4, true, true, DIRTY_WRITE_PROTECT },
	{ "NPT with dirty bits", &pt_npt4, true, false, DIRTY_ACCESSED_DIRTY },
	{ "NPT by write protection", &pt_npt4, true, false, DIRTY_WRITE_PROTECT },
};

QUIET struct pgm *machine_start(const struct way *way, unsigned cpu_number, bool large)
{
	struct pgm_config config = { .ram = RAM,
				     .large_pages = large,
				     .slat = way->slat,
				     .slat_2m = true,
				     .physical_bits = 40,
				     .max_access_handlers = 64,
				     .accessed_dirty = way->accessed_dirty,
				     .pml = way->pml };
	char why[200] = "";

	cpus_used = 0;
	if (pgm_create(&machine, &config, fake_sync, NULL, why, sizeof(why)) != OK)
		fail_msg("pgm_create: %s", why);
	memset(cpus, 0, sizeof(cpus));
	memset(version, 0, sizeof(version));
	for (unsigned i = 0; i < cpu_number; i++) {
		cpus[i].pgm = machine;
		cpus[i].requests = 1;
		lock_init(&cpus[i].pml_lock, RANK_LEAF, "fake PML");
		memset(cpus[i].pml, 0xff, sizeof(cpus[i].pml));
		cpus[i].pml_left = PML_SIZE;
		cpus[i].pml_index = PML_SIZE - 1;
	}
	cpus_used = cpu_number;
	if (way->pml)
		pgm_dirty_set_source(machine, fake_collect, NULL);
	return machine;
}

QUIET void machine_finish(void)
{
	enum status status;

	assert_int_equal(pgm_check(machine, print_finding, NULL), 0);
	while ((status = pgm_destroy_step(machine)) == BUSY)
		;
	assert_int_equal(status, OK);
	assert_int_equal(frame_check(print_finding, NULL), 0);
}
