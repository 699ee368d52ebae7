/* SPDX-License-Identifier: Apache-2.0 */
// sources: svm/run.c svm/special.c svm/shadow.c svm/spec_ctrl.c svm/vcpu.c svm/state.c svm/event.c svm/exit.c svm/msr_map.c svm/explain.c
/*
 * The way in and out, with a processor played by the test: svm_enter() is a script that looks at the VMCB as VMRUN
 * would find it and writes what #VMEXIT would. Checked: what is armed for an entry, what is undone after it, lazy
 * groups, ASIDs and flushes, breakpoints of two vcpus on one CPU, NMI blocking, windows, broken-off events, refusals.
 */
#include "test_svm_world.h"

#include "arch/x86_64/hv_nested.h"

const struct hv_nested_ops svm_nested_ops; /* of no guest here */

static int begin(void **state)
{
	svm_world_begin();
	return 0;
}

static int end(void **state)
{
	test_cpu = 0;
	svm_ops.destroy(vcpu);
	return 0;
}

static void first_entry_is_complete(void **state)
{
	vcpu->gpr[GPR_RAX] = 0xaa;
	vcpu->tsc_offset = 0x55;
	run_until(vcpu, SVM_EXIT_CPUID, 0xfff0);
	assert_true(seen.save.rip == 0xfff0 && seen.save.rax == 0xaa && seen.save.cs.base == 0xffff0000);
	assert_true(seen.save.efer == EFER_SVME && seen.save.cr0 == 0x10);
	assert_true(seen.control.nested_control == NESTED_PAGING && seen.control.nested_cr3 == 0x123000);
	assert_true(seen.control.asid == 1 && seen.control.tlb_control == TLB_FLUSH_ALL && seen.control.clean == 0);
	assert_true(seen.control.tsc_offset == 0x55 && seen.control.interrupt_control == V_INTR_MASKING);
	assert_true(seen.control.iopm_base % 4096 == 0 && seen.control.msrpm_base % 4096 == 0);
	assert_true(seen.control.event_inject == 0 && seen.save.pat == UINT64_C(0x0007040600070406));
	assert_null(svm_explain_refusal(&seen, &(struct svm_limits){ BITS(31, 0), ~UINT64_C(0), 16, 52 }, true));
	assert_int_equal(vcpu->exit.kind, EXIT_CPUID);
	assert_int_equal(vcpu->exit.interrupted.kind, EVENT_NONE);
	/* The second one carries no flush. */
	run_until(vcpu, SVM_EXIT_CPUID, 0);
	assert_true(seen.control.tlb_control == TLB_KEEP && seen.control.asid == 1);
}

static void groups_are_lazy_and_written_back(void **state)
{
	svm_features.clean_mask = CLEAN_ALL;
	run_until(vcpu, SVM_EXIT_CPUID, 0);
	run_until(vcpu, SVM_EXIT_CPUID, 0);
	assert_int_equal(seen.control.clean, CLEAN_ALL);
	assert_int_equal(vcpu->valid, REGS_RFLAGS | REGS_SHADOW);
	svm_of(vcpu)->vmcb->save.cr3 = 0x8000;
	svm_ops.load(vcpu, REGS_CONTROL);
	assert_true(vcpu->cr3 == 0x8000 && vcpu->efer == 0 &&
		    vcpu->valid == (REGS_CONTROL | REGS_RFLAGS | REGS_SHADOW));
	vcpu->cr3 = 0x9000;
	vcpu->cr2 = 0x77;
	vcpu->changed |= REGS_CONTROL;
	run_until(vcpu, SVM_EXIT_CPUID, 0);
	assert_true(seen.save.cr3 == 0x9000 && seen.save.cr2 == 0x77 && vcpu->changed == 0);
	assert_int_equal(seen.control.clean, CLEAN_ALL & ~(CLEAN_CONTROL | CLEAN_CR2));
	/* A load doesn't overwrite what was changed. */
	svm_ops.load(vcpu, REGS_CONTROL);
	vcpu->cr4 = 0x20;
	svm_ops.load(vcpu, REGS_ALL);
	assert_true(vcpu->cr4 == 0x20);
}

static void flushes_take_a_new_asid_or_the_flush(void **state)
{
	run_until(vcpu, SVM_EXIT_CPUID, 0);
	vcpu->flush_pending = true;
	run_until(vcpu, SVM_EXIT_CPUID, 0);
	assert_true(seen.control.asid == 2 && seen.control.tlb_control == TLB_KEEP && !vcpu->flush_pending);
	for (unsigned i = 3; i < 16; i++) {
		vcpu->flush_pending = true;
		run_until(vcpu, SVM_EXIT_CPUID, 0);
		assert_int_equal(seen.control.asid, i);
	}
	vcpu->flush_pending = true;
	run_until(vcpu, SVM_EXIT_CPUID, 0);
	assert_true(seen.control.asid == 1 && seen.control.tlb_control == TLB_FLUSH_ALL);
	svm_features.flush_asid = true;
	vcpu->flush_pending = true;
	run_until(vcpu, SVM_EXIT_CPUID, 0);
	assert_true(seen.control.asid == 1 && seen.control.tlb_control == TLB_FLUSH_ASID);
}

