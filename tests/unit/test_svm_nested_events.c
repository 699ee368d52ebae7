/* SPDX-License-Identifier: Apache-2.0 */
// sources: svm/run.c svm/special.c svm/shadow.c svm/spec_ctrl.c svm/vcpu.c svm/state.c svm/event.c svm/exit.c svm/msr_map.c svm/explain.c svm/nested/*.c arch/x86_64/pt_format.c
/*
 * Nested SVM: events between the levels, what is pending and who gets it, the virtual interrupt, flushes and tables; and VMCBs of
 * L1's with random content.
 */
#include "test_svm_nested_world.h"

#include <stdlib.h>

#define PAGE_FAULT UINT64_C(0x780000b0e) /* with error code 7 */

static void events_of_vmrun(void **state)
{
	static const struct {
		uint64_t inject, entered;
	} rows[] = {
		{ 0x80000020, 0x80000020 }, { 0x80000202, 0x80000202 }, { PAGE_FAULT, PAGE_FAULT },
		{ 0x80000480, 0x80000480 }, { 0x80000303, 0x80000303 }, { 0x00000020, 0 },
	};

	for (unsigned i = 0; i < ARRAY_SIZE(rows); i++) {
		vmcb12()->control.event_inject = rows[i].inject;
		vmrun();
		assert_true(l2_exits(SVM_EXIT_CPUID, 0, 0));
		assert_true(seen.control.event_inject == rows[i].entered);
		assert_true(vmcb12()->control.event_inject == 0 && vmcb12()->control.exit_interrupt_info == 0);
	}
	/* A soft event's RIP: where L1 says, if it has been told that it is asked. */
	svm_features.next_rip = true;
	vmcb12()->control.event_inject = 0x80000480;
	vmcb12()->control.next_rip = 0x7002;
	vmrun();
	assert_true(l2_exits(SVM_EXIT_CPUID, 0, 0));
	assert_true(seen.control.next_rip == 0x7002 && seen.save.rip == 0x7000);
}

static void broken_off_events_are_told(void **state)
{
	vmcb12()->control.event_inject = PAGE_FAULT;
	vmcb12()->control.intercept[0] |= INTERCEPT1_SHUTDOWN;
	vmrun();
	script.interrupted = PAGE_FAULT;
	assert_true(l2_exits(SVM_EXIT_SHUTDOWN, 0, 0));
	assert_true(vmcb12()->control.exit_interrupt_info == PAGE_FAULT);
	/* L2's own INT n. */
	vmrun();
	script.interrupted = 0x80000421;
	assert_true(l2_exits(SVM_EXIT_SHUTDOWN, 0, 0));
	assert_true(vmcb12()->control.exit_interrupt_info == 0x80000421);
	/* By way of Quire: a fault in L1's tables. */
	struct hv_nested_fault fault = { .where = gpa(0x5678), .access = ACCESS_WRITE, .guest_table = true };

	vmcb12()->control.event_inject = 0x80000030;
	vmrun();
	script.interrupted = 0x80000030;
	script.info1 = NPF_GUEST_TABLE | NPF_WRITE | NPF_PRESENT;
	run_until(nested->l2, SVM_EXIT_NPF, 0);
	nested->l2->inject = nested->l2->exit.interrupted;
	svm_nested_ops.reflect_slat(nested, &fault);
	assert_true(vmcb12()->control.exit_code == SVM_EXIT_NPF && vmcb12()->control.exit_info2 == 0x5678);
	assert_true(vmcb12()->control.exit_info1 == (NPF_GUEST_TABLE | NPF_USER | NPF_WRITE));
	assert_true(vmcb12()->control.exit_interrupt_info == 0x80000030);
	assert_true(nested->l2->inject.kind == EVENT_NONE && vcpu->inject.kind == EVENT_NONE);
}

