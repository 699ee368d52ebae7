/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The call by which a test guest has one second-level entry changed for one access (test_call.h): what PGM makes of the
 * entry (pgm/slat/judge.h) is compared with what the processor does (tests/guests/slat.c). The changed entry is in
 * the tables only while this function runs; the guest is entered from here. PGM lets nothing through by which the guest could
 * reach memory that isn't its own.
 */
#include "arch/x86_64/features.h"
#include "pgm/slat/judge.h"
#include "vm/vcpu/test_call.h"
#include "vm/vcpu/vcpu.h"

#define MOST_ENTRIES 64u /* host interrupts and the like may come between */

static bool nothing_of_the_guest(enum hv_exit_kind kind)
{
	return kind == EXIT_NOTHING || kind == EXIT_HOST_INTERRUPT || kind == EXIT_SLICE;
}

/* Lets the guest go on to its next exit of its own; false: there was none. */
static bool run_to_exit(struct vcpu *vcpu)
{
	for (unsigned i = 0; i < MOST_ENTRIES; i++) {
		vcpu->hv->flush_pending = true;
		if (!vcpu_enter_alone(vcpu))
			return false;
		if (!nothing_of_the_guest(vcpu->hv->exit.kind))
			return true;
	}
	return false;
}

static enum test_slat_verdict verdict_of(const struct vcpu *vcpu)
{
	switch (vcpu->hv->exit.kind) {
	case EXIT_HYPERCALL: return TEST_SLAT_FINE;
	case EXIT_SLAT_FAULT: return TEST_SLAT_VIOLATION;
	case EXIT_SLAT_MISCONFIG: return TEST_SLAT_MISCONFIGURED;
	default: return TEST_SLAT_OTHER;
	}
}

/* The code behind the call is fetched by the same tables; its right comes first. */
static enum slat_verdict judge(const struct vcpu *vcpu, const struct slat_limits *limits, gpa_t where, unsigned access)
{
	const struct pgm *pgm = vcpu->machine->pgm;
	enum slat_verdict fetch = pgm_slat_judge(pgm, limits, gpa(vcpu->hv->rip), ACCESS_EXECUTE);

	return fetch != SLAT_FINE ? fetch : pgm_slat_judge(pgm, limits, where, access);
}

/* false: the guest has not run. */
static bool try_entry(struct vcpu *vcpu, struct test_slat *t)
{
	const struct slat_limits limits = { .physical_bits = features.physical_bits,
					    .execute_only = hv_capabilities.slat_execute_only,
					    .leaf_2m = hv_capabilities.slat_2m,
					    .leaf_1g = hv_capabilities.slat_1g };
	struct pgm *pgm = vcpu->machine->pgm;
	unsigned access = t->access & (ACCESS_READ | ACCESS_WRITE | ACCESS_EXECUTE);
	struct slat_patch patch = { 0 };
	enum status status = BUSY;
	bool ran;

	if (cpu_count() == 1)
		status = pgm_slat_patch(pgm, &limits, gpa(t->where), t->level, t->mask, t->bits, &patch);
	t->old = patch.old;
	t->value = patch.value;
	if (status != OK) {
		t->told = t->seen = status == NOT_FOUND ? TEST_SLAT_ABSENT : TEST_SLAT_REFUSED;
		return false;
	}
	t->told = (uint32_t)judge(vcpu, &limits, gpa(t->where), access);
	ran = run_to_exit(vcpu);
	pgm_slat_restore(pgm, &patch);
	vcpu->hv->flush_pending = true;
	t->seen = ran ? verdict_of(vcpu) : TEST_SLAT_AGAIN;
	t->exit = vcpu->hv->exit.raw_reason;
	return ran;
}

enum exit_action test_call_slat(struct vcpu *vcpu, gpa_t block)
{
	struct pgm *pgm = vcpu->machine->pgm;
	struct test_slat t;
	bool ran;

	if (pgm_read(pgm, block, &t, sizeof(t), ORIGIN_DEVICE, NULL) != OK)
		return vcpu_inject_ud(vcpu);
	if (!vcpu_skip(vcpu))
		return ACTION_ENTER;
	ran = try_entry(vcpu, &t);
	if (pgm_write(pgm, block, &t, sizeof(t), ORIGIN_DEVICE, NULL) != OK)
		vcpu_inject_ud(vcpu);
	/* Any other call than DONE comes again, from the run loop; so does the access, with the entry that belongs there. */
	if (ran && t.seen == TEST_SLAT_FINE && (uint32_t)vcpu->hv->gpr[GPR_RAX] == TEST_CALL_DONE)
		(void)vcpu_skip(vcpu);
	return ran && t.seen == TEST_SLAT_OTHER ? vcpu_exit_handlers[vcpu->hv->exit.kind](vcpu) : ACTION_ENTER;
}