static void moving_to_another_cpu(void **state)
{
	svm_features.clean_mask = CLEAN_ALL;
	run_until(vcpu, SVM_EXIT_CPUID, 0);
	breakpoints[1] = 0x1111; /* the guest wrote DR1 */
	svm_ops.unload(vcpu);
	memset(breakpoints, 0, sizeof(breakpoints));
	test_cpu = 1;
	run_until(vcpu, SVM_EXIT_CPUID, 0);
	assert_true(seen.control.clean == 0 && seen.control.tlb_control == TLB_FLUSH_ALL);
	assert_true(breakpoints[1] == 0x1111);
	svm_ops.unload(vcpu);
	test_cpu = 0;
	run_until(vcpu, SVM_EXIT_CPUID, 0);
	assert_true(seen.control.clean == 0 && seen.control.asid == 2); /* ASID 1 here is stale by now */
}

/* Some VMRUNs don't load CR2: it is in the processor, too, for an injected page fault and after another vcpu's turn. */
static void cr2_follows_its_vcpu(void **state)
{
	struct hv_vcpu *other;

	assert_int_equal(svm_ops.create(&other), OK);
	run_until(vcpu, SVM_EXIT_CPUID, 0);
	vcpu->cr2 = 0x1234;
	run_until(vcpu, SVM_EXIT_CPUID, 0);
	assert_true(page_fault_address == 0x1234 && seen.save.cr2 == 0x1234);
	run_until(other, SVM_EXIT_CPUID, 0);
	assert_true(page_fault_address == 0);
	run_until(vcpu, SVM_EXIT_CPUID, 0);
	assert_true(page_fault_address == 0x1234);
	svm_ops.unload(vcpu);
	svm_ops.destroy(other);
}

static void breakpoints_follow_their_vcpu(void **state)
{
	struct hv_vcpu *other;

	assert_int_equal(svm_ops.create(&other), OK);
	svm_ops.set_slat(other, hpa(0x456000));
	run_until(vcpu, SVM_EXIT_CPUID, 0);
	breakpoints[0] = 0xaaaa;
	run_until(other, SVM_EXIT_CPUID, 0);
	assert_true(breakpoints[0] == 0 && seen.control.asid == 2);
	breakpoints[0] = 0xbbbb;
	run_until(vcpu, SVM_EXIT_CPUID, 0);
	assert_true(breakpoints[0] == 0xaaaa);
	svm_ops.load(vcpu, REGS_DEBUG);
	assert_true(vcpu->dr[0] == 0xaaaa);
	vcpu->dr[0] = 0xcccc;
	vcpu->changed |= REGS_DEBUG;
	run_until(other, SVM_EXIT_CPUID, 0); /* must not overwrite the change */
	assert_true(breakpoints[0] == 0xbbbb);
	run_until(vcpu, SVM_EXIT_CPUID, 0);
	assert_true(breakpoints[0] == 0xcccc);
	svm_ops.load(vcpu, REGS_DEBUG);
	vcpu->dr[0] = 0xdddd;
	vcpu->changed |= REGS_DEBUG;
	run_until(vcpu, SVM_EXIT_CPUID, 0);
	assert_true(breakpoints[0] == 0xdddd);
	svm_ops.destroy(other);
}

static void windows(void **state)
{
	run_until(vcpu, SVM_EXIT_CPUID, 0);
	vcpu->want_interrupt_window = true;
	run_until(vcpu, SVM_EXIT_VINTR, 0); /* IF is clear: V_IRQ waits */
	assert_int_equal(seen.control.interrupt_control, V_INTR_MASKING | V_IRQ | V_IGNORE_TPR | V_PRIORITY_HIGHEST);
	assert_true(seen.control.intercept[0] & INTERCEPT1_VINTR);
	assert_int_equal(vcpu->exit.kind, EXIT_INTERRUPT_WINDOW);
	vcpu->want_interrupt_window = false;
	vcpu->inject = (struct hv_event){ .kind = EVENT_INTERRUPT, .vector = 0x40 };
	run_until(vcpu, SVM_EXIT_CPUID, 0);
	assert_int_equal(seen.control.interrupt_control, V_INTR_MASKING);
	assert_false(seen.control.intercept[0] & INTERCEPT1_VINTR);
	assert_true(seen.control.event_inject == 0x80000040 && vcpu->inject.kind == EVENT_NONE);
	assert_int_equal(kicks, 0);
	run_until(vcpu, SVM_EXIT_CPUID, 0);
	assert_true(seen.control.event_inject == 0);
	/* Where it may come twice there's an exit right behind it; behind nothing else. */
	svm_quirks.injects_twice = true;
	vcpu->inject = (struct hv_event){ .kind = EVENT_EXCEPTION, .vector = VECTOR_UD };
	run_until(vcpu, SVM_EXIT_CPUID, 0);
	assert_int_equal(kicks, 0);
	vcpu->inject = (struct hv_event){ .kind = EVENT_INTERRUPT, .vector = 0x40 };
	run_until(vcpu, SVM_EXIT_CPUID, 0);
	assert_int_equal(kicks, 1);

	/* Open already: told without an entry. */
	svm_of(vcpu)->vmcb->save.rflags = RFLAGS_IF | 2;
	vcpu->want_interrupt_window = true;
	unsigned before = entries;

	svm_ops.run(vcpu);
	assert_true(entries == before && vcpu->exit.kind == EXIT_INTERRUPT_WINDOW);

	/* A shadow: real processors honour it, the one with the quirk gets no V_IRQ for that entry. */
	svm_of(vcpu)->vmcb->control.interrupt_state = INTERRUPT_SHADOW;
	run_until(vcpu, SVM_EXIT_CPUID, 0);
	assert_true(seen.control.interrupt_control & V_IRQ);
}

