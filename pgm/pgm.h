/* SPDX-License-Identifier: Apache-2.0 */
/*
 * PGM, the page manager: one struct pgm is one machine's guest-physical memory. This is
 * what the rooms above see: ranges, faults, physical access, handlers, the root of the
 * second-level tables, and what the monitor shows.
 *
 * PGM knows no vendor, no exit, no device. Its callers may hold locks of RANK_MACHINE only.
 */
#pragma once

#include "arch/x86_64/hv.h"
#include "arch/x86_64/pt_format.h"
#include "mm/gather.h"
#include "pgm/counters.h"
#include "pgm/page/page.h"

#define PGM_MAX_RANGES 64u
#define PGM_NAME 16u
#define PGM_MAX_GPA (UINT64_C(1) << 46) /* 64 TiB */

struct pgm;

struct pgm_config {
	uint64_t ram;      /* bytes, whole pages, 1 MiB .. 32 TiB */
	uint64_t ram_hole; /* bytes below 4 GiB that are no RAM; 0: 512 MiB */
	bool large_pages;
	uint32_t max_access_handlers; /* 32..65536; 0: 6144 */
	const struct pt_format *slat;
	bool slat_2m, slat_1g;
	bool large_no_execute; /* large leaves are for data; what is executed is split (see fault.c) */
	bool misconfig_exit;
	bool accessed_dirty, pml; /* the tables' dirty bits are set by the processor; it can list the pages too */
	uint8_t physical_bits;    /* what the guest is told: MAXPHYADDR */
	uint64_t shadow_frames;   /* as many there may be for nested guests' tables; 0: by the RAM */
	uint8_t priority;         /* enum machine_priority */
	uint16_t share_group;     /* whose pages may share frames with this machine's; 0: nobody's, not even its own */
};

/*
 * Opens a machine's memory: reserves its accounts (LIMIT: admission refuses, `why`), sets up the ranges RAM
 * below 640 KiB, RAM from 1 MiB to the hole, RAM above 4 GiB, and an empty root table. sync makes the
 * machine's vcpus leave the guest: see struct flush_domain.
 */
enum status pgm_create(struct pgm **out, const struct pgm_config *config, void (*sync)(struct flush_domain *, uint64_t),
		       void *context, char *why, size_t why_size) must_check;
/*
 * Gives everything back, in bounded steps: call until it returns OK (BUSY: more to do). No vcpu may run and no handler
 * be inside. BAD_STATE: an account didn't come out at zero (logged).
 */
enum status pgm_destroy_step(struct pgm *pgm) must_check;

/* The root for the vcpus' second-level translation, and the flush generation they must have seen before an entry. */
hpa_t pgm_slat_root(const struct pgm *pgm);
/* A root in which nothing is present, for who has none yet; the host's, never written. */
hpa_t pgm_empty_root(void);
struct flush_domain *pgm_flush_domain(struct pgm *pgm);
struct account *pgm_account(struct pgm *pgm);
uint64_t pgm_ram_bytes(const struct pgm *pgm);

/* ---- ranges ---- */
/* Whole pages, at most 64 GiB above the end of RAM; RAM added later raises the accounts (NO_MEMORY). CONFLICT on overlap with a range or a handler, LIMIT, BAD_VALUE. ROM: filled by pgm_rom_load; the guest's writes are ignored. */
enum status pgm_add_ram(struct pgm *pgm, gpa_t base, uint64_t size, const char *name) must_check;
enum status pgm_add_rom(struct pgm *pgm, gpa_t base, uint64_t size, const char *name) must_check;
enum status pgm_rom_load(struct pgm *pgm, gpa_t where, const void *data, uint64_t size) must_check;

/*
 * Takes the range of RAM that starts at base away, in bounded steps, while vcpus run: call until it is OK (BUSY: more to do, or a page of
 * it is pinned). Its frames come back after the flush. NOT_FOUND; NOT_SUPPORTED: not RAM; CONFLICT: an access handler lies on it, or another range is
 * just being removed. One caller at a time.
 */
enum status pgm_remove_range_step(struct pgm *pgm, gpa_t base) must_check;

struct pgm_range {
	uint64_t base, size;
	enum page_type type;
	char name[PGM_NAME];
};
/* Copies range `index`; false past the end. */
bool pgm_range_get(struct pgm *pgm, unsigned index, struct pgm_range *out);
/* The range around an address; false: none. */
bool pgm_range_find(struct pgm *pgm, gpa_t where, struct pgm_range *out);

/* ---- vcpus ---- */
/*
 * From now on this vcpu has a place of its own in PGM: what its faults take and count is taken and counted there, so that they write no
 * cache line that another's do. It costs the machine HANDY_REFILL pages of quota (NO_MEMORY) and is given back at the machine's end.
 */
enum status pgm_vcpu_open(struct pgm *pgm, struct pgm_vcpu_counters *counters) must_check;
/* It stops running for a pause, a reset or the end: the frames kept ready for it go to the others. On its CPU, no lock held. */
void pgm_vcpu_leave(const struct pgm_vcpu_counters *counters);