static void faults_in_l1s_tables(void **state)
{
	static const struct {
		struct hv_nested_fault fault;
		bool no_execute;
		uint64_t info;
	} rows[] = {
		{ { .access = ACCESS_READ }, true, NPF_FINAL | NPF_USER },
		{ { .access = ACCESS_READ | ACCESS_WRITE, .present = true },
		  true,
		  NPF_FINAL | NPF_USER | NPF_WRITE | NPF_PRESENT },
		{ { .access = ACCESS_EXECUTE, .present = true }, true, NPF_FINAL | NPF_USER | NPF_FETCH | NPF_PRESENT },
		{ { .access = ACCESS_EXECUTE }, false, NPF_FINAL | NPF_USER },
		{ { .access = ACCESS_READ, .misconfigured = true },
		  true,
		  NPF_FINAL | NPF_USER | NPF_RESERVED | NPF_PRESENT },
		{ { .access = ACCESS_READ, .guest_table = true }, true, NPF_GUEST_TABLE | NPF_USER | NPF_WRITE },
	};

	for (unsigned i = 0; i < ARRAY_SIZE(rows); i++)
		assert_true(nested_fault_info(&rows[i].fault, rows[i].no_execute) == rows[i].info);
}

/* Each code to the bit that L1 sets for it, and to no other: appendix C against table B-1. */
static void intercepts_are_told_apart(void **state)
{
	for (uint64_t code = 0; code < 0x500; code++) {
		unsigned asked = 0;

		for (unsigned bit = 0; bit < INTERCEPT_WORDS * 32; bit++) {
			struct vmcb_control c = { 0 };
			bool own = bit == code || (code == SVM_EXIT_MWAIT_ARMED && bit == SVM_EXIT_MWAIT);

			/* CR reads and writes, DR likewise, exceptions, then the rest in the codes' order. */
			c.intercepts[bit / 32] = (uint32_t)BIT(bit % 32);
			assert_int_equal(nested_wants(&c, code), own);
			asked += nested_wants(&c, code);
		}
		assert_int_equal(asked, code == SVM_EXIT_MWAIT_ARMED ? 2 : code < INTERCEPT_WORDS * 32);
	}
	vmcb12()->control.intercept[0] |= INTERCEPT1_CR0_SELECTIVE;
	vmrun();
	assert_true(l2_exits(SVM_EXIT_CR0_SELECTIVE, 0, 0));
	assert_int_equal(vmcb12()->control.exit_code, SVM_EXIT_CR0_SELECTIVE);
	vmcb12()->control.cr_write = 1;
	vmrun();
	assert_true(l2_exits(SVM_EXIT_CR0_SELECTIVE, 0, 0));
	assert_int_equal(vmcb12()->control.exit_code, SVM_EXIT_CR_WRITE);
	/* Quire's own, whatever L1 wants. */
	vmcb12()->control.exceptions = UINT32_MAX;
	vmcb12()->control.intercept[0] = UINT32_MAX;
	vmrun();
	assert_false(l2_exits(SVM_EXIT_EXCEPTION + VECTOR_MC, 0, 0));
	for (uint64_t code = SVM_EXIT_INTR; code <= SVM_EXIT_INIT; code++) {
		nested->l2->exit.kind = EXIT_HOST_INTERRUPT;
		nested->l2->exit.raw_reason = code;
		assert_false(svm_nested_ops.exit(nested));
	}
	assert_true(l2_exits(SVM_EXIT_EXCEPTION + VECTOR_PF, 6, 0xbad));
	assert_true(vmcb12()->control.exit_info1 == 6 && vmcb12()->control.exit_info2 == 0xbad);
}

static void exceptions_that_quire_raises(void **state)
{
	struct hv_event fault = {
		.kind = EVENT_EXCEPTION, .vector = VECTOR_PF, .has_error_code = true, .error_code = 5
	};

	assert_false(svm_nested_ops.exception(nested, &fault, 0xbad)); /* L1's own */
	vmcb12()->control.intercept[0] |= INTERCEPT1_SHUTDOWN;
	vmrun();
	assert_false(svm_nested_ops.exception(nested, &fault, 0xbad));
	svm_nested_ops.reset(nested);
	vmcb12()->control.exceptions = BIT(VECTOR_PF);
	vmrun();
	nested->l2->inject = (struct hv_event){ .kind = EVENT_INTERRUPT, .vector = 0x44 };
	assert_true(svm_nested_ops.exception(nested, &fault, 0xbad));
	assert_int_equal(vmcb12()->control.exit_code, SVM_EXIT_EXCEPTION + VECTOR_PF);
	assert_true(vmcb12()->control.exit_info1 == 5 && vmcb12()->control.exit_info2 == 0xbad);
	assert_true(vmcb12()->control.exit_interrupt_info == 0x80000044);
	vmcb12()->control.exceptions = 0;
	vmrun();
	nested->l2->inject = (struct hv_event){ .kind = EVENT_EXCEPTION, .vector = VECTOR_DF, .has_error_code = true };
	assert_true(svm_nested_ops.exception(nested, &fault, 0xbad));
	assert_int_equal(vmcb12()->control.exit_code, SVM_EXIT_SHUTDOWN);
}

