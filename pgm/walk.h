/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Guest page walks: guest-linear to guest-physical in every paging mode, driven by the
 * format data, with the access rights, reserved bits and accessed/dirty updates of the processor.
 *
 * Manual: Intel SDM vol. 3 chapter 4 (4.6 access rights, 4.7 page-fault error codes, 4.8 accessed and dirty);
 * AMD APM vol. 2 chapter 5.
 */
#pragma once

#include "arch/x86_64/hv_nested.h"
#include "pgm/pgm.h"

enum guest_mode {
	MODE_REAL,
	MODE_PROTECTED,
	MODE_32BIT,
	MODE_PAE,
	MODE_PAE_NX,
	MODE_AMD64,
	MODE_AMD64_NX,
	MODE_LA57,
	MODE_LA57_NX,
	GUEST_MODES
};

enum guest_mode guest_mode_of(uint64_t cr0, uint64_t cr4, uint64_t efer);
const char *guest_mode_name(enum guest_mode mode);
/* NULL where there's no paging. */
const struct pt_format *guest_mode_format(enum guest_mode mode);

/* What a walk needs to know of the vcpu; plain data, so that tests can make any. */
struct walk_context {
	uint64_t cr0, cr3, cr4, efer, rflags;
	uint64_t pdpte[4]; /* PAE: as the processor holds them */
	uint32_t pkru;
	uint64_t a20_mask; /* what a closed A20 gate takes out of every physical address; 0: it is open */
	uint8_t cpl;
	uint8_t physical_bits; /* MAXPHYADDR, at most 52 */
	bool page_1g;          /* CPUID says 1 GiB pages exist */
	bool bit8_reserved;    /* AMD: must be zero in a table pointer from level 2 on (APM vol. 2 section 5.3.3) */
	/* The tables by which its physical addresses are translated once more: of L1, for an L2. NULL: they are none. */
	const struct hv_nested_slat *outer;
};

/* Further bits beside ACCESS_READ, ACCESS_WRITE, ACCESS_EXECUTE. */
#define WALK_SYSTEM 0x10u /* an implicit supervisor access (descriptor tables): CPL does not count */
#define WALK_PEEK 0x20u   /* the debugger's: no rights checked, nothing set accessed or dirty */
#define WALK_TRY 0x40u    /* rights are checked, but nothing is set accessed or dirty */
#define WALK_WIDE 0x100u  /* more than 4 bytes; no matter but for hv_nested_ops.redirect */
#define WALK_TABLE 0x80u  /* of the outer tables: the access is to one of the guest's own */

/* Page-fault error code bits (section 4.7). */
#define PF_P BIT(0)
#define PF_W BIT(1)
#define PF_U BIT(2)
#define PF_RSVD BIT(3)
#define PF_I BIT(4)
#define PF_PK BIT(5)

struct walk_step {
	gpa_t where; /* of the entry; before the outer translation */
	uint64_t entry;
	uint8_t level;
};

struct walk_result {
	gpa_t gpa;           /* where the memory is */
	gpa_t inner;         /* the same before the outer translation */
	unsigned level;      /* of the leaf */
	uint64_t entry;      /* the leaf */
	uint32_t error_code; /* GUEST_FAULT: the page fault's */
	unsigned steps;      /* entries read, top first */
	struct walk_step step[PT_MAX_LEVELS];
	struct hv_nested_fault outer; /* OUTER_FAULT */
};

/*
 * OK: result->gpa. GUEST_FAULT: a #PF with result->error_code. OUTER_FAULT: L1 gets an exit, result->outer. BAD_VALUE: not canonical (the caller raises #GP or #SS).
 * BUSY: an entry changed again and again under the walk: let the guest run and fault anew.
 * Other statuses: a table could not be read or written (BAD_ADDRESS: a table where no memory is reads as all ones, as a
 * bus would give; NO_MEMORY when an A/D update needs a frame). No locks held.
 */
enum status guest_walk(struct pgm *pgm, const struct walk_context *context, gva_t where, unsigned access,
		       struct walk_result *result) must_check;

/* What a successful walk sets in the entry of step[index]: accessed and dirty bits, as far as the format has them. */
uint64_t guest_walk_marks(const struct walk_context *context, unsigned access, const struct walk_result *result,
			  unsigned index);

/*
 * Copies these parts of a page from L1's memory, or to it, into or from the same places of `copy`: as pgm_read_simple() and
 * pgm_write_simple() do.
 */
enum status pgm_parts(struct pgm *pgm, gpa_t page, void *copy, const struct hv_nested_part *parts, unsigned count,
		      bool write) must_check;

/* The four PDPTEs at CR3 in PAE mode; DENIED when one has reserved bits set (the load must #GP; SDM vol. 3 section 4.4.1). */
enum status guest_load_pdptes(struct pgm *pgm, uint64_t cr3, unsigned physical_bits, uint64_t pdpte[4]) must_check;
