/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A vcpu that is a hypervisor (L1) and runs a guest of its own (L2): what the run loop and the exits ask of nested.c. With `nested = off`
 * vcpu->nested is NULL, each question is one comparison off the common paths, and none on them.
 *
 * On the vcpu's own CPU, unless it says otherwise.
 */
#ifndef VM_VCPU_NESTED_H
#define VM_VCPU_NESTED_H

#include "arch/x86_64/hv_nested.h"
#include "vm/vcpu/vcpu.h"

struct shadow_root;

struct vcpu_nested {
	struct hv_nested *state;
	struct hv_nested_env env;
	struct shadow_root *root;     /* of the tables that L2 runs on; NULL: none, or L1 has none for it */
	struct hv_nested_fault outer; /* what L1's tables had against the emulator, with outer_linear */
	bool outer_waits;
	uint64_t slice;   /* vcpu's own deadline; hv's is the earlier of it and the backend's */
	uint64_t entries; /* of L2 by L1 */
	uint64_t exits[EXIT_KIND_COUNT], to_l1[EXIT_KIND_COUNT]; /* of L2, and those that L1 got */
};

/* Makes vcpu->nested. vcpu->l1 and the machine's CPUID are there. NO_MEMORY; NOT_SUPPORTED: this processor or backend can't. */
enum status vcpu_nested_create(struct vcpu *vcpu) must_check;
void vcpu_nested_destroy(struct vcpu *vcpu);
/* nested_env.c: what the backend is given to ask of this vcpu's machine. */
void vcpu_nested_env(const struct vcpu *vcpu, struct hv_nested_env *env);
/* Power-on or INIT: L1 runs, the extension is off. */
void vcpu_nested_reset(struct vcpu *vcpu);

static inline bool vcpu_in_l2(const struct vcpu *vcpu)
{
	return vcpu->hv != vcpu->l1;
}

/* Does L2 run, on tables composed of L1's? */
static inline bool vcpu_outer(const struct vcpu *vcpu)
{
	return vcpu_in_l2(vcpu) && hv_nested_composed(&vcpu->nested->state->slat);
}

/* What the backend says of the level is made so; of L1's tables, too. */
void vcpu_nested_sync(struct vcpu *vcpu);

/* nested_tables.c: L2 runs on what slat says; on nothing of L1's any more; its fault on composed tables. */
void vcpu_nested_choose_tables(struct vcpu *vcpu);
void vcpu_nested_drop_root(struct vcpu *vcpu);
enum exit_action vcpu_nested_slat(struct vcpu *vcpu);
/* L1's tables on one address of L2's that is read, for a walk that knows nothing of them. false: they refuse. */
bool vcpu_through_outer(const struct vcpu *vcpu, gpa_t *where);
/* The emulator met slat.trapped: true, and it goes to *where. */
bool vcpu_nested_redirect(struct vcpu *vcpu, const struct hv_nested_fault *fault, gpa_t *where);
/* hv->exited of l2. */
bool vcpu_exited_l2(struct hv_vcpu *h);
enum exit_action exit_nested(struct vcpu *vcpu);
/* The emulator met a refusal of L1's tables: L1 gets its exit. False: it was something else. */
bool vcpu_reflect_outer(struct vcpu *vcpu);
/* After run_timers(): the slice ends no later than the backend wants to be asked. */
void vcpu_nested_deadline(struct vcpu *vcpu);
/* Time stamps of this CPU are so much less than those of the one that L2 was on. */
static inline void vcpu_nested_follow(struct vcpu_nested *n, uint64_t less)
{
	n->state->deadline -= n->state->deadline < UINT64_MAX ? less : 0;
	n->state->timer -= n->state->timer < UINT64_MAX ? less : 0;
}

/* L1's own second-level root has moved (A20): L2 without tables of L1's follows. */
void vcpu_nested_root(struct vcpu *vcpu);

/* Is this event not to be delivered the ordinary way now: L1 has got an exit for it, or it waits? */
bool vcpu_nested_takes_event(struct vcpu *vcpu, enum hv_nested_event what);
/* L2 waits for a SIPI, which has come: L1 runs. */
void vcpu_nested_startup(struct vcpu *vcpu, uint8_t vector);
/* L1 has got an exit for this exception, which the running level would have met. */
bool vcpu_nested_takes_exception(struct vcpu *vcpu, const struct hv_event *event);
/* What L2 or L1 may load; true without nesting. */
bool vcpu_nested_allows(struct vcpu *vcpu, uint64_t cr0, uint64_t cr4);
/* L2's MOV to CR0 or CR4: the bits that are L1's stay. */
uint64_t vcpu_nested_control(struct vcpu *vcpu, unsigned number, uint64_t value);
/* NOT_FOUND: none of the extension's. */
enum status vcpu_nested_msr(struct vcpu *vcpu, uint32_t msr, bool write, uint64_t *value) must_check;

#endif