static enum hv_nested_verdict pending(enum hv_nested_event what)
{
	return svm_nested_ops.pending(nested, what);
}

static void interrupts_of_l1(void **state)
{
	/* With V_INTR_MASKING L1's IF decides. */
	vmcb12()->control.interrupt_control = V_INTR_MASKING;
	vmrun();
	nested->l2->inject = (struct hv_event){ .kind = EVENT_INTERRUPT, .vector = 0x44 };
	kicks = 0;
	assert_int_equal(pending(NESTED_INTERRUPT), NESTED_HELD);
	assert_int_equal(pending(NESTED_NMI), NESTED_HELD);
	assert_int_equal(kicks, 2);
	nested->l2->inject.kind = EVENT_NONE; /* delivered */
	assert_int_equal(pending(NESTED_INTERRUPT), NESTED_REFLECTED);
	assert_true(vmcb12()->control.exit_code == SVM_EXIT_INTR && vmcb12()->control.exit_interrupt_info == 0);
	assert_int_equal(pending(NESTED_INTERRUPT), NESTED_HELD); /* GIF */
	assert_int_equal(pending(NESTED_NMI), NESTED_HELD);
	assert_int_equal(pending(NESTED_INIT), NESTED_HELD);
	assert_int_equal(l1_executes(SVM_EXIT_STGI, 0), NESTED_DONE);
	assert_int_equal(pending(NESTED_INTERRUPT), NESTED_INJECT);
	assert_int_equal(l1_executes(SVM_EXIT_CLGI, 0), NESTED_DONE);
	assert_int_equal(pending(NESTED_NMI), NESTED_HELD);
	svm_ops.load(vcpu, REGS_ALL);
	vcpu->rflags &= ~RFLAGS_IF;
	hv_changed(vcpu, REGS_RFLAGS);
	vmcb12()->save.rflags |= RFLAGS_IF;
	vmrun();
	assert_int_equal(pending(NESTED_INTERRUPT), NESTED_HELD);
	/* Without, L2's. */
	svm_nested_ops.reset(nested);
	vmcb12()->control.interrupt_control = 0;
	vmcb12()->save.rflags &= ~RFLAGS_IF;
	vmrun();
	assert_int_equal(pending(NESTED_INTERRUPT), NESTED_WINDOW);
	svm_nested_ops.reset(nested);
	vmcb12()->save.rflags |= RFLAGS_IF;
	vmrun();
	assert_int_equal(pending(NESTED_INTERRUPT), NESTED_REFLECTED);
	/* Not intercepted: L2's own, as NMI and INIT. */
	vmcb12()->control.intercept[0] = 0;
	vmrun();
	assert_int_equal(pending(NESTED_INTERRUPT), NESTED_INJECT);
	assert_int_equal(pending(NESTED_NMI), NESTED_INJECT);
	assert_int_equal(pending(NESTED_INIT), NESTED_INJECT);
	svm_nested_ops.reset(nested);
	vmcb12()->control.intercept[0] = INTERCEPT1_NMI | INTERCEPT1_INIT;
	vmrun();
	nested_l1(state_of_l1())->nmi_blocked = true;
	assert_int_equal(pending(NESTED_NMI), NESTED_HELD);
	nested_l1(state_of_l1())->nmi_blocked = false;
	assert_int_equal(pending(NESTED_NMI), NESTED_REFLECTED);
	assert_int_equal(vmcb12()->control.exit_code, SVM_EXIT_NMI);
	vmrun();
	assert_int_equal(pending(NESTED_INIT), NESTED_REFLECTED);
	assert_int_equal(vmcb12()->control.exit_code, SVM_EXIT_INIT);
}

