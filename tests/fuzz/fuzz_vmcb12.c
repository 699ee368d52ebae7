/* SPDX-License-Identifier: Apache-2.0 */
// sources: svm/run.c svm/special.c svm/shadow.c svm/spec_ctrl.c svm/vcpu.c svm/state.c svm/event.c svm/exit.c svm/msr_map.c svm/explain.c svm/nested/*.c arch/x86_64/pt_format.c tests/unit/common/host.c tests/unit/common/heap.c
// flags: -lcmocka
/*
 * libFuzzer: a hypervisor as a guest that fills its VMCB as it likes, runs it, is left for some reason, and runs it again. What must hold
 * is that the VMCB that the processor gets is one that it takes, whose maps, tables and ASID are the host's, that exits for all
 * that Quire or L1 asks for; and that L1 has got back what it had. The bytes: a byte of options, then records (struct edit),
 * of which one without an offset runs and leaves.
 */
#include <stdio.h>
#include <stdlib.h>

#include "test_svm_nested_world.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define ROUNDS_MAX 6u
#define HOST_ROOT 0x456000u

struct edit {
	uint8_t how, pad;
	uint16_t offset;
	uint32_t low;
};

#define must(condition) must_hold(condition, #condition)
static void must_hold(bool condition, const char *what)
{
	if (condition)
		return;
	fprintf(stderr, "must hold: %s\n", what);
	abort();
}

static uint32_t own[INTERCEPT_WORDS]; /* Quire's, of a vcpu without L2 */

static void open_fuzz(uint8_t options)
{
	flips = false;
	begin(NULL);
	svm_features.next_rip = options & 1;
	svm_features.decode_assists = options & 2;
	svm_features.flush_asid = options & 8;
	svm_quirks.breakpoints_leak = options & 16;
	svm_quirks.priority_aborts = options & 32;
	svm_features.pause_filter = options & 64;
	svm_features.virtual_gif = options & 128;
	svm_set_intercepts(nested_l1(state_of_l1()));
	memcpy(own, svm_of(vcpu)->vmcb->control.intercepts, sizeof(own));
	memset(l1_memory + MSR_MAP_AT, options, MSR_MAP_SIZE);
	svm_pass_msr(vcpu, MSR_LSTAR, true, true);
	run_until(vcpu, SVM_EXIT_CPUID, 0); /* its registers are in the VMCB */
	flips = options & 4;
}

static void assert_confined(void)
{
	const struct svm_limits limits = { BITS(31, 0), ~UINT64_C(0), 16, 52 };
	const struct svm_nested *n = state_of_l1();
	const struct svm_vcpu *l1 = nested_l1(n), *l2 = nested_l2(n);
	const struct vmcb_control *c = &seen.control, *asked = &n->vmcb12->control;
	uint32_t always[INTERCEPT_WORDS];
	bool gates = svm_features.virtual_gif && (asked->interrupt_control & V_GIF_ENABLE);

	must(!svm_explain_refusal(&seen, &limits, true));
	memcpy(always, own, sizeof(always));
	always[0] &= ~(uint32_t)(BIT(8) | BIT(24)); /* CR8: an L2 may have a TPR of its own */
	if (c->interrupt_control & V_GIF_ENABLE)    /* its CLGI and STGI don't reach the host's */
		always[4] &= ~(uint32_t)(INTERCEPT2_STGI | INTERCEPT2_CLGI);
	for (unsigned i = 0; i < INTERCEPT_WORDS; i++)
		must(!((always[i] | asked->intercepts[i]) & ~c->intercepts[i]));
	must(((own[0] & ~c->intercepts[0]) & (BIT(8) | BIT(24))) == 0 || (asked->interrupt_control & V_INTR_MASKING));
	must(c->iopm_base == l1->vmcb->control.iopm_base && c->msrpm_base == l2->vmcb->control.msrpm_base);
	must(c->nested_control == l1->vmcb->control.nested_control && c->nested_cr3 == HOST_ROOT);
	must(c->interrupt_control & V_INTR_MASKING);
	must(!(c->interrupt_control & ~(V_TPR_MASK | V_IRQ | V_PRIORITY_HIGHEST | V_IGNORE_TPR | V_VECTOR_MASK |
					V_INTR_MASKING | (gates ? V_GIF_ENABLE | V_GIF : 0))));
	must(c->asid != 0 && c->asid != l1->asid.number);
	for (unsigned i = 0; i < MSR_MAP_SIZE; i++)
		must(!(l1->msr_map[i] & ~l2->msr_map[i]));
	for (unsigned i = 0; (asked->intercept[0] & INTERCEPT1_MSR) && i < MSR_WINDOW_LOW_SIZE; i++)
		must(!(n->maps[MSR_WINDOW_LOW + i] & ~l2->msr_map[MSR_WINDOW_LOW + i]));
	for (unsigned i = 0; (asked->intercept[0] & INTERCEPT1_MSR) && i < MSR_WINDOW_HIGH_SIZE; i++)
		must(!(n->maps[MSR_WINDOW_HIGH + i] & ~l2->msr_map[MSR_WINDOW_HIGH + i]));
	must(!nested->slat.on || !(nested->slat.root.v >> 40));
}

