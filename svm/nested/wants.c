/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Which exits are L1's, and what it reads of a nested page fault. Pure. AMD APM vol. 2 sections 15.9, 15.12 - 15.14, 15.25.6,
 * appendix C.
 */
#include "svm/nested/nested.h"

/* From INTR on, each code is a bit of the intercepts, in their order. */
#define FIRST_BY_BIT SVM_EXIT_INTR
#define BIT_CODES (3 * 32u)

_Static_assert(SVM_EXIT_VMRUN - FIRST_BY_BIT == 32 && SVM_EXIT_INVLPGB - FIRST_BY_BIT == 64,
	       "codes follow the intercepts");

bool nested_wants(const struct vmcb_control *c, uint64_t code)
{
	unsigned bit = code & 31u;

	if (code < SVM_EXIT_CR_WRITE)
		return c->cr_read >> bit & 1;
	if (code < SVM_EXIT_DR_READ)
		return c->cr_write >> (bit - 16) & 1;
	if (code < SVM_EXIT_DR_WRITE)
		return c->dr_read >> bit & 1;
	if (code < SVM_EXIT_EXCEPTION)
		return c->dr_write >> (bit - 16) & 1;
	if (code < FIRST_BY_BIT)
		return c->exceptions >> bit & 1;
	if (code == SVM_EXIT_MWAIT_ARMED)
		return c->intercept[1] & (INTERCEPT2_MWAIT | INTERCEPT2_MWAIT_ARMED);
	return code < FIRST_BY_BIT + BIT_CODES && (c->intercept[(code - FIRST_BY_BIT) / 32] >> bit & 1);
}

uint64_t nested_fault_info(const struct hv_nested_fault *fault, bool no_execute)
{
	/* The walk of L2's own tables counts as a user's write: section 15.25.5. */
	bool write = (fault->access & ACCESS_WRITE) || fault->guest_table;
	uint64_t info = NPF_USER | (fault->guest_table ? NPF_GUEST_TABLE : NPF_FINAL);

	if (fault->present || fault->misconfigured)
		info |= NPF_PRESENT;
	if (write)
		info |= NPF_WRITE;
	if (fault->misconfigured)
		info |= NPF_RESERVED;
	if ((fault->access & ACCESS_EXECUTE) && no_execute && !fault->guest_table)
		info |= NPF_FETCH;
	return info;
}