/* L1's virtual interrupt goes through to the processor; Quire's own window takes its place for a while. */
static void virtual_interrupts(void **state)
{
	const uint64_t wanted = V_IRQ | UINT64_C(0x31) << V_VECTOR_SHIFT | UINT64_C(3) << 16 | 2;

	vmcb12()->control.interrupt_control = wanted | V_INTR_MASKING;
	vmcb12()->control.intercept[0] |= INTERCEPT1_VINTR;
	vmrun();
	nested->l2->want_interrupt_window = true;
	run_until(nested->l2, SVM_EXIT_HLT, 0);
	assert_true(seen.control.interrupt_control == (V_IRQ | V_IGNORE_TPR | V_PRIORITY_HIGHEST | V_INTR_MASKING | 2));
	assert_false(svm_nested_ops.exit(nested));
	assert_false(l2_exits(SVM_EXIT_VINTR, 0, 0)); /* Quire's window */
	nested->l2->want_interrupt_window = false;
	run_until(nested->l2, SVM_EXIT_HLT, 0);
	assert_true(seen.control.interrupt_control == (wanted | V_INTR_MASKING));
	assert_true(seen.control.intercept[0] & INTERCEPT1_VINTR);
	assert_true(seen.control.cr_read == 0 && seen.control.cr_write == BIT(4)); /* CR8 is V_TPR */
	assert_true(l2_exits(SVM_EXIT_VINTR, 0, 0));
	assert_true(vmcb12()->control.interrupt_control == (wanted | V_INTR_MASKING));
	svm_quirks.priority_aborts = true;
	vmrun();
	assert_true(l2_exits(SVM_EXIT_CPUID, 0, 0));
	assert_int_equal(seen.control.cr_read, BIT(8));
	/* Without masking CR8 is L1's local APIC. */
	svm_quirks.priority_aborts = false;
	vmcb12()->control.interrupt_control = 0;
	vmrun();
	assert_true(l2_exits(SVM_EXIT_CPUID, 0, 0));
	assert_int_equal(seen.control.cr_read, BIT(8));
	/* One that broke off in its delivery isn't lost, and not pending twice. */
	vmcb12()->control.interrupt_control = wanted;
	vmrun();
	script.interrupted = 0x80000331; /* as QEMU spells it */
	run_until(nested->l2, SVM_EXIT_NPF, 0);
	assert_true(nested->l2->exit.interrupted.kind == EVENT_INTERRUPT &&
		    nested->l2->exit.interrupted.vector == 0x31);
	assert_false(nested_l2(state_of_l1())->vmcb->control.interrupt_control & V_IRQ);
}

/* Due at VMRUN: without the processor's help. */
static void virtual_interrupts_at_once(void **state)
{
	vmcb12()->control.interrupt_control = V_IRQ | UINT64_C(0x31) << V_VECTOR_SHIFT | UINT64_C(3) << 16 | 2;
	vmcb12()->save.rflags |= RFLAGS_IF;
	vmrun();
	run_until(nested->l2, SVM_EXIT_HLT, 0);
	assert_true(seen.control.event_inject == 0x80000031 && !(seen.control.interrupt_control & V_IRQ));
	svm_nested_ops.reset(nested);
	vmcb12()->control.intercept[0] |= INTERCEPT1_VINTR;
	vmrun();
	assert_true(!nested->in_l2 && vmcb12()->control.exit_code == SVM_EXIT_VINTR);
	assert_true(vmcb12()->control.interrupt_control & V_IRQ);
	for (unsigned i = 0; i < 4; i++) {
		struct vmcb v = *vmcb12();

		assert_true(nested_takes_virtual(&v, v.control.interrupt_control));
		if (i == 0)
			v.control.interrupt_control |= 3; /* V_TPR */
		else if (i == 1)
			v.save.rflags &= ~RFLAGS_IF;
		else if (i == 2)
			v.control.interrupt_state = INTERRUPT_SHADOW;
		else
			v.control.event_inject = 0x80000030;
		assert_false(nested_takes_virtual(&v, v.control.interrupt_control));
	}
}

static void closes_gif(struct vmcb *vmcb)
{
	vmcb->control.interrupt_control &= ~V_GIF;
}

/* Does L2's STGI, or CLGI, exit at its next entry? */
static bool gates_exit(void)
{
	uint32_t gates = INTERCEPT2_STGI | INTERCEPT2_CLGI;

	run_until(nested->l2, SVM_EXIT_HLT, 0);
	assert_true((seen.control.intercept[1] & gates) == 0 || (seen.control.intercept[1] & gates) == gates);
	return seen.control.intercept[1] & gates;
}

