/* SPDX-License-Identifier: Apache-2.0 */
// sources: vmx/exit.c vmx/convert.c vmx/failure.c vmx/nested/check.c vmx/nested/check_guest.c vmx/nested/check_segments.c vmx/nested/fields.c vmx/nested/offer.c vmx/nested/operand.c arch/x86_64/pt_format.c
/* Rules of the manual that emulators and most hypervisors never come to: a hypervisor as a guest on VMX, over VMCSs that are arrays. */
#include "vmx_nested_world.h"

/* What an instruction at the end of user space leaves in RIP: not canonical, but VM entry takes it, and the fetch faults. */
static void test_rip_behind_user_space(void **state)
{
	open_world();
	switch_on();
	write_plain();
	must_write(VMCS_GUEST_RIP, BIT(47));
	launch();
	assert_int_equal(l2->rip, BIT(47));
	leave_l2();
	must_write(VMCS_GUEST_RIP, ~BIT(47));
	resume();
	leave_l2();
	must_write(VMCS_GUEST_RIP, BIT(48)); /* bits 63:48 differ */
	assert_int_equal(execute(REASON_VMRESUME, 0), NESTED_ENTERED);
	assert_int_equal(must_read(VMCS_EXIT_REASON), REASON_ENTRY_FAILED | 33);
	close_world();
}

/* An entry that fails as an exit tells its reason and qualification; all else is as the last exit left it (section 27.8). */
static void test_failed_entry_leaves_fields(void **state)
{
	open_world();
	switch_on();
	write_plain();
	launch();
	l2_exits(REASON_VMCALL, EXIT_HYPERCALL);
	vmcs[VMCS_EXIT_INSTRUCTION_INFO] = 0x1234;
	vmcs[VMCS_GUEST_PHYSICAL_ADDRESS] = 0x5678;
	assert_true(vmx_nested_ops.exit(&n->base));
	must_write(VMCS_ENTRY_EVENT, EVENT_VALID | 3 << 8 | VECTOR_UD);
	must_write(VMCS_GUEST_RFLAGS, 0);
	vmcs_of[0][VMCS_GUEST_INTERRUPTIBILITY] = BLOCKING_NMI;
	assert_int_equal(execute(REASON_VMRESUME, 0), NESTED_ENTERED);
	assert_int_equal(must_read(VMCS_EXIT_REASON), REASON_ENTRY_FAILED | 33);
	assert_int_equal(must_read(VMCS_EXIT_INSTRUCTION_INFO), 0x1234);
	assert_int_equal(must_read(VMCS_EXIT_INSTRUCTION_LENGTH), 2);
	assert_int_equal(must_read(VMCS_GUEST_PHYSICAL_ADDRESS), 0x5678);
	assert_int_equal(must_read(VMCS_ENTRY_EVENT), EVENT_VALID | 3 << 8 | VECTOR_UD);
	assert_int_equal(vmcs_of[0][VMCS_GUEST_INTERRUPTIBILITY], BLOCKING_NMI);
	close_world();
}

/* The VMCS that is being entered can't be its own shadow. */
static void test_link_to_itself(void **state)
{
	open_world();
	switch_on();
	write_plain();
	must_write(VMCS_LINK_POINTER, REGION_A);
	assert_int_equal(execute(REASON_VMLAUNCH, 0), NESTED_ENTERED);
	assert_int_equal(must_read(VMCS_EXIT_REASON), REASON_ENTRY_FAILED | 33);
	assert_int_equal(must_read(VMCS_EXIT_QUALIFICATION), 4);
	must_write(VMCS_LINK_POINTER, REGION_B);
	launch();
	close_world();
}