static void drop_shadow(struct vmcb *vmcb)
{
	vmcb->control.interrupt_state = 0;
}

static void time_goes_by(struct vmcb *vmcb)
{
	vmcb->control.interrupt_state = 0;
	now_ns = timer_set_to;
}

/* An entry that ends before an instruction has run leaves the shadow where it was, though VMRUN has dropped it. */
static void a_dropped_shadow_comes_back(void **state)
{
	struct vmcb_control *control = &svm_of(vcpu)->vmcb->control;

	run_until(vcpu, SVM_EXIT_CPUID, 0x100);
	svm_quirks.entry_drops_shadow = true;
	svm_of(vcpu)->vmcb->save.rflags = RFLAGS_IF | 2;
	control->interrupt_state = INTERRUPT_SHADOW;
	vcpu->want_interrupt_window = true;
	for (unsigned i = 0; i < 100; i++) { /* STI is behind it, HLT before it */
		script.act = drop_shadow;
		timer_set_to = 0;
		vcpu->slice_deadline = UINT64_MAX;
		run_until(vcpu, SVM_EXIT_NPF, 0x100);
		assert_false(seen.control.interrupt_control & V_IRQ);
		/* The next exit is soon, and the run loop sets the timer for the slice again. */
		assert_true(timer_set_to > 1000 && timer_set_to <= 1000 + 10000 && vcpu->slice_deadline == 0);
		assert_int_equal(control->interrupt_state, INTERRUPT_SHADOW);
	}
	/* On a busy machine the timer may come first, again and again: each time it is later. */
	for (unsigned i = 0; i < 12; i++) {
		uint64_t before = timer_set_to - now_ns;

		script.act = time_goes_by;
		run_until(vcpu, SVM_EXIT_NPF, 0x100);
		assert_int_equal(control->interrupt_state, INTERRUPT_SHADOW);
		script.act = drop_shadow;
		run_until(vcpu, SVM_EXIT_NPF, 0x100);
		assert_int_equal(control->interrupt_state, INTERRUPT_SHADOW);
		assert_int_equal(timer_set_to - now_ns, 2 * before);
	}
	/* Not for ever: it may be a jump to itself. */
	script.act = time_goes_by;
	run_until(vcpu, SVM_EXIT_NPF, 0x100);
	assert_int_equal(control->interrupt_state, 0);
	svm_ops.run(vcpu);
	assert_int_equal(vcpu->exit.kind, EXIT_INTERRUPT_WINDOW);
	/* Gone when the instruction has run, or an event was delivered. */
	control->interrupt_state = INTERRUPT_SHADOW;
	script.act = drop_shadow;
	run_until(vcpu, SVM_EXIT_NPF, 0x101);
	assert_int_equal(control->interrupt_state, 0);
	control->interrupt_state = INTERRUPT_SHADOW;
	vcpu->inject = (struct hv_event){ .kind = EVENT_EXCEPTION, .vector = VECTOR_UD };
	script.act = drop_shadow;
	run_until(vcpu, SVM_EXIT_NPF, 0x101);
	assert_int_equal(control->interrupt_state, 0);
	/* No window is wanted yet: the next entry may want one. */
	vcpu->want_interrupt_window = false;
	control->interrupt_state = INTERRUPT_SHADOW;
	script.act = drop_shadow;
	run_until(vcpu, SVM_EXIT_NPF, 0x101);
	assert_int_equal(control->interrupt_state, INTERRUPT_SHADOW);
	assert_int_equal(svm_of(vcpu)->armed, 0);
}

/* A guest's guest between STI and HLT, whose hypervisor waits for the window: the instruction runs first, else it would do so for ever. */
static void a_virtual_interrupt_behind_a_dropped_shadow(void **state)
{
	struct vmcb_control *control = &svm_of(vcpu)->vmcb->control;

	now_ns = 1000;
	run_until(vcpu, SVM_EXIT_CPUID, 0x100);
	svm_quirks.entry_drops_shadow = true;
	control->interrupt_control |= V_IRQ;
	control->interrupt_state = INTERRUPT_SHADOW;
	timer_set_to = 0;
	vcpu->slice_deadline = UINT64_MAX;
	script.act = drop_shadow;
	run_until(vcpu, SVM_EXIT_HLT, 0x100);
	assert_false(seen.control.interrupt_control & V_IRQ);
	assert_true(timer_set_to > 1000 && timer_set_to <= 1000 + 10000 && vcpu->slice_deadline == 0);
	assert_true(control->interrupt_control & V_IRQ);
	control->interrupt_state = 0;
	run_until(vcpu, SVM_EXIT_VINTR, 0x101);
	assert_true(seen.control.interrupt_control & V_IRQ);
	/* Without one nothing is made up. */
	control->interrupt_control &= ~V_IRQ;
	control->interrupt_state = INTERRUPT_SHADOW;
	timer_set_to = 0;
	script.act = drop_shadow;
	run_until(vcpu, SVM_EXIT_HLT, 0x102);
	assert_true(!(control->interrupt_control & V_IRQ) && !timer_set_to);
}

static void step_trap(struct vmcb *vmcb)
{
	vmcb->save.dr6 |= DR6_SINGLE_STEP;
	vmcb->save.rflags = 2;
}