/* L2's own global interrupt flag is the processor's, but while Quire waits for a window; V_IRQ is what it holds. */
static void virtual_gif(void **state)
{
	const uint64_t waiting = V_IRQ | UINT64_C(0x31) << V_VECTOR_SHIFT | UINT64_C(3) << 16;
	struct cpuid_result leaf;

	svm_nested_ops.tell(CPUID_SVM, &leaf);
	assert_false(leaf.edx & CPUID_SVM_VIRTUAL_GIF);
	vmcb12()->save.rflags |= RFLAGS_IF;
	vmcb12()->control.interrupt_control = waiting | V_INTR_MASKING | V_GIF_ENABLE;
	vmrun(); /* bits that L1 hasn't been told of say nothing: it is taken */
	assert_true(gates_exit() && seen.control.event_inject == 0x80000031);
	assert_false(seen.control.interrupt_control & (V_GIF_ENABLE | V_GIF));
	assert_false(l2_exits(SVM_EXIT_STGI, 0, 0));
	assert_int_equal(nested->l2->exit.kind, EXIT_NESTED);
	svm_nested_ops.reset(nested);
	svm_features.virtual_gif = true;
	svm_nested_ops.tell(CPUID_SVM, &leaf);
	assert_true(leaf.edx & CPUID_SVM_VIRTUAL_GIF);
	vmrun();
	assert_false(gates_exit());
	assert_true(seen.control.interrupt_control == (waiting | V_INTR_MASKING | V_GIF_ENABLE));
	assert_int_equal(seen.control.event_inject, 0);
	assert_false(svm_nested_ops.exit(nested));
	assert_int_equal(nested->l2->exit.kind, EXIT_HLT); /* held: it doesn't end HLT */
	/* What L2 made of it is told; interrupts that L1 intercepts don't mind it. */
	assert_int_equal(pending(NESTED_INTERRUPT), NESTED_REFLECTED);
	assert_true(vmcb12()->control.interrupt_control == (waiting | V_INTR_MASKING | V_GIF_ENABLE));
	vmcb12()->control.interrupt_control |= V_GIF | 4; /* V_TPR holds it as well */
	vmrun();
	script.act = closes_gif;
	assert_true(l2_exits(SVM_EXIT_CPUID, 0, 0) && (seen.control.interrupt_control & V_GIF));
	assert_true(vmcb12()->control.interrupt_control == (waiting | V_INTR_MASKING | V_GIF_ENABLE | 4));
	/* Asked for, their exits are L1's. */
	vmcb12()->control.intercept[1] |= INTERCEPT2_STGI | INTERCEPT2_CLGI;
	vmrun();
	assert_true(gates_exit());
	assert_true(l2_exits(SVM_EXIT_STGI, 0, 0));
	assert_int_equal(vmcb12()->control.exit_code, SVM_EXIT_STGI);
	assert_false(vmcb12()->control.interrupt_control & V_GIF);
}

static void virtual_gif_and_a_window(void **state)
{
	svm_features.virtual_gif = true;
	vmcb12()->control.interrupt_control = V_GIF_ENABLE;
	vmrun();
	nested->l2->want_interrupt_window = true;
	assert_true(gates_exit());
	assert_true(seen.control.interrupt_control == (V_IRQ | V_IGNORE_TPR | V_PRIORITY_HIGHEST | V_INTR_MASKING));
	assert_false(l2_exits(SVM_EXIT_STGI, 0, 0));
	assert_int_equal(nested->l2->exit.kind, EXIT_CACHE); /* to be stepped over */
	nested->l2->want_interrupt_window = false;
	assert_false(gates_exit());
	assert_true(seen.control.interrupt_control == (V_INTR_MASKING | V_GIF_ENABLE | V_GIF));
	nested->l2->want_interrupt_window = true;
	assert_false(l2_exits(SVM_EXIT_CLGI, 0, 0));
	assert_int_equal(nested->l2->exit.kind, EXIT_CACHE);
	assert_true(l2_exits(SVM_EXIT_CPUID, 0, 0));
	assert_true(vmcb12()->control.interrupt_control == V_GIF_ENABLE);
}