static void event_for_l1(const struct edit *e)
{
	(void)svm_nested_ops.pending(nested, (enum hv_nested_event)(e->offset % 3));
}

static void leave_by(const struct edit *e)
{
	static const uint16_t codes[] = { 0x000,
					  0x008,
					  0x010,
					  0x018,
					  0x04e,
					  0x041,
					  SVM_EXIT_CPUID,
					  SVM_EXIT_HLT,
					  SVM_EXIT_IOIO,
					  SVM_EXIT_MSR,
					  SVM_EXIT_SHUTDOWN,
					  SVM_EXIT_VMMCALL,
					  SVM_EXIT_VINTR };

	script.interrupted = e->how & 32 ? (uint64_t)BIT(31) | (e->pad & 0x7ffu) : 0;
	script.rip = e->how & 64 ? e->low : 0;
	script.info1 = e->low;
	script.info2 = e->low >> 16;
	run_until(nested->l2, codes[e->offset % ARRAY_SIZE(codes)], script.rip);
	assert_confined();
	(void)svm_nested_ops.exit(nested);
	if (!nested->in_l2)
		return;
	nested->l2->inject.kind = EVENT_NONE;
	run_until(nested->l2, SVM_EXIT_VMRUN, 0);
	must(svm_nested_ops.exit(nested));
}

/* Of L1 a #VMEXIT leaves what VMRUN found, but for what no VMCB switches. */
static void assert_back(const struct vmcb *before)
{
	const struct vmcb *now = svm_of(vcpu)->vmcb;

	must(now->save.cr0 == before->save.cr0 && now->save.cr3 == before->save.cr3 &&
	     now->save.cr4 == before->save.cr4);
	must(now->save.efer == before->save.efer && now->save.rsp == before->save.rsp);
	must(!memcmp(&now->save.cs, &before->save.cs, sizeof(now->save.cs)));
	must(!memcmp(&now->save.ss, &before->save.ss, sizeof(now->save.ss)));
	must(!memcmp(&now->save.idtr, &before->save.idtr, sizeof(now->save.idtr)));
	must(!memcmp(&now->save.gdtr, &before->save.gdtr, sizeof(now->save.gdtr)));
	must(now->save.pat == before->save.pat && now->control.nested_cr3 == before->control.nested_cr3);
	must(!memcmp(now->control.intercepts, before->control.intercepts, sizeof(now->control.intercepts)));
	must(now->control.iopm_base == before->control.iopm_base &&
	     now->control.msrpm_base == before->control.msrpm_base);
}

static void enter_and_leave(const struct edit *e)
{
	const struct vmcb before = *svm_of(vcpu)->vmcb;
	enum hv_nested_step step = l1_executes(SVM_EXIT_VMRUN, VMCB12_AT);

	must(step == NESTED_ENTERED);
	if (nested->in_l2 && (e->how & 1))
		event_for_l1(e);
	if (nested->in_l2)
		leave_by(e);
	must(!nested->in_l2 && !state_of_l1()->gif);
	assert_back(&before);
	state_of_l1()->gif = true;
	vcpu->inject.kind = EVENT_NONE;
}

/* The maps' edits are out of the VMCB's page. */
static void edit(const struct edit *e)
{
	static const uint64_t places[] = { 0,          ~UINT64_C(0), 0x8000000000000000, 0xffff800000000000,
					   MSR_MAP_AT, 0xfffffff000 };
	uint64_t *at = (uint64_t *)(l1_memory + VMCB12_AT + e->offset % sizeof(struct vmcb) / 8 * 8);

	switch (e->how >> 2 & 3) {
	case 0: *at ^= BIT(e->low & 63); break;
	case 1: *at = e->low; break;
	case 2: *at = (uint64_t)(int64_t)(int32_t)e->low << (e->pad & 31); break;
	default: *at = places[e->low % ARRAY_SIZE(places)];
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	unsigned rounds = 0;
	struct edit e = { 0 };

	if (!size)
		return 0;
	open_fuzz(*data++);
	for (size--; size >= sizeof(e) && rounds < ROUNDS_MAX; data += sizeof(e), size -= sizeof(e)) {
		memcpy(&e, data, sizeof(e));
		if (e.how & 2) {
			enter_and_leave(&e);
			rounds++;
		} else {
			edit(&e);
		}
	}
	enter_and_leave(&e);
	end(NULL);
	return 0;
}