static void step_and_breakpoint(struct vmcb *vmcb)
{
	vmcb->save.dr6 = DR6_RESET | DR6_SINGLE_STEP | 4;
	vmcb->save.rflags = 2;
}

static void nmi_blocking(void **state)
{
	run_until(vcpu, SVM_EXIT_CPUID, 0x100);
	vcpu->inject = (struct hv_event){ .kind = EVENT_NMI };
	run_until(vcpu, SVM_EXIT_CPUID, 0x200);
	assert_true(seen.control.event_inject == 0x80000202 && (seen.control.intercept[0] & INTERCEPT1_IRET));
	svm_ops.load(vcpu, REGS_SHADOW);
	assert_true(vcpu->nmi_blocked);
	vcpu->want_nmi_window = true;
	run_until(vcpu, SVM_EXIT_IRET, 0x300);
	assert_int_equal(vcpu->exit.kind, EXIT_NOTHING);
	run_until(vcpu, SVM_EXIT_NPF, 0x300); /* the IRET faulted on its stack: still blocked, and no TF stays behind */
	assert_false(seen.control.intercept[0] & INTERCEPT1_IRET);
	assert_true((seen.save.rflags & RFLAGS_TF) && seen.control.exceptions == 0xfffffffb);
	svm_ops.load(vcpu, REGS_SHADOW | REGS_RFLAGS);
	assert_true(vcpu->nmi_blocked && !(vcpu->rflags & RFLAGS_TF));
	script.info1 = 4;
	run_until(vcpu, SVM_EXIT_EXCEPTION + VECTOR_GP, 0x300); /* nor with one that the guest is to have */
	assert_true(vcpu->exit.kind == EXIT_EXCEPTION && vcpu->exit.exception.error_code == 4);
	svm_ops.load(vcpu, REGS_RFLAGS);
	assert_false(vcpu->rflags & RFLAGS_TF);
	script.act = step_trap;
	run_until(vcpu, SVM_EXIT_EXCEPTION + VECTOR_DB, 0x400);
	assert_int_equal(vcpu->exit.kind, EXIT_NMI_WINDOW);
	svm_ops.load(vcpu, REGS_SHADOW | REGS_DEBUG);
	assert_true(!vcpu->nmi_blocked && vcpu->dr[6] == DR6_RESET);
	vcpu->want_nmi_window = false;
	run_until(vcpu, SVM_EXIT_CPUID, 0x400);
	assert_false(seen.save.rflags & RFLAGS_TF);
	assert_int_equal(seen.control.exceptions, SVM_EXCEPTIONS);
	assert_int_equal(svm_of(vcpu)->armed, 0);
}

/* An IRET that the guest steps itself, or that meets its breakpoint: the trap is the guest's. */
static void nmi_blocking_beside_a_debugger(void **state)
{
	run_until(vcpu, SVM_EXIT_CPUID, 0x100);
	vcpu->inject = (struct hv_event){ .kind = EVENT_NMI };
	vcpu->want_nmi_window = true;
	run_until(vcpu, SVM_EXIT_IRET, 0x300);
	svm_of(vcpu)->vmcb->save.rflags |= RFLAGS_TF;
	script.act = step_trap;
	run_until(vcpu, SVM_EXIT_EXCEPTION + VECTOR_DB, 0x400);
	assert_true(vcpu->exit.kind == EXIT_EXCEPTION && (vcpu->exit.exception.detail & DR6_SINGLE_STEP));
	assert_true(seen.control.exceptions == SVM_EXCEPTIONS);
	svm_ops.load(vcpu, REGS_SHADOW);
	assert_false(vcpu->nmi_blocked);

	svm_of(vcpu)->vmcb->save.rflags = 2;
	svm_of(vcpu)->vmcb->save.dr6 = DR6_RESET;
	vcpu->inject = (struct hv_event){ .kind = EVENT_NMI };
	run_until(vcpu, SVM_EXIT_IRET, 0x300);
	script.act = step_and_breakpoint;
	run_until(vcpu, SVM_EXIT_EXCEPTION + VECTOR_DB, 0x400);
	assert_true(vcpu->exit.kind == EXIT_EXCEPTION && vcpu->exit.exception.detail == (DR6_RESET | 4));
	svm_ops.load(vcpu, REGS_DEBUG);
	assert_true(vcpu->dr[6] == (DR6_RESET | 4));
}

/* The quirk: breakpoints below the upper half are in the processor for the entry, and for it alone. */
static void breakpoints_by_hand(void **state)
{
	run_until(vcpu, SVM_EXIT_CPUID, 0x100);
	svm_quirks.breakpoints_leak = true;
	svm_ops.load(vcpu, REGS_DEBUG);
	vcpu->dr[0] = 0x1000;
	vcpu->dr[1] = UINT64_C(0xffffffff80000000);
	vcpu->dr[7] = 0x240a | 0x400;
	vcpu->changed |= REGS_DEBUG;
	for (unsigned i = 0; i < 2; i++) {
		run_until(vcpu, SVM_EXIT_CPUID, 0x100);
		assert_true(entered_with == 0x402 && native_dr7 == DR7_RESET && seen.save.dr7 == 0x240a);
	}
	run_until(vcpu, SVM_EXIT_INVALID_LOW, 0);
	assert_true(entered_with == 0x402 && native_dr7 == DR7_RESET);
	vcpu->dr[7] = 0x400;
	vcpu->changed |= REGS_DEBUG;
	native_dr7 = 0;
	run_until(vcpu, SVM_EXIT_CPUID, 0x100);
	assert_true(entered_with == 0 && native_dr7 == 0);
}