/* Section 27.7.1, 28.5.5: which NMIs are blocked once L1 runs again. */
static void test_nmi_blocking_of_l1(void **state)
{
	open_world();
	switch_on();
	write_plain();
	must_write(VMCS_PIN_CONTROLS, PIN_LEAST | PIN_NMI | PIN_VIRTUAL_NMIS);
	must_write(VMCS_GUEST_INTERRUPTIBILITY, BLOCKING_NMI);
	vmcs_of[0][VMCS_GUEST_INTERRUPTIBILITY] = BLOCKING_NMI; /* L1 enters out of its NMI handler */
	launch();
	leave_l2();
	assert_int_equal(vmcs_of[0][VMCS_GUEST_INTERRUPTIBILITY], 0); /* the entry unblocked them */
	assert_int_equal(must_read(VMCS_GUEST_INTERRUPTIBILITY), BLOCKING_NMI);
	must_write(VMCS_PIN_CONTROLS, PIN_LEAST);
	resume();
	leave_l2();
	assert_int_equal(vmcs_of[0][VMCS_GUEST_INTERRUPTIBILITY], BLOCKING_NMI); /* L2's handler is L1's */
	must_write(VMCS_GUEST_INTERRUPTIBILITY, 0);
	resume();
	leave_l2();
	assert_int_equal(vmcs_of[0][VMCS_GUEST_INTERRUPTIBILITY], 0);
	close_world();
}

/* Without virtual NMIs of L1's one may be injected while they are blocked; VMCS02 has virtual NMIs and refuses that. */
static void test_nmi_injected_while_blocked(void **state)
{
	open_world();
	switch_on();
	write_plain();
	must_write(VMCS_GUEST_INTERRUPTIBILITY, BLOCKING_NMI);
	must_write(VMCS_ENTRY_EVENT, EVENT_VALID | 2 << 8 | VECTOR_NMI);
	launch();
	assert_int_equal(l2->inject.kind, EVENT_NMI);
	vmx_write_back(l2v);
	assert_int_equal(vmcs[VMCS_GUEST_INTERRUPTIBILITY], 0);
	must_write(VMCS_GUEST_RIP, 0);
	close_world();
}

/* Where L1 sees another state of NMIs than Quire would go on with, L1's is what the next entry gets. */
static void test_blocking_reaches_the_processor(void **state)
{
	struct hv_nested_fault fault = { .where = { 0x7123 }, .access = ACCESS_WRITE };

	open_world();
	switch_on();
	write_plain();
	launch();
	l2_exits(REASON_EPT_VIOLATION, EXIT_SLAT_FAULT);
	vmcs[VMCS_EXIT_QUALIFICATION] = VIOLATION_NMI_UNBLOCKED;
	vmcs[VMCS_GUEST_INTERRUPTIBILITY] = BLOCKING_NMI; /* as take.c has made it */
	vmx_nested_ops.reflect_slat(&n->base, &fault);
	assert_int_equal(must_read(VMCS_GUEST_INTERRUPTIBILITY), 0);
	resume();
	vmx_write_back(l2v);
	assert_int_equal(vmcs[VMCS_GUEST_INTERRUPTIBILITY], 0);
	l2_exits(REASON_EPT_VIOLATION, EXIT_SLAT_FAULT);
	l2->exit.interrupted = (struct hv_event){ .kind = EVENT_NMI, .vector = VECTOR_NMI };
	vmx_nested_ops.reflect_slat(&n->base, &fault);
	assert_int_equal(must_read(VMCS_GUEST_INTERRUPTIBILITY), BLOCKING_NMI);
	resume();
	assert_int_equal(vmcs[VMCS_GUEST_INTERRUPTIBILITY], BLOCKING_NMI);
	close_world();
}

/* In real mode no exception has an error code, whichever way it is told (sections 28.2.2, 28.2.4). */
static void test_no_error_code_in_real_mode(void **state)
{
	const struct hv_event gp = { .kind = EVENT_EXCEPTION, .vector = VECTOR_GP, .has_error_code = true };

	open_world();
	switch_on();
	write_plain();
	must_write(VMCS_EXCEPTION_BITMAP, BIT(VECTOR_GP));
	launch();
	assert_true(vmx_nested_ops.exception(&n->base, &gp, 0));
	assert_int_equal(must_read(VMCS_EXIT_EVENT), EVENT_VALID | EVENT_HAS_ERROR | 3 << 8 | VECTOR_GP);
	resume();
	l2->cr0 &= ~(CR0_PE | CR0_PG);
	l2->inject = gp;
	assert_true(vmx_nested_ops.exception(&n->base, &gp, 0));
	assert_int_equal(must_read(VMCS_EXIT_EVENT), EVENT_VALID | 3 << 8 | VECTOR_GP);
	assert_int_equal(must_read(VMCS_VECTORING_EVENT), EVENT_VALID | 3 << 8 | VECTOR_GP);
	close_world();
}

