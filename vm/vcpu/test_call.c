/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Calls by which a test guest has the hypervisor say beforehand what the processor is about to do, so that the two can be
 * compared (tests/guests/mmu.c). They exist only in machines with test_ports = on and change nothing but the caller's block.
 */
#include "vm/vcpu/test_call.h"

#include <string.h>

#include "pgm/walk.h"
#include "vm/vcpu/vcpu.h"

/* The vcpu's walk context as it would be after MOV to CR3; false: that is #GP. The registers stay. */
static bool context_with(struct vcpu *vcpu, uint64_t cr3, struct walk_context *c)
{
	struct hv_vcpu *h = vcpu->hv;
	uint64_t old = h->cr3, pdpte[ARRAY_SIZE(h->pdpte)];
	bool flush = h->flush_pending, ok;

	memcpy(pdpte, h->pdpte, sizeof(pdpte));
	ok = vcpu_write_cr3(vcpu, cr3);
	vcpu_walk_context(vcpu, c);
	memcpy(h->pdpte, pdpte, sizeof(pdpte));
	h->cr3 = old;
	h->flush_pending = flush;
	return ok;
}

static enum test_verdict predict(struct vcpu *vcpu, struct test_walk *t)
{
	unsigned access = t->access == TEST_ACCESS_SYSTEM ? ACCESS_READ | WALK_SYSTEM
							  : t->access & (ACCESS_READ | ACCESS_WRITE | ACCESS_EXECUTE);
	struct walk_result r = { 0 };
	struct walk_context c;
	enum status status;

	if (!context_with(vcpu, t->cr3, &c))
		return TEST_WALK_BAD_CR3;
	c.cpl = t->cpl & 3;
	c.rflags = t->rflags;
	status = guest_walk(vcpu->machine->pgm, &c, gva(t->gva), access | WALK_TRY, &r);
	t->gpa = r.gpa.v;
	t->error_code = r.error_code;
	t->steps = r.steps;
	for (unsigned i = 0; i < r.steps; i++) {
		t->step[i].where = r.step[i].where.v;
		t->step[i].marks = status == OK ? guest_walk_marks(&c, access, &r, i) : 0;
	}
	return status == OK            ? TEST_WALK_OK
	       : status == GUEST_FAULT ? TEST_WALK_PAGE_FAULT
	       : status == BAD_VALUE   ? TEST_WALK_PROTECTION
				       : TEST_WALK_OTHER;
}

/* Each call reads its block once and writes it back. */
static enum status call_walk(struct vcpu *vcpu, gpa_t block)
{
	struct pgm *pgm = vcpu->machine->pgm;
	struct test_walk t;

	TRY(pgm_read(pgm, block, &t, sizeof(t), ORIGIN_DEVICE, NULL));
	t.gpa = t.error_code = t.steps = 0;
	t.verdict = predict(vcpu, &t);
	return pgm_write(pgm, block, &t, sizeof(t), ORIGIN_DEVICE, NULL);
}

bool test_call(struct vcpu *vcpu, enum exit_action *action)
{
	struct hv_vcpu *h = vcpu->hv;
	gpa_t block = gpa((uint32_t)h->gpr[GPR_RBX]);
	enum status status = OK;

	if (SEG_ATTR_DPL(h->segment[SEG_SS].attributes))
		return false;
	*action = ACTION_ENTER;
	switch ((uint32_t)h->gpr[GPR_RAX]) {
	case TEST_CALL_WALK: status = call_walk(vcpu, block); break;
	case TEST_CALL_SLAT: *action = test_call_slat(vcpu, block); return true;
	case TEST_CALL_DONE: break;
	default: return false;
	}
	if (status != OK)
		vcpu_inject_ud(vcpu);
	else
		(void)vcpu_skip(vcpu);
	return true;
}