/* No window opens between an event and an NMI that may come right behind it: the host's own interrupt ends the entry there. */
static void nmi_behind_an_event(void **state)
{
	const struct hv_event fault = { .kind = EVENT_EXCEPTION, .vector = VECTOR_UD };

	run_until(vcpu, SVM_EXIT_CPUID, 0x100);
	kicks = 0;
	vcpu->inject = fault;
	run_until(vcpu, SVM_EXIT_CPUID, 0x200);
	assert_int_equal(kicks, 0);
	vcpu->inject = fault;
	vcpu->want_nmi_window = true;
	run_until(vcpu, SVM_EXIT_CPUID, 0x300);
	assert_int_equal(seen.control.event_inject, 0x80000306);
	assert_int_equal(kicks, 1);
	vcpu->inject = (struct hv_event){ .kind = EVENT_NMI }; /* while they are blocked the IRET is waited for */
	run_until(vcpu, SVM_EXIT_CPUID, 0x400);
	assert_int_equal(kicks, 1);
}

/* In real mode no exception pushes an error code, and the processor pushes what it is given: APM vol. 2 section 8.4.1. */
static void real_mode_has_no_error_codes(void **state)
{
	const struct hv_event fault = { .kind = EVENT_EXCEPTION, .vector = 13, .has_error_code = true };

	run_until(vcpu, SVM_EXIT_CPUID, 0x100);
	vcpu->inject = fault;
	run_until(vcpu, SVM_EXIT_CPUID, 0x200);
	assert_int_equal(seen.control.event_inject, 0x8000030d);
	svm_of(vcpu)->vmcb->save.cr0 |= CR0_PE;
	vcpu->inject = fault;
	run_until(vcpu, SVM_EXIT_CPUID, 0x300);
	assert_int_equal(seen.control.event_inject, 0x80000b0d);
}

static void broken_off_events_come_again(void **state)
{
	run_until(vcpu, SVM_EXIT_CPUID, 0x100);
	svm_of(vcpu)->vmcb->save.cr0 |= CR0_PE;
	vcpu->inject = (struct hv_event){
		.kind = EVENT_EXCEPTION,
		.vector = 14,
		.has_error_code = true,
		.error_code = 2,
	};
	script.interrupted = UINT64_C(0x280000b0e);
	run_until(vcpu, SVM_EXIT_NPF, 0x100);
	assert_true(vcpu->exit.interrupted.kind == EVENT_EXCEPTION && vcpu->exit.interrupted.vector == 14);
	assert_true(vcpu->exit.interrupted.has_error_code && vcpu->exit.interrupted.error_code == 2);

	/* An NMI broken off blocks nothing. */
	vcpu->inject = (struct hv_event){ .kind = EVENT_NMI };
	script.interrupted = 0x80000202;
	run_until(vcpu, SVM_EXIT_NPF, 0x100);
	assert_int_equal(vcpu->exit.interrupted.kind, EVENT_NMI);
	svm_ops.load(vcpu, REGS_SHADOW);
	assert_false(vcpu->nmi_blocked);

	/* The guest's own INT n runs again by itself; its own exception doesn't; leftovers are dropped. */
	script.interrupted = 0x80000480;
	run_until(vcpu, SVM_EXIT_NPF, 0x100);
	assert_int_equal(vcpu->exit.interrupted.kind, EVENT_NONE);
	script.interrupted = 0x80000306;
	run_until(vcpu, SVM_EXIT_NPF, 0x100);
	assert_true(vcpu->exit.interrupted.kind == EVENT_EXCEPTION && vcpu->exit.interrupted.vector == 6);
	script.interrupted = 0x80000202;
	run_until(vcpu, SVM_EXIT_NPF, 0x100);
	assert_int_equal(vcpu->exit.interrupted.kind, EVENT_NONE);
	script.interrupted = 0x00000306; /* not valid */
	run_until(vcpu, SVM_EXIT_NPF, 0x100);
	assert_int_equal(vcpu->exit.interrupted.kind, EVENT_NONE);
}

/* A task gate is met in the middle of a delivery: of what was injected, whether the exit says so or not, or of the guest's own. */
static void task_gates_take_the_event(void **state)
{
	run_until(vcpu, SVM_EXIT_CPUID, 0x100);
	vcpu->inject = (struct hv_event){ .kind = EVENT_EXCEPTION, .vector = 6 };
	svm_of(vcpu)->vmcb->save.cr0 |= CR0_PE;
	run_until(vcpu, SVM_EXIT_TASK_SWITCH, 0x100);
	assert_true(vcpu->exit.interrupted.kind == EVENT_EXCEPTION && vcpu->exit.interrupted.vector == 6);
	assert_int_equal(vcpu->exit.task.source, TASK_GATE);
	script.interrupted = 0x80000480;
	run_until(vcpu, SVM_EXIT_TASK_SWITCH, 0x100);
	assert_int_equal(vcpu->exit.interrupted.kind, EVENT_SOFT_INTERRUPT);
	assert_int_equal(vcpu->exit.task.source, TASK_GATE);
	script.interrupted = 0;
	run_until(vcpu, SVM_EXIT_TASK_SWITCH, 0x100);
	assert_int_equal(vcpu->exit.task.source, TASK_CALL);
}

