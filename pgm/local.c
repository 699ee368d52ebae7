/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a vcpu has of its own in its machine's PGM, struct pgm_local: from its creation up to the machine's end. Its frames come with its
 * first faults, and go when it stops running.
 */
#include "pgm/internal.h"

void local_init(struct pgm *pgm, struct pgm_local *l, unsigned mark)
{
	lock_init(&l->handy.lock, RANK_RESERVE, "handy");
	l->handy.mark = mark;
	l->pgm = pgm;
}

enum status pgm_vcpu_open(struct pgm *pgm, struct pgm_vcpu_counters *counters)
{
	struct pgm_local *l = heap_alloc(sizeof(*l));
	enum status status = l ? account_adjust(&pgm->account, ACCOUNT_BASE, HANDY_REFILL) : NO_MEMORY;

	if (status != OK) {
		heap_free(l, sizeof(*l));
		return status;
	}
	local_init(pgm, l, 1);
	counters->local = l;
	HOLD(&pgm->lock);
	l->next = pgm->common.next;
	__atomic_store_n(&pgm->common.next, l, __ATOMIC_RELEASE);
	return OK;
}

void pgm_vcpu_leave(const struct pgm_vcpu_counters *counters)
{
	if (counters->local)
		handy_return(counters->local);
}

void locals_destroy(struct pgm *pgm)
{
	struct pgm_local *l = pgm->common.next, *next;

	for (pgm->common.next = NULL; l; l = next) {
		next = l->next;
		heap_free(l, sizeof(*l));
	}
}
