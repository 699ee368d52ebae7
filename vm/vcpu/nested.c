/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The glue between the run loop and a backend's nested virtualisation (arch/x86_64/hv_nested.h): which level runs, and what happens at L2's exits before and after the ordinary handlers have them.
 *
 * The level. Only vcpu_nested_sync() makes another one vcpu->hv, right after the backend has changed state->in_l2. Whoever may have caused that
 * returns ACTION_SWITCH, or is followed by a look at vcpu->hv: a backend's run() belongs to one level.
 *
 * An exception that Quire itself raises in L2 (#GP of a control register, a page fault of the emulator, a single step) is L1's if
 * L1 intercepts its vector, as one raised by the processor would be.
 */
#include "vm/vcpu/nested.h"

#include "vm/vcpu/enter.h"

/* ---- the level ---- */

void vcpu_nested_deadline(struct vcpu *vcpu)
{
	struct vcpu_nested *n = vcpu->nested;

	n->slice = vcpu->hv->slice_deadline;
	if (vcpu_in_l2(vcpu))
		vcpu->hv->slice_deadline = min_u64(n->slice, n->state->deadline);
}

void vcpu_nested_sync(struct vcpu *vcpu)
{
	struct vcpu_nested *n = vcpu->nested;
	struct hv_nested *s = n->state;
	struct hv_vcpu *from = vcpu->hv, *to = s->in_l2 ? s->l2 : s->l1;

	if (s->in_l2 && s->slat_changed)
		vcpu_nested_choose_tables(vcpu);
	if (from == to)
		return;
	from->want_interrupt_window = from->want_nmi_window = false;
	to->slice_deadline = s->in_l2 ? min_u64(n->slice, s->deadline) : n->slice;
	vcpu->hv = to;
	if (vcpu->activity == VCPU_HALTED)
		vcpu->activity = VCPU_RUNNABLE; /* it's the other level that has halted */
	n->entries += s->in_l2;
	if (!s->in_l2)
		n->to_l1[from->exit.kind]++;
}

/* ---- life ---- */

enum status vcpu_nested_create(struct vcpu *vcpu)
{
	struct vcpu_nested *n = hv->nested ? heap_alloc(sizeof(*n)) : NULL;
	enum status status;

	if (!n)
		return hv->nested ? NO_MEMORY : NOT_SUPPORTED;
	vcpu_nested_env(vcpu, &n->env);
	status = hv->nested->create(vcpu->l1, &n->env, vcpu, &n->state);
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
	vcpu_nested_drop_root(vcpu);
	hv->nested->destroy(vcpu->nested->state);
	heap_free(vcpu->nested, sizeof(*vcpu->nested));
	vcpu->nested = NULL;
}

void vcpu_nested_reset(struct vcpu *vcpu)
{
	vcpu_nested_drop_root(vcpu);
	hv->nested->reset(vcpu->nested->state);
	vcpu->hv = vcpu->l1;
	vcpu->nested->outer_waits = false;
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
	enum hv_nested_step step;

	if (!n || vcpu_in_l2(vcpu))
		return vcpu_inject_ud(vcpu);
	if (!vcpu->hv->exit.length && !vcpu_find_length(vcpu))
		return ACTION_ENTER;
	try_init_again(vcpu);
	step = hv->nested->instruction(n->state);
	if (unlikely(step == NESTED_AGAIN))
		return vcpu_park(vcpu, "no memory for an instruction of its hypervisor's");
	vcpu_got_on(vcpu);
	switch (step) {
	case NESTED_DONE: return exit_skip(vcpu);
	case NESTED_FAULT:
		fault = &n->state->fault;
		vcpu_inject_exception(vcpu, fault->vector, fault->has_error_code, fault->error_code);
		return ACTION_ENTER;
	default: vcpu_nested_sync(vcpu); break;
	}
	if (unlikely(n->state->awaits_startup))
		vcpu->activity = VCPU_WAIT_SIPI;
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
	if (slat && vcpu_outer(vcpu)) {
		action = vcpu_nested_slat(vcpu);
	} else if (hv->nested->exit(vcpu->nested->state)) {
		vcpu_nested_sync(vcpu);
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

	switch (hv->nested->pending(vcpu->nested->state, what)) {
	case NESTED_INJECT: return false;
	case NESTED_WINDOW: *window = true; return true;
	case NESTED_TAKEN:
		*(what == NESTED_INIT ? &vcpu->init_pending : &vcpu->nmi_pending) = false;
		__attribute__((fallthrough));
	case NESTED_REFLECTED: vcpu_nested_sync(vcpu); return true;
	default: *window = false; return true;
	}
}

void vcpu_nested_startup(struct vcpu *vcpu, uint8_t vector)
{
	hv->nested->startup(vcpu->nested->state, vector);
	vcpu_nested_sync(vcpu);
}

bool vcpu_nested_takes_exception(struct vcpu *vcpu, const struct hv_event *event)
{
	const struct hv_vcpu *h = vcpu->hv;
	uint64_t detail = event->vector == VECTOR_PF ? h->cr2 : event->vector == VECTOR_DB ? h->dr[6] : 0;

	if (!vcpu_in_l2(vcpu) || !hv->nested->exception(vcpu->nested->state, event, detail))
		return false;
	vcpu_nested_sync(vcpu);
	return true;
}