static void soft_events_move_rip(void **state)
{
	const struct hv_event soft = { .kind = EVENT_SOFT_INTERRUPT, .vector = 0x80, .length = 2 };

	run_until(vcpu, SVM_EXIT_CPUID, 0x100);
	vcpu->inject = soft;
	script.interrupted = 0x80000480;
	run_until(vcpu, SVM_EXIT_NPF, 0); /* RIP stays where it was at entry */
	assert_true(seen.save.rip == 0x102 && vcpu->rip == 0x100);
	assert_true(vcpu->exit.interrupted.kind == EVENT_SOFT_INTERRUPT && vcpu->exit.interrupted.length == 2);
	vcpu->inject = vcpu->exit.interrupted;
	run_until(vcpu, SVM_EXIT_CPUID, 0x900);
	assert_true(seen.save.rip == 0x102 && vcpu->rip == 0x900);

	svm_features.next_rip = true;
	vcpu->inject = soft;
	run_until(vcpu, SVM_EXIT_CPUID, 0x900);
	assert_true(seen.save.rip == 0x900 && seen.control.next_rip == 0x902 && vcpu->rip == 0x900);
}

static void host_state(struct vmcb *vmcb)
{
	memset(&vmcb->save, 0x5e, sizeof(vmcb->save)); /* secrets of the host */
}

static void refused_state_shows_nothing(void **state)
{
	run_until(vcpu, SVM_EXIT_CPUID, 0x100);
	svm_quirks.invalid_shows_host = true;
	script.act = host_state;
	run_until(vcpu, SVM_EXIT_INVALID_LOW, 0);
	assert_true(vcpu->exit.kind == EXIT_INVALID_STATE && vcpu->exit.failure.code == SVM_EXIT_INVALID_LOW);
	assert_true(vcpu->rip == 0x100 && vcpu->valid == REGS_ALL);
	svm_ops.load(vcpu, REGS_ALL);
	assert_true(vcpu->cr3 == 0 && vcpu->gpr[GPR_RAX] == 0 && vcpu->cr2 == 0 && vcpu->gdtr.base == 0);
	/* And the next entry brings nothing of it to the guest. */
	run_until(vcpu, SVM_EXIT_CPUID, 0x100);
	assert_true(seen.save.cr3 == 0 && seen.save.gdtr.base == 0 && seen.save.star == 0 && seen.save.cr2 == 0);

	/* All 64 bits set, as real processors have it; and an event nobody can inject. */
	run_until(vcpu, ~UINT64_C(0), 0);
	assert_int_equal(vcpu->exit.kind, EXIT_INVALID_STATE);
	vcpu->inject = (struct hv_event){ .kind = EVENT_EXCEPTION, .vector = 31 };
	unsigned before = entries;

	svm_ops.run(vcpu);
	assert_true(entries == before && vcpu->exit.kind == EXIT_INVALID_STATE && vcpu->exit.failure.text);
}

static void reset_starts_over(void **state)
{
	vcpu->inject = (struct hv_event){ .kind = EVENT_NMI };
	vcpu->want_interrupt_window = true;
	run_until(vcpu, SVM_EXIT_CPUID, 0x100);
	svm_ops.reset(vcpu);
	run_until(vcpu, SVM_EXIT_CPUID, 0x100);
	assert_true(seen.save.rip == 0xfff0 && seen.control.event_inject == 0);
	assert_true(seen.control.interrupt_control == V_INTR_MASKING);
	assert_false(seen.control.intercept[0] & (INTERCEPT1_IRET | INTERCEPT1_VINTR));
	assert_true(seen.control.asid == 2);
	svm_ops.load(vcpu, REGS_SHADOW);
	assert_false(vcpu->nmi_blocked);
}

static void only_switched_msrs_pass(void **state)
{
	uint8_t *map = svm_of(vcpu)->msr_map;

	svm_ops.pass_msr(vcpu, MSR_LSTAR, true, true);
	assert_int_equal(map[0x800 + 0x82 / 4], 0xcf);
	svm_ops.pass_msr(vcpu, MSR_LSTAR, true, false);
	assert_int_equal(map[0x800 + 0x82 / 4], 0xef);
	svm_ops.pass_msr(vcpu, MSR_PAT, true, true);
	svm_ops.pass_msr(vcpu, MSR_APIC_BASE, true, true);
	assert_true(map[0x277 / 4] == 0xff && map[0x1b / 4] == 0xff);
}

static void answer_act(struct vmcb *vmcb)
{
	vmcb->control.next_rip = 0x1002;
}

