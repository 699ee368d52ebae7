/* SPDX-License-Identifier: Apache-2.0 */
/*
 * From a VMX exit to the neutral one. One table says for each basic reason what it is, which further fields
 * must be read, and who takes them apart. Pure: run.c reads the fields into a struct vmx_raw_exit, unit tests make
 * theirs up.
 */
#pragma once

#include "vmx/quirks.h"

/* Exit qualification of IN and OUT, table 28-5; the port is in bits 31:16. */
#define IO_SIZE UINT64_C(7) /* less 1 */
#define IO_IN BIT(3)
#define IO_STRING BIT(4)
#define IO_REP BIT(5)

#define VIOLATION_ACCESS(q) ((q)&7u) /* table 28-7 */
#define VIOLATION_RIGHTS(q) (((q) >> 3) & 7u)
#define VIOLATION_LINEAR_VALID BIT(7)
#define VIOLATION_FINAL BIT(8)          /* the access itself; clear: a walk of, or an update to, the guest's tables */
#define VIOLATION_NMI_UNBLOCKED BIT(12) /* of a full PML buffer, too */

/*
 * Fields that an exit reason makes meaningful. A rule without NEED_VECTORING is an instruction's: it breaks off no event
 * and leaves nothing to settle, so run.c takes it by a short way.
 */
#define NEED_LENGTH 0x01u
#define NEED_QUALIFICATION 0x02u
#define NEED_VECTORING 0x04u
#define NEED_EVENT 0x08u
#define NEED_GPA 0x10u

struct vmx_raw_exit {
	uint32_t reason, length;
	uint32_t event, event_error;         /* the exit's own event */
	uint32_t vectoring, vectoring_error; /* the one it broke off */
	uint64_t qualification, gpa, gva;
};

struct vmx_exit_rule {
	uint8_t kind;  /* enum hv_exit_kind */
	uint8_t needs; /* NEED_* */
	/* Fills the kind's own part; may change the kind. NULL: there is none. */
	void (*decode)(const struct vmx_raw_exit *raw, struct hv_exit *exit);
};

extern const struct vmx_exit_rule vmx_exit_rules[REASON_COUNT];
/* For reasons not in the table; bit 31 (failed entry) counts as one. */
extern const struct vmx_exit_rule vmx_exit_rule_other;

static inline const struct vmx_exit_rule *vmx_exit_rule(uint32_t reason)
{
	return reason < REASON_COUNT ? &vmx_exit_rules[reason] : &vmx_exit_rule_other;
}

_Static_assert(VIOLATION_ACCESS(7) == (ACCESS_READ | ACCESS_WRITE | ACCESS_EXECUTE), "bits 2:0 are numbered as ours");
_Static_assert(VIOLATION_RIGHTS(7u << 3) == (ACCESS_READ | ACCESS_WRITE | ACCESS_EXECUTE), "and bits 5:3");

/* The kind's own part of an EPT violation, table 28-7. linear: read if there is one or not. */
static inline void vmx_exit_violation(struct hv_exit *exit, uint64_t q, uint64_t where, uint64_t linear)
{
	exit->slat.gpa = gpa(where);
	exit->slat.gva_valid = q & VIOLATION_LINEAR_VALID;
	exit->slat.gva = gva(exit->slat.gva_valid ? linear : 0);
	exit->slat.guest_table = exit->slat.gva_valid && !(q & VIOLATION_FINAL);
	exit->slat.access = quirk_walk_reads(exit->slat.guest_table, VIOLATION_ACCESS(q));
	exit->slat.rights = VIOLATION_RIGHTS(q);
}

/* The same of an EPT misconfiguration, the way to devices. */
static inline void vmx_exit_misconfig(struct hv_exit *exit, uint64_t where)
{
	exit->slat.gpa = gpa(where);
	exit->slat.gva = gva(0);
	exit->slat.gva_valid = exit->slat.guest_table = false;
	exit->slat.access = exit->slat.rights = 0;
}

/* All of exit but bytes[]. What raw holds beyond the rule's needs is not looked at. */
void vmx_exit_decode(const struct vmx_raw_exit *raw, struct hv_exit *exit);

/*
 * Did an IRET unblock NMIs and then fail for this exit, so that they must be blocked again before the guest
 * goes on? Intel SDM vol. 3 section 28.2.3.
 */
bool vmx_exit_undoes_iret(const struct vmx_raw_exit *raw, const struct hv_exit *exit);

/*
 * Exits that need no one's decision: the guest gets this event. INT1, which the exception bitmap's #DB catches
 * along; RDPMC, which faults for every counter of a processor that has none (SDM vol. 2, RDPMC).
 */
bool vmx_exit_reflects(const struct vmx_raw_exit *raw, struct hv_event *event);

/* A failed VM instruction or entry in words; NULL when the manual knows no such number. */
const char *vmx_instruction_error_text(uint32_t number);                     /* section 31.4 */
const char *vmx_entry_failure_text(uint32_t reason, uint64_t qualification); /* section 27.8 */
