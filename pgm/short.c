/* SPDX-License-Identifier: Apache-2.0 */
/* Where second-level faults come in: most go the short way (short.h), the others the long one (fault.c). */
#include "pgm/short.h"

enum pgm_verdict pgm_take_fault(struct pgm *pgm, gpa_t where, unsigned access, bool again,
				struct pgm_vcpu_counters *count)
{
	struct block *b = block_find(pgm, where);
	enum fault_cause cause;

	count->faults++;
	if (unlikely(!b || block_kind(b) == BLOCK_UNTOUCHED))
		return fault_long(pgm, b, where, access, again, count);
	cause = fault_short(pgm, count->local ? count->local : &pgm->common, b, where, access);
	if (unlikely(cause == FAULT_CAUSES))
		return fault_long(pgm, b, where, access, again, count);
	count->last_cause = cause;
	count->cause[cause]++;
	count->resumed++;
	return PGM_RESUME;
}
