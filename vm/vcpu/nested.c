/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The glue between the run loop and a backend's nested virtualisation (arch/x86_64/hv_nested.h): which level runs, on which
 * second-level tables, and what happens at L2's exits before and after the ordinary handlers have them.
 *
 * The level. Only sync() makes another one vcpu->hv, right after the backend has changed state->in_l2. Whoever may have caused that
 * returns ACTION_SWITCH, or is followed by a look at vcpu->hv: a backend's run() belongs to one level.
 *
 * The tables. Where L1 has tables of its own for L2, L2 runs on the shadow of them, kept by the page manager for all vcpus
 * that use the same; else on L1's own. A shadow that can't be had for want of memory is taken up again at the next fault: until
 * then L2 runs on tables in which nothing is present.
 *
 * An exception that Quire itself raises in L2 (#GP of a control register, a page fault of the emulator, a single step) is L1's if
 * L1 intercepts its vector, as one raised by the processor would be.
 */
#include "vm/vcpu/nested.h"

#include "arch/x86_64/cpu.h"
#include "pgm/shadow/shadow.h"
#include "vm/vcpu/enter.h"

static const struct hv_nested_ops *ops(void)
{
	return hv->nested;
}

/* ---- the tables ---- */

static bool take_root(struct vcpu *vcpu)
{
	struct vcpu_nested *n = vcpu->nested;

	if (shadow_root_get(vcpu->machine->pgm, &n->state->slat, &n->root) != OK) {
		n->root = NULL;
		hv->set_slat(n->state->l2, pgm_empty_root());
		return false;
	}
	hv->set_slat(n->state->l2, shadow_root_address(n->root));
	return true;
}

static void drop_root(struct vcpu *vcpu)
{
	if (vcpu->nested->root)
		shadow_root_put(vcpu->machine->pgm, vcpu->nested->root);
	vcpu->nested->root = NULL;
}

static void choose_tables(struct vcpu *vcpu)
{
	struct vcpu_nested *n = vcpu->nested;

	n->state->slat_changed = false;
	drop_root(vcpu);
	if (n->state->slat.on)
		(void)take_root(vcpu); /* without one its first access faults, and tries again */
	else
		hv->set_slat(n->state->l2, vcpu->l1->slat_root);
}

void vcpu_nested_root(struct vcpu *vcpu)
{
	if (!vcpu->nested->state->slat.on)
		hv->set_slat(vcpu->nested->state->l2, vcpu->l1->slat_root);
}

/* ---- the level ---- */

void vcpu_nested_deadline(struct vcpu *vcpu)
{
	struct vcpu_nested *n = vcpu->nested;

	n->slice = vcpu->hv->slice_deadline;
	if (vcpu_in_l2(vcpu))
		vcpu->hv->slice_deadline = min_u64(n->slice, n->state->deadline);
}

static void sync(struct vcpu *vcpu)
{
	struct vcpu_nested *n = vcpu->nested;
	struct hv_nested *s = n->state;
	struct hv_vcpu *from = vcpu->hv, *to = s->in_l2 ? s->l2 : s->l1;

	if (s->in_l2 && s->slat_changed)
		choose_tables(vcpu);
	if (from == to)
		return;
	from->want_interrupt_window = from->want_nmi_window = false;
	to->slice_deadline = s->in_l2 ? min_u64(n->slice, s->deadline) : n->slice;
	vcpu->hv = to;
	n->entries += s->in_l2;
	if (!s->in_l2)
		n->to_l1[from->exit.kind]++;
}

/* ---- life ---- */

enum status vcpu_nested_create(struct vcpu *vcpu)
{
	struct vcpu_nested *n = ops() ? heap_alloc(sizeof(*n)) : NULL;
	enum status status;

	if (!n)
		return ops() ? NO_MEMORY : NOT_SUPPORTED;
	vcpu_nested_env(vcpu, &n->env);
	status = ops()->create(vcpu->l1, &n->env, vcpu, &n->state);
	if (status != OK) {
		heap_free(n, sizeof(*n));
		return status;
	}
	vcpu->nested = n;
	n->state->l2->owner = vcpu;
	n->state->l2->exited = vcpu_exited_l2;
	n->slice = 0;
	vcpu_nested_root(vcpu);
	return OK;
}

void vcpu_nested_destroy(struct vcpu *vcpu)
{
	drop_root(vcpu);
	ops()->destroy(vcpu->nested->state);
	heap_free(vcpu->nested, sizeof(*vcpu->nested));
	vcpu->nested = NULL;
}

void vcpu_nested_reset(struct vcpu *vcpu)
{
	drop_root(vcpu);
	ops()->reset(vcpu->nested->state);
	vcpu->hv = vcpu->l1;
	vcpu->nested->outer_waits = false;
}

bool vcpu_through_outer(const struct vcpu *vcpu, gpa_t *where)
{
	struct hv_nested_fault fault;

	return shadow_walk(vcpu->machine->pgm, &vcpu->nested->state->slat, *where, ACCESS_READ, where, &fault) == OK;
}

/* ---- exits ---- */

/* What held an INIT up may have ended. */
static void try_init_again(struct vcpu *vcpu)
{
	if (unlikely(vcpu->init_pending))
		__atomic_fetch_or(&vcpu->requests, REQUEST_EVENT, __ATOMIC_RELAXED);
}

enum exit_action exit_nested(struct vcpu *vcpu)
{
	struct vcpu_nested *n = vcpu->nested;
	const struct hv_event *fault;

	if (!n || vcpu_in_l2(vcpu)) {
		vcpu_inject_ud(vcpu);
		return ACTION_ENTER;
	}
	if (!vcpu->hv->exit.length && !vcpu_find_length(vcpu))
		return ACTION_ENTER;
	try_init_again(vcpu);
	switch (ops()->instruction(n->state)) {
	case NESTED_DONE: (void)vcpu_skip(vcpu); return ACTION_ENTER;
	case NESTED_FAULT:
		fault = &n->state->fault;
		vcpu_inject_exception(vcpu, fault->vector, fault->has_error_code, fault->error_code);
		return ACTION_ENTER;
	case NESTED_AGAIN: return vcpu_park(vcpu, "no memory for an instruction of its hypervisor's");
	default: sync(vcpu); return ACTION_SWITCH;
	}
}

static void reflect_slat(struct vcpu *vcpu, struct hv_nested_fault *fault)
{
	ops()->reflect_slat(vcpu->nested->state, fault);
	sync(vcpu);
}

bool vcpu_reflect_outer(struct vcpu *vcpu)
{
	struct vcpu_nested *n = vcpu->nested;

	if (!n || !n->outer_waits)
		return false;
	n->outer_waits = false;
	reflect_slat(vcpu, &n->outer);
	return true;
}

/* L2 on L1's tables: their shadow lacks something, or L1's tables refuse. */
static enum exit_action l2_slat(struct vcpu *vcpu)
{
	struct vcpu_nested *n = vcpu->nested;
	const struct hv_exit *exit = &vcpu->hv->exit;
	unsigned access = exit->kind == EXIT_SLAT_FAULT ? exit->slat.access : ACCESS_READ;
	struct hv_nested_fault fault = { 0 };

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
	reflect_slat(vcpu, &fault);
	return ACTION_SWITCH;
}

/* What a handler or the emulator has put there to be injected: L1's, if L1 wants it. */
static void offer_exception(struct vcpu *vcpu)
{
	struct hv_vcpu *h = vcpu->hv;
	struct hv_event event = h->inject;

	h->inject.kind = EVENT_NONE;
	if (!vcpu_nested_takes_exception(vcpu, &event))
		h->inject = event;
}

static enum exit_action l2_exit(struct vcpu *vcpu)
{
	struct hv_vcpu *h = vcpu->hv;
	bool broken_off = h->exit.interrupted.kind != EVENT_NONE;
	bool slat = h->exit.kind == EXIT_SLAT_FAULT || h->exit.kind == EXIT_SLAT_MISCONFIG;
	enum exit_action action = ACTION_ENTER;

	vcpu->nested->exits[h->exit.kind]++;
	vcpu->nested->outer_waits = false;
	if (slat && vcpu->nested->state->slat.on) {
		action = l2_slat(vcpu);
	} else if (ops()->exit(vcpu->nested->state)) {
		sync(vcpu);
		return ACTION_SWITCH;
	} else if (h->exit.kind == EXIT_HYPERCALL) {
		vcpu_inject_ud(vcpu); /* Quire's own are for L1 */
	} else {
		action = vcpu_handle_exit(vcpu);
	}
	if (vcpu->hv == h && !broken_off && h->inject.kind == EVENT_EXCEPTION)
		offer_exception(vcpu);
	/* Met on the way to an operand, a task's segment, the instruction itself: to come again would meet it for ever. */
	if (vcpu->hv == h)
		(void)vcpu_reflect_outer(vcpu);
	/* A single step over its HLT has led to L1, which isn't halted. */
	return vcpu->hv != h && (action == ACTION_ENTER || action == ACTION_HALT) ? ACTION_SWITCH : action;
}

bool vcpu_exited_l2(struct hv_vcpu *h)
{
	struct vcpu *vcpu = h->owner;

	come_back(vcpu, h->exit.kind);
	try_init_again(vcpu);
	vcpu->action = l2_exit(vcpu);
	if (vcpu->action != ACTION_ENTER || !go_on(vcpu))
		return false;
	if (likely(vcpu->hv == h))
		return true;
	count_as_outside(vcpu); /* an interrupt has led to L1 */
	return false;
}

/* ---- what else asks which level it is ---- */

bool vcpu_nested_takes_event(struct vcpu *vcpu, enum hv_nested_event what)
{
	struct hv_vcpu *h = vcpu->hv;
	bool *window = what == NESTED_INTERRUPT ? &h->want_interrupt_window : &h->want_nmi_window;

	switch (ops()->pending(vcpu->nested->state, what)) {
	case NESTED_INJECT: return false;
	case NESTED_WINDOW: *window = true; return true;
	case NESTED_TAKEN:
		*(what == NESTED_INIT ? &vcpu->init_pending : &vcpu->nmi_pending) = false;
		__attribute__((fallthrough));
	case NESTED_REFLECTED: sync(vcpu); return true;
	default: *window = false; return true;
	}
}

bool vcpu_nested_takes_exception(struct vcpu *vcpu, const struct hv_event *event)
{
	const struct hv_vcpu *h = vcpu->hv;
	uint64_t detail = event->vector == VECTOR_PF ? h->cr2 : event->vector == VECTOR_DB ? h->dr[6] : 0;

	if (!vcpu_in_l2(vcpu) || !ops()->exception(vcpu->nested->state, event, detail))
		return false;
	sync(vcpu);
	return true;
}