/* So does L1's own; an event that it holds up is told of by the STGI. */
static void virtual_gif_of_l1(void **state)
{
	const uint64_t set = V_INTR_MASKING | V_GIF_ENABLE | V_GIF;
	const uint32_t gates = INTERCEPT2_STGI | INTERCEPT2_CLGI;

	svm_features.virtual_gif = true;
	svm_nested_ops.reset(nested);
	run_until(vcpu, SVM_EXIT_HLT, 0);
	assert_true(seen.control.interrupt_control == set && !(seen.control.intercept[1] & gates));
	assert_int_equal(pending(NESTED_NMI), NESTED_INJECT);
	script.act = closes_gif;
	run_until(vcpu, SVM_EXIT_HLT, 0);
	assert_int_equal(pending(NESTED_NMI), NESTED_HELD);
	run_until(vcpu, SVM_EXIT_HLT, 0);
	assert_true((seen.control.intercept[1] & gates) == INTERCEPT2_STGI);
	assert_true(seen.control.interrupt_control == (set & ~V_GIF));
	assert_int_equal(l1_executes(SVM_EXIT_STGI, 0), NESTED_DONE);
	assert_int_equal(pending(NESTED_INTERRUPT), NESTED_INJECT);
	run_until(vcpu, SVM_EXIT_HLT, 0);
	assert_true(seen.control.interrupt_control == set && !(seen.control.intercept[1] & gates));
	/* Quire's window takes its place, as in L2. */
	svm_ops.load(vcpu, REGS_ALL);
	vcpu->rflags &= ~RFLAGS_IF;
	hv_changed(vcpu, REGS_RFLAGS);
	vcpu->want_interrupt_window = true;
	assert_int_equal(l1_executes(SVM_EXIT_CLGI, 0), NESTED_DONE);
	assert_true((seen.control.intercept[1] & gates) == gates);
	assert_true(seen.control.interrupt_control == (V_IRQ | V_IGNORE_TPR | V_PRIORITY_HIGHEST | V_INTR_MASKING));
	assert_int_equal(pending(NESTED_INTERRUPT), NESTED_HELD);
	vcpu->want_interrupt_window = false;
	run_until(vcpu, SVM_EXIT_HLT, 0);
	assert_true(seen.control.interrupt_control == (set & ~V_GIF));
	/* #VMEXIT clears it, and so does a VMRUN that is refused. */
	for (unsigned refused = 0; refused < 2; refused++) {
		assert_int_equal(l1_executes(SVM_EXIT_STGI, 0), NESTED_DONE);
		vmcb12()->control.asid = !refused;
		vmrun();
		assert_true(refused || l2_exits(SVM_EXIT_CPUID, 0, 0));
		assert_int_equal(pending(NESTED_NMI), NESTED_HELD);
		run_until(vcpu, SVM_EXIT_HLT, 0);
		assert_true(seen.control.interrupt_control == (set & ~V_GIF));
	}
}

/* Only who has the extension switched on is left alone with its instructions; VMLOAD and VMSAVE in long mode. */
static void instructions_without_exits(void **state)
{
	const uint32_t gates = INTERCEPT2_STGI | INTERCEPT2_CLGI, exchanges = INTERCEPT2_VMLOAD | INTERCEPT2_VMSAVE;
	static const struct {
		uint64_t efer;
		bool gates, exchanges;
	} rows[] = {
		{ EFER_LME | EFER_LMA | EFER_SVME, false, false },
		{ EFER_SVME, false, true },
		{ EFER_LME | EFER_LMA, true, true },
	};

	svm_features.virtual_gif = svm_features.virtual_load_save = true;
	svm_nested_ops.reset(nested);
	for (unsigned i = 0; i < ARRAY_SIZE(rows); i++) {
		svm_ops.load(vcpu, REGS_ALL);
		vcpu->efer = rows[i].efer;
		hv_changed(vcpu, REGS_CONTROL);
		run_until(vcpu, SVM_EXIT_HLT, 0);
		assert_int_equal(seen.control.intercept[1] & gates, rows[i].gates ? gates : 0);
		assert_int_equal(seen.control.intercept[1] & exchanges, rows[i].exchanges ? exchanges : 0);
		assert_true(seen.control.lbr_control == VIRTUAL_LOAD_SAVE);
	}
	make_l1();
	vmrun();
	run_until(nested->l2, SVM_EXIT_HLT, 0);
	assert_true((seen.control.intercept[1] & exchanges) == exchanges && !seen.control.lbr_control);
}

