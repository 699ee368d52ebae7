/* SPDX-License-Identifier: Apache-2.0 */
// sources: svm/run.c svm/special.c svm/shadow.c svm/spec_ctrl.c svm/vcpu.c svm/state.c svm/event.c svm/exit.c svm/msr_map.c svm/explain.c svm/nested/*.c arch/x86_64/pt_format.c
/* Nested SVM where no emulator looks: flushes that a refusal breaks off, orders of intercepts, what halts, and what both levels share. */
#include "test_svm_nested_world.h"

/* A processor that refuses the VMCB has not flushed: neither the vcpu's ASID nor, at a new generation, everybody's. */
static void refusal_flushes_nothing(void **state)
{
	struct svm_cpu *cpu = &svm_cpus[0];

	for (unsigned round = 0; round < 2; round++) {
		svm_features.flush_asid = round;
		vmrun();
		nested_l2(state_of_l1())->asid.generation = 0;
		cpu->asids.next = cpu->asids.count; /* the next is a new generation's */
		cpu->loaded = NULL;
		assert_true(l2_exits(SVM_EXIT_INVALID_LOW, 0, 0));
		assert_int_equal(seen.control.tlb_control, TLB_FLUSH_ALL);
		assert_true(nested->l2->flush_pending);
		run_until(vcpu, SVM_EXIT_CPUID, 0); /* another of this CPU's */
		assert_int_equal(seen.control.tlb_control, TLB_FLUSH_ALL);
	}
	/* Of its own ASID. */
	vmrun();
	assert_true(l2_exits(SVM_EXIT_CPUID, 0, 0));
	nested->l2->flush_pending = true;
	vmrun();
	assert_true(l2_exits(SVM_EXIT_INVALID_LOW, 0, 0));
	assert_int_equal(seen.control.tlb_control, TLB_FLUSH_ASID);
	vmrun();
	assert_true(l2_exits(SVM_EXIT_CPUID, 0, 0));
	assert_int_equal(seen.control.tlb_control, TLB_FLUSH_ASID);
	vmrun();
	assert_true(l2_exits(SVM_EXIT_CPUID, 0, 0));
	assert_int_equal(seen.control.tlb_control, TLB_KEEP);
}

static void second_exception_comes_first(void **state)
{
	static const struct hv_event fault = {
		.kind = EVENT_EXCEPTION, .vector = VECTOR_PF, .has_error_code = true, .error_code = 2
	};
	static const struct hv_event df = { .kind = EVENT_EXCEPTION, .vector = VECTOR_DF, .has_error_code = true };

	vmcb12()->control.exceptions = BIT(VECTOR_PF);
	vmcb12()->control.intercept[0] |= INTERCEPT1_SHUTDOWN;
	vmcb12()->save.cr2 = 0xc2;
	vmrun();
	nested->l2->inject = df;
	nested->l2->cr2 = 0xbad; /* as whoever raises it has left it */
	assert_true(svm_nested_ops.exception(nested, &fault, 0xbad));
	assert_int_equal(vmcb12()->control.exit_code, SVM_EXIT_EXCEPTION + VECTOR_PF);
	assert_true(vmcb12()->control.exit_info2 == 0xbad && vmcb12()->control.exit_interrupt_info == 0x80000b08);
	assert_true(vmcb12()->save.cr2 == 0xc2 && vcpu->cr2 == 0xc2);
	vmcb12()->control.exceptions = 0;
	vmrun();
	nested->l2->inject = df;
	assert_true(svm_nested_ops.exception(nested, &fault, 0xbad));
	assert_int_equal(vmcb12()->control.exit_code, SVM_EXIT_SHUTDOWN);
}