/* ---- faults ---- */
enum pgm_verdict {
	PGM_RESUME,    /* the tables are right now: enter again */
	PGM_EMULATE,   /* a handler, ROM or nothing is there: emulate the instruction */
	PGM_NO_MEMORY, /* no frame or table to be had: park the vcpu */
};
/*
 * A second-level fault at `where` with ACCESS_* bits. again: of a guest, which comes again, so that a first touch that has to clear
 * 2 MiB does so in slices, one each time. count: the calling CPU's, vcpu_counters(). No lock held.
 */
enum pgm_verdict pgm_take_fault(struct pgm *pgm, gpa_t where, unsigned access, bool again,
				struct pgm_vcpu_counters *count);
static inline enum pgm_verdict pgm_fault(struct pgm *pgm, gpa_t where, unsigned access)
{
	return pgm_take_fault(pgm, where, access, false, vcpu_counters());
}
static inline enum pgm_verdict pgm_guest_fault(struct pgm *pgm, gpa_t where, unsigned access)
{
	return pgm_take_fault(pgm, where, access, true, vcpu_counters());
}

/* ---- physical access ---- */
enum pgm_origin { ORIGIN_GUEST, ORIGIN_DEVICE, ORIGIN_DEBUGGER, ORIGIN_SAVE };
/*
 * Any length, any alignment; handlers are called for MMIO, unassigned reads give all ones, ROM writes are ignored
 * (the debugger's are not), ballooned pages read zero. *done (may be NULL) tells how many bytes were served before an
 * error. NO_MEMORY / OVER_QUOTA: a page could not be allocated. Handlers get the access split at 8 bytes, naturally.
 */
enum status pgm_read(struct pgm *pgm, gpa_t from, void *to, size_t length, enum pgm_origin origin,
		     size_t *done) must_check;
/* The same of a table's entry, aligned, where there is plain memory: most accesses are such. false: there is none, nothing is read. */
bool pgm_read_entry(struct pgm *pgm, gpa_t from, uint64_t *entry) must_check;
enum status pgm_write(struct pgm *pgm, gpa_t to, const void *from, size_t length, enum pgm_origin origin,
		      size_t *done) must_check;
/* RAM and ROM only, within one page, no handler called: HANDLER when one covers it, BAD_ADDRESS when nothing is there. */
enum status pgm_read_simple(struct pgm *pgm, gpa_t from, void *to, size_t length) must_check;
enum status pgm_write_simple(struct pgm *pgm, gpa_t to, const void *from, size_t length) must_check;
struct pgm_access;
/*
 * One access of 1, 2, 4 or 8 bytes to a page that is nothing but a device's: the handler is called at once. NOT_FOUND: it isn't
 * such a page, or not naturally aligned, or nobody wants it: pgm_read and pgm_write know what then. As those, without locks.
 */
enum status pgm_device_access(struct pgm *pgm, struct pgm_access *access) must_check;
/* Atomic, naturally aligned, size 1, 2, 4, 8; *seen is the old value, written only if it equals expected. HANDLER, BAD_ADDRESS. */
enum status pgm_compare_exchange(struct pgm *pgm, gpa_t where, uint64_t expected, uint64_t desired, unsigned size,
				 uint64_t *seen) must_check;

/* ---- pins, and mappings that hold one ---- */
/*
 * The frame behind the page at `where` stays behind it until as many unpins. `owner` is a name that outlives its pins; it is
 * told apart by its address. A page without a frame gets one; a large block is split. BAD_ADDRESS: nothing there; HANDLER: one covers it; DENIED:
 * a write pin on ROM; CONFLICT: ballooned or shared; LIMIT, NO_MEMORY, OVER_QUOTA. No lock held.
 */
enum status pgm_pin(struct pgm *pgm, gpa_t where, bool write, const char *owner, hpa_t *frame) must_check;
/* NOT_FOUND: this owner has no such pin. */
enum status pgm_unpin(struct pgm *pgm, gpa_t where, bool write, const char *owner) must_check;

struct pgm_pin_info {
	uint64_t reads, writes; /* sums over all owners */
	unsigned owners;
	const char *owner; /* one of them */
};
/* The pins of one page; false: none. */
bool pgm_pin_find(struct pgm *pgm, gpa_t where, struct pgm_pin_info *out);
/* Pages with read pins, with write pins, each once per owner. */
void pgm_pin_totals(struct pgm *pgm, uint64_t *read_pages, uint64_t *write_pages);

/* ---- what the guest gives back (page/balloon.c) ---- */
/*
 * Pages of RAM, by their numbers, into the balloon or out of it: the guest's word, each looked at. In: it gives its frame back, reads as
 * zero, and counts as the machine's still. Not done, and counted: BAD_ADDRESS: no RAM; HANDLER: one covers it; CONFLICT:
 * pinned, or the machine is preallocated; BAD_STATE: in (or out) already. Returns OK, or one page's refusal, the others done; NO_MEMORY,
 * OVER_QUOTA: ended there. A guest's write to a ballooned page is no error: it comes back as a fresh page, as with KVM. No lock held.
 */