static void flushes(void **state)
{
	vmrun();
	assert_true(nested->l2->flush_pending); /* an ASID that wasn't there yet */
	assert_true(l2_exits(SVM_EXIT_CPUID, 0, 0));
	vmrun();
	assert_true(!nested->l2->flush_pending && flushed_all + flushed_one == 0); /* no tables of L1's */
	assert_true(l2_exits(SVM_EXIT_CPUID, 0, 0));
	vmcb12()->control.nested_control = NESTED_PAGING;
	vmcb12()->control.nested_cr3 = 0x6018;
	vmcb12()->control.tlb_control = TLB_FLUSH_ASID;
	nested->slat_changed = false;
	vmrun();
	assert_true(nested->slat_changed && nested->slat.on && nested->slat.root.v == 0x6000);
	assert_ptr_equal(nested->slat.format, &pt_npt4);
	assert_true(nested->slat.large_1g && nested->slat.accessed_dirty && !nested->slat.no_execute);
	assert_true(nested->l2->flush_pending && flushed_one == 1);
	assert_true(l2_exits(SVM_EXIT_CPUID, 0, 0));
	vmcb12()->control.tlb_control = TLB_FLUSH_ALL;
	nested->slat_changed = false;
	vmrun();
	assert_true(!nested->slat_changed && flushed_all == 1 && flushed_one == 1);
	assert_true(vcpu->flush_pending);
	assert_true(l2_exits(SVM_EXIT_CPUID, 0, 0));
	vmcb12()->control.tlb_control = TLB_KEEP;
	vmcb12()->control.asid = 2;
	vmrun();
	assert_int_equal(flushed_one, 2);
	assert_true(l2_exits(SVM_EXIT_CPUID, 0, 0));
	assert_false(nested->l2->flush_pending || vcpu->flush_pending);
	vcpu->gpr[GPR_RCX] = 2;
	assert_int_equal(l1_executes(SVM_EXIT_INVLPGA, 0), NESTED_DONE);
	assert_true(nested->l2->flush_pending && !vcpu->flush_pending && flushed_all == 2);
	vcpu->gpr[GPR_RCX] = 0;
	assert_int_equal(l1_executes(SVM_EXIT_INVLPGA, 0), NESTED_DONE);
	assert_true(vcpu->flush_pending && flushed_all == 2);
	/* The format is that of L1's own paging. */
	svm_ops.load(vcpu, REGS_ALL);
	vcpu->efer = EFER_SVME;
	vcpu->segment[SEG_CS].attributes = 0xc09b;
	hv_changed(vcpu, REGS_ALL);
	vmcb12()->control.nested_cr3 = 0x6020;
	vmrun();
	assert_ptr_equal(nested->slat.format, &pt_pae);
	assert_true(nested->slat.root.v == 0x6020);
}

static void registers_of_the_extension(void **state)
{
	uint64_t value = 0x5000;
	struct cpuid_result r = { 0 };

	assert_int_equal(svm_nested_ops.msr(nested, MSR_VM_HSAVE_PA, true, &value), OK);
	value = 0;
	assert_int_equal(svm_nested_ops.msr(nested, MSR_VM_HSAVE_PA, false, &value), OK);
	assert_int_equal(value, 0x5000);
	value = 0x5008;
	assert_int_equal(svm_nested_ops.msr(nested, MSR_VM_HSAVE_PA, true, &value), DENIED);
	value = BIT(40);
	assert_int_equal(svm_nested_ops.msr(nested, MSR_VM_HSAVE_PA, true, &value), DENIED);
	assert_int_equal(svm_nested_ops.msr(nested, MSR_VM_CR, false, &value), OK);
	assert_int_equal(value, VM_CR_LOCK);
	value = VM_CR_SVMDIS;
	assert_int_equal(svm_nested_ops.msr(nested, MSR_VM_CR, true, &value), OK);
	value = BIT(5);
	assert_int_equal(svm_nested_ops.msr(nested, MSR_VM_CR, true, &value), DENIED);
	assert_int_equal(svm_nested_ops.msr(nested, MSR_EFER, false, &value), NOT_FOUND);
	svm_nested_ops.tell(CPUID_SVM, &r);
	assert_true(r.eax == 1 && r.ebx == NESTED_ASIDS && r.edx == (CPUID_SVM_NPT | CPUID_SVM_FLUSH_ASID));
	svm_features.next_rip = svm_features.decode_assists = true;
	svm_nested_ops.tell(CPUID_SVM, &r);
	assert_true((r.edx & CPUID_SVM_NEXT_RIP) && (r.edx & CPUID_SVM_DECODE));
}