/* STI, HLT, with a virtual interrupt that waits, and L1 doesn't intercept HLT. */
static void virtual_interrupt_ends_halt(void **state)
{
	const uint64_t wanted = V_IRQ | UINT64_C(0x31) << V_VECTOR_SHIFT | UINT64_C(3) << 16;
	static const struct {
		uint64_t control, rflags;
		enum hv_exit_kind kind;
	} rows[] = {
		{ 0, BIT(1) | RFLAGS_IF, EXIT_CACHE },
		{ 4, BIT(1) | RFLAGS_IF, EXIT_HLT },
		{ 4 | V_IGNORE_TPR, BIT(1) | RFLAGS_IF, EXIT_CACHE },
		{ 0, BIT(1), EXIT_HLT },
	};

	for (unsigned i = 0; i < ARRAY_SIZE(rows); i++) {
		svm_nested_ops.reset(nested);
		vmcb12()->control.interrupt_control = wanted | rows[i].control | V_INTR_MASKING;
		vmrun();
		script.rflags = rows[i].rflags;
		assert_false(l2_exits(SVM_EXIT_HLT, 0, 0));
		assert_int_equal(nested->l2->exit.kind, rows[i].kind);
	}
	vmcb12()->control.intercept[0] |= INTERCEPT1_HLT;
	svm_nested_ops.reset(nested);
	vmrun();
	script.rflags = BIT(1) | RFLAGS_IF;
	assert_true(l2_exits(SVM_EXIT_HLT, 0, 0));
}

/* Without nested paging there is one PAT for both levels. */
static void pat_is_shared(void **state)
{
	vcpu->pat = 6;
	hv_changed(vcpu, REGS_SYSTEM);
	vmrun();
	run_until(nested->l2, SVM_EXIT_HLT, 0);
	assert_true(seen.save.pat == 6 && !svm_nested_ops.exit(nested));
	svm_ops.load(nested->l2, REGS_SYSTEM);
	nested->l2->pat = 0x0406;
	hv_changed(nested->l2, REGS_SYSTEM);
	assert_true(l2_exits(SVM_EXIT_CPUID, 0, 0));
	assert_int_equal(nested_l1(state_of_l1())->vmcb->control.clean & CLEAN_NESTED, 0);
	svm_ops.load(vcpu, REGS_SYSTEM);
	assert_true(vcpu->pat == 0x0406 && vmcb12()->save.pat == UINT64_C(0x0007040600070406));
	vcpu->valid = 0;
	vmcb12()->control.nested_control = NESTED_PAGING;
	vmrun();
	assert_true(l2_exits(SVM_EXIT_CPUID, 0, 0));
	svm_ops.load(vcpu, REGS_SYSTEM);
	assert_true(seen.save.pat == UINT64_C(0x0007040600070406) && vcpu->pat == 0x0406);
}

/* VMRUN is an instruction to be single-stepped, whatever becomes of it. */
static void step_over_vmrun(void **state)
{
	for (unsigned i = 0; i < 3; i++) {
		make_l1();
		vcpu->rflags |= RFLAGS_TF;
		vcpu->dr[6] = DR6_RESET;
		vmcb12()->control.asid = i > 0;
		vmcb12()->save.dr6 = DR6_RESET;
		vmrun();
		assert_int_equal(nested->in_l2, i > 0);
		assert_true(i == 0 || l2_exits(i == 1 ? SVM_EXIT_INVALID_LOW : SVM_EXIT_CPUID, 0, 0));
		assert_true(vcpu->inject.kind == EVENT_EXCEPTION && vcpu->inject.vector == VECTOR_DB);
		assert_true(vcpu->dr[6] == (DR6_RESET | DR6_SINGLE_STEP));
		vcpu->inject.kind = EVENT_NONE;
	}
	make_l1();
	vmcb12()->control.asid = 0;
	vmrun();
	assert_int_equal(vcpu->inject.kind, EVENT_NONE);
}

static void maps_end_where_addresses_end(void **state)
{
	vmcb12()->control.iopm_base = UINT64_C(0xfffffffffffff000);
	vmrun();
	assert_true(!nested->in_l2 && vmcb12()->control.exit_code == ~UINT64_C(0));
	vmcb12()->control.iopm_base = BIT(40) - IO_MAP_SIZE;
	vmcb12()->control.msrpm_base = UINT64_C(0xffffffffffffe000);
	vmrun();
	assert_false(nested->in_l2);
	vmcb12()->control.msrpm_base = BIT(40) - MSR_MAP_SIZE;
	vmrun();
	assert_true(nested->in_l2);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(refusal_flushes_nothing, begin, end),
		cmocka_unit_test_setup_teardown(second_exception_comes_first, begin, end),
		cmocka_unit_test_setup_teardown(virtual_interrupt_ends_halt, begin, end),
		cmocka_unit_test_setup_teardown(pat_is_shared, begin, end),
		cmocka_unit_test_setup_teardown(step_over_vmrun, begin, end),
		cmocka_unit_test_setup_teardown(maps_end_where_addresses_end, begin, end),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