static void test_double_fault_has_no_vectoring(void **state)
{
	const struct hv_event pf = { .kind = EVENT_EXCEPTION, .vector = VECTOR_PF, .has_error_code = true };
	const struct hv_event df = { .kind = EVENT_EXCEPTION, .vector = VECTOR_DF, .has_error_code = true };

	open_world();
	switch_on();
	write_plain();
	must_write(VMCS_EXCEPTION_BITMAP, BIT(VECTOR_DF));
	launch();
	l2->inject = pf;
	assert_true(vmx_nested_ops.exception(&n->base, &df, 0));
	assert_int_equal(must_read(VMCS_EXIT_EVENT), EVENT_VALID | EVENT_HAS_ERROR | 3 << 8 | VECTOR_DF);
	assert_int_equal(must_read(VMCS_VECTORING_EVENT), 0);
	close_world();
}

/* A type that isn't known fails before the descriptor is looked at. */
static void test_invalidation_type_first(void **state)
{
	static const uint8_t reasons[] = { REASON_INVEPT, REASON_INVVPID };

	open_world();
	switch_on();
	for (unsigned i = 0; i < ARRAY_SIZE(reasons); i++) {
		l1->gpr[GPR_RAX] = 9;
		memory_status = BAD_ADDRESS;
		assert_flags(execute(reasons[i], INFO_MEMORY), RFLAGS_ZF);
		assert_int_equal(n->vmcs12.field[VMCS12_SLOT(VMCS_INSTRUCTION_ERROR)], 28);
		l1->gpr[GPR_RAX] = 2;
		assert_int_equal(execute(reasons[i], INFO_MEMORY), NESTED_FAULT);
		memory_status = OK;
	}
	close_world();
}

/* The exit below the TPR's threshold is behind its MOV: shadow and RF are over, a single step is pending. */
static void test_priority_exit_is_a_trap(void **state)
{
	open_world();
	switch_on();
	write_plain();
	must_write(VMCS_VIRTUAL_APIC_ADDRESS, VIRTUAL_APIC_PAGE);
	must_write(VMCS_PRIMARY_CONTROLS, PRIMARY_LEAST | PRIMARY_SECONDARY | PRIMARY_TPR_SHADOW);
	l1_memory[VIRTUAL_APIC_PAGE + 0x80] = 0x50;
	must_write(VMCS_TPR_THRESHOLD, 4);
	launch();
	vmcs[VMCS_GUEST_RFLAGS] = 2 | RFLAGS_TF | RFLAGS_RF | RFLAGS_IF;
	vmcs[VMCS_GUEST_INTERRUPTIBILITY] = BLOCKING_STI;
	l2_exits(REASON_CR_ACCESS, EXIT_CR_ACCESS);
	l2->exit.cr.number = 8;
	l2->exit.cr.gpr = GPR_RBX;
	l2->exit.cr.write = true;
	l2->gpr[GPR_RBX] = 3;
	assert_true(vmx_nested_ops.exit(&n->base));
	assert_int_equal(must_read(VMCS_EXIT_REASON), REASON_TPR_THRESHOLD);
	assert_int_equal(must_read(VMCS_GUEST_INTERRUPTIBILITY), 0);
	assert_int_equal(must_read(VMCS_GUEST_PENDING_DEBUG), PENDING_DEBUG_BS);
	assert_int_equal(must_read(VMCS_GUEST_RFLAGS), 2 | RFLAGS_TF | RFLAGS_IF);
	must_write(VMCS_TPR_THRESHOLD, 0);
	resume();
	close_world();
}

