/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The second-level tables of a guest's guest, and what it meets on them. Where L1 has tables of its own for L2, L2 runs on the shadow of
 * them, kept by the page manager for all vcpus that use the same; else on L1's own. A shadow that can't be had for want of memory is
 * taken up again at the next fault: until then L2 runs on tables in which nothing is present.
 *
 * One page of L1's may be no memory for L2, but the APIC that L1's processor plays (slat.trapped): L1 gets an exit for it, or the access
 * is carried out elsewhere.
 */
#include "pgm/shadow/shadow.h"
#include "vm/vcpu/nested.h"

_Static_assert(SHADOW_PLACES > MACHINE_MAX_VCPUS && MACHINE_MAX_VCPUS <= 64, "each vcpu may have a root of its own");

static bool take_root(struct vcpu *vcpu)
{
	struct vcpu_nested *n = vcpu->nested;

	if (shadow_root_get(vcpu->machine->pgm, &n->state->slat, vcpu->id, &n->root) != OK) {
		n->root = NULL;
		hv->set_slat(n->state->l2, pgm_empty_root());
		return false;
	}
	hv->set_slat(n->state->l2, shadow_root_address(n->root));
	return true;
}

void vcpu_nested_drop_root(struct vcpu *vcpu)
{
	if (vcpu->nested->root)
		shadow_root_put(vcpu->machine->pgm, vcpu->nested->root);
	vcpu->nested->root = NULL;
}

void vcpu_nested_choose_tables(struct vcpu *vcpu)
{
	struct vcpu_nested *n = vcpu->nested;

	n->state->slat_changed = false;
	vcpu_nested_drop_root(vcpu);
	if (hv_nested_composed(&n->state->slat))
		(void)take_root(vcpu); /* without one its first access faults, and tries again */
	else
		hv->set_slat(n->state->l2, vcpu->l1->slat_root);
}

void vcpu_nested_root(struct vcpu *vcpu)
{
	if (!hv_nested_composed(&vcpu->nested->state->slat))
		hv->set_slat(vcpu->nested->state->l2, vcpu->l1->slat_root);
}

bool vcpu_through_outer(const struct vcpu *vcpu, gpa_t *where)
{
	struct hv_nested_fault fault;

	return shadow_walk(vcpu->machine->pgm, &vcpu->nested->state->slat, *where, ACCESS_READ, where, &fault) == OK;
}

/* An access to the APIC's page tells of its instruction's length (as processors do; the manual leaves it open). */
static void reflect_slat(struct vcpu *vcpu, struct hv_nested_fault *fault)
{
	if (fault->trapped && vcpu->hv->exit.interrupted.kind == EVENT_NONE && !(fault->access & ACCESS_EXECUTE))
		(void)vcpu_measure(vcpu); /* without a #UD, which might be L1's */
	hv->nested->reflect_slat(vcpu->nested->state, fault);
	vcpu_nested_sync(vcpu);
}

bool vcpu_reflect_outer(struct vcpu *vcpu)
{
	struct vcpu_nested *n = vcpu->nested;
	struct hv_nested_fault fault;

	if (!n || !n->outer_waits)
		return false;
	n->outer_waits = false;
	fault = n->outer; /* looking for the instruction may meet another */
	reflect_slat(vcpu, &fault);
	return true;
}

bool vcpu_nested_redirect(struct vcpu *vcpu, const struct hv_nested_fault *fault, gpa_t *where)
{
	return !fault->guest_table && hv->nested->redirect(vcpu->nested->state, fault, where);
}

static enum exit_action emulate_redirected(struct vcpu *vcpu)
{
	enum exit_action action = exit_emulate(vcpu);

	if (action != ACTION_ENTER || !hv->nested->redirected(vcpu->nested->state))
		return action;
	vcpu_nested_sync(vcpu);
	return ACTION_SWITCH;
}

/* L2 on L1's tables: their shadow lacks something, or L1's tables refuse. */
enum exit_action vcpu_nested_slat(struct vcpu *vcpu)
{
	struct vcpu_nested *n = vcpu->nested;
	const struct hv_exit *exit = &vcpu->hv->exit;
	unsigned access = exit->kind == EXIT_SLAT_FAULT ? exit->slat.access : ACCESS_READ;
	struct hv_nested_fault fault = { 0 };
	gpa_t where;

	if (exit->kind == EXIT_SLAT_FAULT)
		vcpu_count_fault(vcpu);
	if (exit->interrupted.kind != EVENT_NONE)
		vcpu_recover_event(vcpu);
	if (!n->root && !take_root(vcpu))
		return vcpu_park(vcpu, "no memory for a shadow of its tables");
	switch (shadow_fault(vcpu->machine->pgm, n->root, exit->slat.gpa, access, exit->slat.guest_table, &fault)) {
	case SHADOW_RESUME: vcpu_got_on(vcpu); return ACTION_ENTER;
	case SHADOW_EMULATE: return exit_emulate(vcpu);
	case SHADOW_NO_MEMORY: return vcpu_park(vcpu, "no memory for its guest");
	default: break;
	}
	fault.linear = exit->slat.gva;
	fault.linear_valid = exit->slat.gva_valid;
	if (fault.trapped && exit->interrupted.kind == EVENT_NONE && vcpu_nested_redirect(vcpu, &fault, &where))
		return emulate_redirected(vcpu);
	reflect_slat(vcpu, &fault);
	return ACTION_SWITCH;
}