/* The short way at a CPUID: see test_answers in test_vmx_registers.c for what both vendors share. */
static void answers(void **state)
{
	static const struct cpuid_result table[3] = { [2] = { 0x11111111, 0x22222222, 0x33333333, 0x44444444 } };
	uint32_t requests = 0;
	uint64_t count = 0;
	const struct hv_answers given = { table, BIT(2), &requests, &count, NULL };
	struct svm_vcpu *svm = svm_of(vcpu);
	struct vmcb_save *save = &svm->vmcb->save;

	svm_features.next_rip = true;
	svm_features.clean_mask = CLEAN_ALL;
	script.act = answer_act;
	run_until(vcpu, SVM_EXIT_CPUID, 0x1000);
	vcpu->answers = &given;
	vcpu->slice_deadline = UINT64_MAX;
	svm->vmcb->control.clean = 0;
#define REFUSED_WHILE(change, undo)                                                                                    \
	do {                                                                                                           \
		save->rax = 2;                                                                                         \
		save->rip = 0x1000;                                                                                    \
		change;                                                                                                \
		assert_false(svm_answer(vcpu));                                                                        \
		undo;                                                                                                  \
		assert_true(save->rax == 2 && save->rip == 0x1000 && !count);                                          \
	} while (0)
	REFUSED_WHILE(save->rflags |= RFLAGS_TF, save->rflags &= ~(uint64_t)RFLAGS_TF);
	REFUSED_WHILE(svm->vmcb->control.interrupt_state = INTERRUPT_SHADOW, svm->vmcb->control.interrupt_state = 0);
	REFUSED_WHILE(svm->vmcb->control.exit_code = SVM_EXIT_HLT, svm->vmcb->control.exit_code = SVM_EXIT_CPUID);
	REFUSED_WHILE(svm->armed = ARMED_FLUSH, svm->armed = 0);
	REFUSED_WHILE(svm_features.next_rip = false, svm_features.next_rip = true);
	REFUSED_WHILE(requests = 1, requests = 0);
	REFUSED_WHILE(vcpu->slice_deadline = 0, vcpu->slice_deadline = UINT64_MAX);
	REFUSED_WHILE(vcpu->answers = NULL, vcpu->answers = &given);
#undef REFUSED_WHILE
	assert_true(svm_answer(vcpu));
	assert_true(save->rax == 0x11111111 && save->rip == 0x1002 && count == 1);
	assert_true(vcpu->gpr[GPR_RBX] == 0x22222222 && vcpu->gpr[GPR_RDX] == 0x44444444);
	assert_int_equal(svm->vmcb->control.clean, CLEAN_ALL);
}

static unsigned accesses;
static bool device_port(struct hv_vcpu *which, uint16_t port, unsigned size, bool in)
{
	assert_true(port == 0x43 && size == 1 && !in && which->rip == 0x1002 && !(which->valid & REGS_RFLAGS));
	assert_true(which->gpr[GPR_RAX] == 0x5a);
	return !accesses++;
}
static void port_act(struct vmcb *vmcb)
{
	vmcb->save.rip = 0x1000;
	vmcb->save.rax = 0x5a;
}

/* Accesses to ports by the short way: the first goes on, the second doesn't, and nothing is left for its exit to do. */
static void ports(void **state)
{
	static const struct hv_answers given = { .port = device_port };

	run_until(vcpu, SVM_EXIT_CPUID, 0x1000);
	run_until(vcpu, SVM_EXIT_CPUID, 0x1000);
	vcpu->answers = &given;
	vcpu->exited = exited;
	accesses = entries = 0;
	script.code = SVM_EXIT_IOIO;
	script.info1 = UINT64_C(0x43) << 16 | BIT(4);
	script.info2 = 0x1002;
	script.act = port_act;
	svm_ops.run(vcpu);
	assert_true(accesses == 2 && entries == 2);
	assert_true(vcpu->exit.kind == EXIT_NOTHING && vcpu->rip == 0x1002 && seen.save.rip == 0x1002);
	/* A string's, and one that is single-stepped, have their exit. */
	script.info1 |= IOIO_STRING;
	svm_ops.run(vcpu);
	assert_true(accesses == 2 && vcpu->exit.kind == EXIT_IO && vcpu->exit.io.string && vcpu->rip == 0x1000);
	script.info1 &= ~(uint64_t)IOIO_STRING;
	script.rflags = 2 | RFLAGS_TF;
	svm_ops.run(vcpu);
	assert_true(accesses == 2 && vcpu->exit.kind == EXIT_IO && vcpu->rip == 0x1000);
}

/* The guest's wish not to cache is its own affair: the processor never hears of it, the guest always does. */
static void no_guest_runs_uncached(void **state)
{
	svm_ops.load(vcpu, REGS_CONTROL);
	assert_int_equal(vcpu->cr0, CR0_CD | CR0_NW | CR0_ET);
	vcpu->cr0 = CR0_CD | CR0_PE | CR0_ET;
	hv_changed(vcpu, REGS_CONTROL);
	run_until(vcpu, SVM_EXIT_CPUID, 0x100);
	assert_int_equal(seen.save.cr0, CR0_PE | CR0_ET);
	svm_ops.load(vcpu, REGS_CONTROL);
	assert_int_equal(vcpu->cr0, CR0_CD | CR0_PE | CR0_ET);
	/* EFER.LMA is LME and PG, whatever an emulator has made of it before the write that exits is done. */
	svm_of(vcpu)->vmcb->save.efer = EFER_SVME | EFER_LME | EFER_LMA;
	vcpu->valid = 0;
	svm_ops.load(vcpu, REGS_CONTROL);
	assert_int_equal(vcpu->efer, EFER_LME);
	svm_of(vcpu)->vmcb->save.efer = EFER_SVME | EFER_LME;
	svm_of(vcpu)->vmcb->save.cr0 |= CR0_PG;
	vcpu->valid = 0;
	svm_ops.load(vcpu, REGS_CONTROL);
	assert_int_equal(vcpu->efer, EFER_LME | EFER_LMA);
	assert_true(seen.control.intercept[0] & INTERCEPT1_CR0_SELECTIVE);
	run_until(vcpu, SVM_EXIT_CR0_SELECTIVE, 0x100);
	assert_true(vcpu->exit.kind == EXIT_CR_ACCESS && vcpu->exit.cr.number == 0 && vcpu->exit.cr.write);
}