/* A VMCS that one vcpu of L1's has cleared is all in L1's memory: another goes on with it, and knows nothing else of it. */
static void test_vmcs_on_another_vcpu(void **state)
{
	static uint8_t memory[L1_SIZE];

	open_world();
	switch_on();
	write_plain();
	launch();
	l2_exits(REASON_VMCALL, EXIT_HYPERCALL);
	vmcs[VMCS_GUEST_RIP] = l2->rip = 0x5003;
	vmcs[VMCS_GUEST_RSP] = 0x6008;
	vmcs[VMCS_SEGMENT(VMCS_GUEST_ES_BASE, SEG_FS)] = 0xf5000; /* kept in VMCS02 until somebody asks */
	vmcs[VMCS_GUEST_SYSENTER_EIP] = 0x5ee;
	assert_true(vmx_nested_ops.exit(&n->base));
	must_write(VMCS_GUEST_RSP, 0x6010);
	assert_flags(with_pointer(REASON_VMCLEAR, REGION_A), 0);
	memcpy(memory, l1_memory, sizeof(memory));
	close_world();

	open_world();
	memcpy(l1_memory, memory, sizeof(memory));
	set_region(REGION_B);
	assert_flags(with_pointer(REASON_VMXON, REGION_B), 0);
	assert_flags(with_pointer(REASON_VMPTRLD, REGION_A), 0);
	assert_flags(execute(REASON_VMRESUME, 0), RFLAGS_ZF);
	assert_int_equal(must_read(VMCS_INSTRUCTION_ERROR), 5); /* clear: it was launched there */
	launch();
	assert_true(l2->rip == 0x5003 && vmcs_of[1][VMCS_GUEST_RSP] == 0x6010);
	assert_int_equal(vmcs_of[1][VMCS_SEGMENT(VMCS_GUEST_ES_BASE, SEG_FS)], 0xf5000);
	assert_int_equal(vmcs_of[1][VMCS_GUEST_SYSENTER_EIP], 0x5ee);
	assert_true(n->base.slat_changed && n->base.slat.root.v == EPT_ROOT);
	leave_l2();
	assert_int_equal(must_read(VMCS_EXIT_REASON), REASON_VMCALL);
	close_world();
}

static void test_base_in_lists(void **state)
{
	const struct vmx_msr_entry list[] = { { MSR_FS_BASE, 0, 5 }, { MSR_GS_BASE, 0, 5 } };

	open_world();
	switch_on();
	write_plain();
	memcpy(l1_memory + MSR_LIST, list, sizeof(list));
	must_write(VMCS_EXIT_MSR_STORE_ADDRESS, MSR_LIST);
	must_write(VMCS_EXIT_MSR_STORE_COUNT, 2);
	launch();
	test_msr[0] = 0x99;
	leave_l2();
	assert_int_equal(l1->inject.kind, EVENT_NONE); /* may be stored */
	assert_int_equal(((struct vmx_msr_entry *)(l1_memory + MSR_LIST))[1].value, 0x99);
	must_write(VMCS_ENTRY_MSR_LOAD_ADDRESS, MSR_LIST);
	must_write(VMCS_ENTRY_MSR_LOAD_COUNT, 1);
	assert_int_equal(execute(REASON_VMRESUME, 0), NESTED_ENTERED); /* but not loaded */
	assert_int_equal(must_read(VMCS_EXIT_REASON), REASON_ENTRY_FAILED | REASON_MSR_LOADING);
	close_world();
}

/* What has been judged is judged again when something else changes that it depends on. */
static void test_error_code_judged_by_mode(void **state)
{
	open_world();
	switch_on();
	write_plain();
	must_write(VMCS_SECONDARY_CONTROLS, SECONDARY_EPT | SECONDARY_UNRESTRICTED);
	must_write(VMCS_ENTRY_CONTROLS, ENTRY_LEAST & ~ENTRYC_IA32E);
	must_write(VMCS_GUEST_CS_RIGHTS, 0xc09b);
	must_write(VMCS_GUEST_CR0, CR0_PE | CR0_NE);
	must_write(VMCS_ENTRY_EVENT, EVENT_VALID | EVENT_HAS_ERROR | 3 << 8 | VECTOR_GP);
	must_write(VMCS_GUEST_RFLAGS, 0);
	assert_int_equal(execute(REASON_VMLAUNCH, 0), NESTED_ENTERED);
	must_write(VMCS_GUEST_RFLAGS, 2);
	must_write(VMCS_GUEST_CR0, CR0_NE);
	assert_flags(execute(REASON_VMLAUNCH, 0), RFLAGS_ZF);
	assert_int_equal(must_read(VMCS_INSTRUCTION_ERROR), 7);
	must_write(VMCS_GUEST_CR0, CR0_PE | CR0_NE);
	launch();
	close_world();
}