enum status pgm_balloon(struct pgm *pgm, bool in, const uint32_t *page, unsigned count) must_check;
/*
 * Nobody needs what is in these bytes: their pages of RAM are zero from now on, and hold nothing. An offer only: pages that this can't
 * be done with, for want of memory too, keep what they have, and so does what is beyond PGM_DISCARD_MOST. Returns how many
 * pages it was done with. No lock held.
 */
#define PGM_DISCARD_MOST (8 * MIB)
uint64_t pgm_discard(struct pgm *pgm, gpa_t from, uint64_t length);

/* ---- large pages, preallocation, the reserve ---- */
/*
 * Gives every page of RAM its frame: once, after pgm_create, before the first entry. Bounded: a block of 2 MiB per step.
 * BUSY: go on; *pages (4 KiB) are done. NO_MEMORY, OVER_QUOTA: destroy the machine.
 */
enum status pgm_preallocate_step(struct pgm *pgm, uint64_t *pages) must_check;
/* All steps; progress (may be NULL) is called after each. */
enum status pgm_preallocate(struct pgm *pgm, void (*progress)(void *context, uint64_t done, uint64_t total),
			    void *context) must_check;

/* Background work of an idle CPU, one bounded step. False: nothing is left to do for now. Any CPU, no lock. */
bool pgm_idle_step(struct pgm *pgm);
/* The part of it that makes detailed blocks large. */
bool pgm_collapse_step(struct pgm *pgm);
/*
 * move.c: the next frames in a closed chunk (mm/compact.h) that are this machine's, from *index on: their pages get others. look: only asks
 * whether they all could. *pages: so many more were met. BUSY: go on; OK: that was all; CONFLICT: one stays where it is; NO_MEMORY,
 * OVER_QUOTA. The worker's; no lock.
 */
enum status pgm_move_step(struct pgm *pgm, hpa_t block, unsigned *index, bool look, unsigned *pages) must_check;
/* The page gets another frame, even if a large one is split for it. CONFLICT: it must not, or that isn't its frame. Reads this one. */
enum status pgm_leave_frame(struct pgm *pgm, gpa_t page, hpa_t frame) must_check;
/* While held (it counts) no block is collapsed: for a dirty log that would lose what it knows of single pages. */
void pgm_collapse_hold(struct pgm *pgm, bool hold);

/* ---- what the monitor asks ---- */
struct pgm_page_info {
	enum block_kind block;
	page_record record; /* made up from the block where there are no records */
	enum page_type type;
	hpa_t frame; /* HPA_NONE: none */
	bool slat_present;
	unsigned slat_level;
	uint64_t slat_entry;
};
void pgm_page_describe(struct pgm *pgm, gpa_t where, struct pgm_page_info *info);
const char *page_state_name(enum page_state state);
const char *page_type_name(enum page_type type);
const char *page_handler_name(enum page_handler handler);

/* What was counted for all vcpus, and for none. */
void pgm_counters_sum(const struct pgm *pgm, struct pgm_counters *sum);
/* Whoever saw them as `was` wants them to be `now`; what was counted in between isn't lost. */
void pgm_counters_adjust(struct pgm *pgm, const struct pgm_counters *was, const struct pgm_counters *now);

struct pgm_usage {
	uint64_t ram_pages, zero_pages, private_pages, shared_pages, ballooned_pages, large_blocks, detailed_blocks;
	uint64_t rom_pages, handy_pages, table_pages, record_bytes;
	uint64_t mmio_pages;                            /* that handlers answer for, where no memory is */
	uint64_t monitored_pages, written_pages;        /* write-protected for a log; written to, as far as recorded */
	uint64_t write_locked_pages, read_locked_pages; /* pinned, once per owner */
	uint64_t large_disabled; /* full blocks that a handler, a pin or such keeps from being large */
};
/* In bounded steps, with a cursor that is 0 at first: BUSY: go on; OK: usage is complete, of a running machine by and large. */
enum status pgm_usage_step(struct pgm *pgm, uint64_t *cursor, struct pgm_usage *usage) must_check;

/* Integrity: records against frame records, second-level entries against records, handlers, accounts. */
struct pgm_check {
	void (*report)(void *context, const char *line);
	void *context;
	unsigned findings;
	/* PGM's own, 0 at first */
	uint64_t cursor;
	unsigned phase;
};
/* In bounded steps; the sums, which look at blocks and not at pages, in one. BUSY: go on; OK: done. No lock held. */
enum status pgm_check_step(struct pgm *pgm, struct pgm_check *check) must_check;

/* Once, at boot: the host's zero block. */
enum status pgm_start(void) must_check;