static uint64_t spec_ctrl_inside, guest_sets;
static void in_guest(struct vmcb *vmcb)
{
	spec_ctrl_inside = spec_ctrl;
	if (guest_sets)
		spec_ctrl = guest_sets;
}

/* A guest that never used SPEC_CTRL costs nothing; one that did has its own, and the host its own again after each exit. */
static void spec_ctrl_is_exchanged(void **state)
{
	features.host_spec_ctrl = spec_ctrl = 1;
	spec_ctrl_accesses = 0;
	script.act = in_guest;
	run_until(vcpu, SVM_EXIT_CPUID, 0x100);
	assert_true(spec_ctrl_inside == 1 && !spec_ctrl_accesses);
	svm_ops.load(vcpu, REGS_SYSTEM);
	vcpu->spec_ctrl = 4;
	hv_changed(vcpu, REGS_SYSTEM);
	svm_ops.pass_msr(vcpu, MSR_SPEC_CTRL, true, true);
	assert_int_equal(svm_of(vcpu)->msr_map[0x48 / 4] & 3, 0);
	script.act = in_guest;
	guest_sets = 6;
	run_until(vcpu, SVM_EXIT_CPUID, 0x100);
	assert_true(spec_ctrl_inside == 4 && spec_ctrl == 1);
	svm_ops.load(vcpu, REGS_SYSTEM);
	assert_int_equal(vcpu->spec_ctrl, 6);
	script.act = in_guest;
	guest_sets = 0;
	run_until(vcpu, SVM_EXIT_INVALID_LOW, 0);
	assert_true(spec_ctrl_inside == 6 && spec_ctrl == 1);
	/* Reset: none again. */
	svm_ops.reset(vcpu);
	svm_ops.pass_msr(vcpu, MSR_SPEC_CTRL, false, false);
	assert_int_equal(svm_of(vcpu)->msr_map[0x48 / 4] & 3, 3);
	spec_ctrl_accesses = 0;
	script.act = in_guest;
	run_until(vcpu, SVM_EXIT_CPUID, 0xfff0);
	assert_true(spec_ctrl_inside == 1 && !spec_ctrl_accesses);
	/* A processor that does it itself: by the VMCB alone. */
	svm_features.spec_ctrl = true;
	svm_ops.load(vcpu, REGS_SYSTEM);
	vcpu->spec_ctrl = 2;
	hv_changed(vcpu, REGS_SYSTEM);
	svm_ops.pass_msr(vcpu, MSR_SPEC_CTRL, true, true);
	run_until(vcpu, SVM_EXIT_CPUID, 0x100);
	assert_true(seen.save.spec_ctrl == 2 && !spec_ctrl_accesses);
	features.host_spec_ctrl = 0;
	/* Commands may be passed, to be written. */
	svm_ops.pass_msr(vcpu, MSR_PRED_CMD, false, true);
	assert_int_equal(svm_of(vcpu)->msr_map[0x49 / 4] >> 2 & 3, 1);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(answers, begin, end),
		cmocka_unit_test_setup_teardown(ports, begin, end),
		cmocka_unit_test_setup_teardown(first_entry_is_complete, begin, end),
		cmocka_unit_test_setup_teardown(no_guest_runs_uncached, begin, end),
		cmocka_unit_test_setup_teardown(spec_ctrl_is_exchanged, begin, end),
		cmocka_unit_test_setup_teardown(groups_are_lazy_and_written_back, begin, end),
		cmocka_unit_test_setup_teardown(flushes_take_a_new_asid_or_the_flush, begin, end),
		cmocka_unit_test_setup_teardown(moving_to_another_cpu, begin, end),
		cmocka_unit_test_setup_teardown(breakpoints_follow_their_vcpu, begin, end),
		cmocka_unit_test_setup_teardown(cr2_follows_its_vcpu, begin, end),
		cmocka_unit_test_setup_teardown(windows, begin, end),
		cmocka_unit_test_setup_teardown(a_dropped_shadow_comes_back, begin, end),
		cmocka_unit_test_setup_teardown(a_virtual_interrupt_behind_a_dropped_shadow, begin, end),
		cmocka_unit_test_setup_teardown(nmi_blocking, begin, end),
		cmocka_unit_test_setup_teardown(nmi_blocking_beside_a_debugger, begin, end),
		cmocka_unit_test_setup_teardown(breakpoints_by_hand, begin, end),
		cmocka_unit_test_setup_teardown(nmi_behind_an_event, begin, end),
		cmocka_unit_test_setup_teardown(real_mode_has_no_error_codes, begin, end),
		cmocka_unit_test_setup_teardown(broken_off_events_come_again, begin, end),
		cmocka_unit_test_setup_teardown(task_gates_take_the_event, begin, end),
		cmocka_unit_test_setup_teardown(soft_events_move_rip, begin, end),
		cmocka_unit_test_setup_teardown(refused_state_shows_nothing, begin, end),
		cmocka_unit_test_setup_teardown(reset_starts_over, begin, end),
		cmocka_unit_test_setup_teardown(only_switched_msrs_pass, begin, end),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