/* The first write of SPEC_CTRL may be L2's: it runs with it at once. */
static void test_spec_ctrl_of_l2(void **state)
{
	open_world();
	switch_on();
	write_plain();
	launch();
	vmx_write_back(l2v);
	hv_need(l2, REGS_SYSTEM);
	assert_int_equal(vmcs[VMCS_ENTRY_MSR_LOAD_COUNT], 0);
	vmx_pass_msr(l1, MSR_SPEC_CTRL, true, true); /* as vm/ does */
	l2->spec_ctrl = 4;
	hv_changed(l2, REGS_SYSTEM);
	vmx_write_back(l2v);
	assert_int_equal(vmcs[VMCS_ENTRY_MSR_LOAD_COUNT], 1);
	leave_l2();
	assert_int_equal(l1v->spec_ctrl.guest.value, 4);
	close_world();
}

/* A VMWRITE of the value that the field had before L2 changed it. */
static void test_write_of_what_it_was(void **state)
{
	open_world();
	switch_on();
	write_plain();
	must_write(VMCS_SEGMENT(VMCS_GUEST_ES_BASE, SEG_FS), 7);
	launch();
	vmcs[VMCS_SEGMENT(VMCS_GUEST_ES_BASE, SEG_FS)] = 5;
	leave_l2();
	must_write(VMCS_SEGMENT(VMCS_GUEST_ES_BASE, SEG_FS), 7);
	assert_int_equal(must_read(VMCS_SEGMENT(VMCS_GUEST_ES_BASE, SEG_FS)), 7);
	resume();
	assert_int_equal(vmcs_of[1][VMCS_SEGMENT(VMCS_GUEST_ES_BASE, SEG_FS)], 7);
	close_world();
}

/* An exit for a fault tells the flags as the fault would have pushed them (section 28.3.3). */
static void test_fault_has_rf(void **state)
{
	const struct hv_event gp = { .kind = EVENT_EXCEPTION, .vector = VECTOR_GP, .has_error_code = true };
	const struct hv_event db = { .kind = EVENT_EXCEPTION, .vector = VECTOR_DB };

	open_world();
	switch_on();
	write_plain();
	must_write(VMCS_EXCEPTION_BITMAP, BIT(VECTOR_GP) | BIT(VECTOR_DB));
	launch();
	l2_exits(REASON_WRMSR, EXIT_MSR_WRITE);
	assert_true(vmx_nested_ops.exception(&n->base, &db, DR6_SINGLE_STEP));
	assert_int_equal(must_read(VMCS_GUEST_RFLAGS), 2);
	resume();
	l2_exits(REASON_WRMSR, EXIT_MSR_WRITE);
	assert_true(vmx_nested_ops.exception(&n->base, &gp, 0));
	assert_int_equal(must_read(VMCS_GUEST_RFLAGS), 2 | RFLAGS_RF);
	close_world();
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_rip_behind_user_space),
		cmocka_unit_test(test_failed_entry_leaves_fields),
		cmocka_unit_test(test_link_to_itself),
		cmocka_unit_test(test_nmi_blocking_of_l1),
		cmocka_unit_test(test_nmi_injected_while_blocked),
		cmocka_unit_test(test_blocking_reaches_the_processor),
		cmocka_unit_test(test_no_error_code_in_real_mode),
		cmocka_unit_test(test_double_fault_has_no_vectoring),
		cmocka_unit_test(test_invalidation_type_first),
		cmocka_unit_test(test_priority_exit_is_a_trap),
		cmocka_unit_test(test_vmcs_on_another_vcpu),
		cmocka_unit_test(test_base_in_lists),
		cmocka_unit_test(test_error_code_judged_by_mode),
		cmocka_unit_test(test_spec_ctrl_of_l2),
		cmocka_unit_test(test_write_of_what_it_was),
		cmocka_unit_test(test_fault_has_rf),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