/* Whatever L1 puts together: Quire's own intercepts, maps and tables stand, and the processor is given nothing that it refuses. */
static void check_entry(void)
{
	static const struct svm_limits limits = { BITS(31, 0), ~UINT64_C(0), 16, 52 };
	const struct svm_vcpu *l1 = svm_of(vcpu);
	const struct vmcb_control *c = &seen.control;
	const uint8_t *map = direct_pointer(hpa(c->msrpm_base));

	assert_null(svm_explain_refusal(&seen, &limits, true));
	for (unsigned i = 3; i < INTERCEPT_WORDS; i++)
		assert_int_equal(l1->vmcb->control.intercepts[i] & ~c->intercepts[i] & ~(uint32_t)INTERCEPT1_VINTR, 0);
	assert_true((c->exceptions & SVM_EXCEPTIONS) == SVM_EXCEPTIONS && (c->cr_write & BIT(4)));
	assert_true(c->interrupt_control & V_INTR_MASKING);
	assert_true(c->nested_control == NESTED_PAGING && c->nested_cr3 == 0x456000 && c->lbr_control == 0);
	assert_true(c->iopm_base == l1->vmcb->control.iopm_base && c->msrpm_base != l1->vmcb->control.msrpm_base);
	assert_true(c->asid > 0 && c->asid < 16 && !(seen.save.cr0 & (CR0_CD | CR0_NW)));
	for (unsigned i = 0; i < 0x1800; i++)
		assert_int_equal(map[i] & l1->msr_map[i], l1->msr_map[i]);
}

static void random_vmcbs(void **state)
{
	unsigned entered = 0;

	srandom(7);
	svm_ops.pass_msr(vcpu, MSR_LSTAR, true, true);
	for (unsigned round = 0; round < 20000; round++) {
		memset(vmcb12(), 0, sizeof(struct vmcb));
		make_vmcb12();
		for (unsigned i = 0, count = (unsigned)random() % 6; i < count; i++)
			l1_memory[VMCB12_AT + ((unsigned)random() & 1 ? 0u : 0x400u) + (unsigned)random() % 0x270] =
				(uint8_t)random();
		if (random() % 4 == 0)
			l1_memory[MSR_MAP_AT + (unsigned)random() % 0x2000] = (uint8_t)random();
		state_of_l1()->gif = true;
		make_l1();
		vmrun();
		entered += nested->in_l2;
		for (unsigned exits = 0; nested->in_l2 && exits < 4; exits++) {
			uint64_t code = random() % 8 ? (uint64_t)random() % 0xa8 : SVM_EXIT_NPF;

			if (code >= SVM_EXIT_INTR && code <= SVM_EXIT_INIT)
				code = SVM_EXIT_HLT; /* would open this program's interrupts */
			nested->l2->want_interrupt_window = random() & 1;
			script.interrupted = random() & 1 ? ((uint64_t)random() << 32 | (uint64_t)random()) : 0;
			script.info1 = (uint64_t)random();
			nested->l2->exited = exited;
			script.code = code;
			unsigned before = entries;
			svm_ops.run(nested->l2);
			memset(&script, 0, sizeof(script));
			if (entries != before)
				check_entry();
			if (random() % 8 == 0)
				(void)svm_nested_ops.pending(nested, (enum hv_nested_event)(random() % 3));
			else if (nested->l2->exit.kind != EXIT_SLAT_FAULT)
				(void)svm_nested_ops.exit(nested);
		}
		svm_nested_ops.reset(nested);
	}
	assert_in_range(entered, 5000, 19900);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(events_of_vmrun, begin, end),
		cmocka_unit_test_setup_teardown(broken_off_events_are_told, begin, end),
		cmocka_unit_test_setup_teardown(faults_in_l1s_tables, begin, end),
		cmocka_unit_test_setup_teardown(intercepts_are_told_apart, begin, end),
		cmocka_unit_test_setup_teardown(exceptions_that_quire_raises, begin, end),
		cmocka_unit_test_setup_teardown(interrupts_of_l1, begin, end),
		cmocka_unit_test_setup_teardown(virtual_interrupts, begin, end),
		cmocka_unit_test_setup_teardown(virtual_interrupts_at_once, begin, end),
		cmocka_unit_test_setup_teardown(virtual_gif, begin, end),
		cmocka_unit_test_setup_teardown(virtual_gif_and_a_window, begin, end),
		cmocka_unit_test_setup_teardown(virtual_gif_of_l1, begin, end),
		cmocka_unit_test_setup_teardown(instructions_without_exits, begin, end),
		cmocka_unit_test_setup_teardown(flushes, begin, end),
		cmocka_unit_test_setup_teardown(registers_of_the_extension, begin, end),
		cmocka_unit_test_setup_teardown(random_vmcbs, begin, end),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
