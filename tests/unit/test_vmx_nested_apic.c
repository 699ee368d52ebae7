/* SPDX-License-Identifier: Apache-2.0 */
// sources: vmx/exit.c vmx/convert.c vmx/failure.c vmx/nested/check.c vmx/nested/check_guest.c vmx/nested/check_segments.c vmx/nested/fields.c vmx/nested/offer.c vmx/nested/operand.c arch/x86_64/pt_format.c
/* The page that stands for L2's APIC, on VMX: what is its control's, what goes to L1's virtual-APIC page, what exits, and how it tells. */
#include "vmx_nested_world.h"

#define APIC_PAGE 0xb000u
#define PRIMARY_SHADOWED (PRIMARY_LEAST | PRIMARY_SECONDARY | PRIMARY_TPR_SHADOW)

static void begin_apic(uint64_t primary)
{
	open_world();
	switch_on();
	write_plain();
	must_write(VMCS_VIRTUAL_APIC_ADDRESS, VIRTUAL_APIC_PAGE);
	must_write(VMCS_APIC_ACCESS_ADDRESS, APIC_PAGE);
	must_write(VMCS_PRIMARY_CONTROLS, primary);
	must_write(VMCS_SECONDARY_CONTROLS, SECONDARY_EPT | SECONDARY_VPID | SECONDARY_APIC_ACCESSES);
}

static struct hv_nested_fault access_of(unsigned offset, unsigned access)
{
	return (struct hv_nested_fault){ .where = { 0xfee00000 + offset },
					 .linear = { 0x7000 + offset },
					 .linear_valid = true,
					 .access = (uint8_t)access,
					 .trapped = true };
}

static void test_the_page(void **state)
{
	begin_apic(PRIMARY_LEAST | PRIMARY_SECONDARY);
	must_write(VMCS_APIC_ACCESS_ADDRESS, APIC_PAGE + 8);
	assert_flags(execute(REASON_VMLAUNCH, 0), RFLAGS_ZF);
	assert_int_equal(must_read(VMCS_INSTRUCTION_ERROR), 7);
	must_write(VMCS_APIC_ACCESS_ADDRESS, UINT64_C(1) << 40);
	assert_flags(execute(REASON_VMLAUNCH, 0), RFLAGS_ZF);
	must_write(VMCS_APIC_ACCESS_ADDRESS, APIC_PAGE);
	launch();
	assert_true(n->base.slat.on && n->base.slat.traps && n->base.slat.trapped.v == APIC_PAGE);
	assert_false(vmcs_of[1][VMCS_SECONDARY_CONTROLS] & SECONDARY_APIC_ACCESSES);
	n->base.slat_changed = false;
	leave_l2();
	must_write(VMCS_APIC_ACCESS_ADDRESS, APIC_PAGE + PAGE_SIZE);
	resume();
	assert_true(n->base.slat_changed && n->base.slat.trapped.v == APIC_PAGE + PAGE_SIZE);
	n->base.slat_changed = false;
	leave_l2();
	/* Without EPT there are composed tables all the same, and none once it is no trap. */
	must_write(VMCS_SECONDARY_CONTROLS, SECONDARY_APIC_ACCESSES);
	resume();
	assert_true(n->base.slat_changed && !n->base.slat.on && n->base.slat.traps && n->base.slat.format);
	assert_true(hv_nested_composed(&n->base.slat));
	leave_l2();
	must_write(VMCS_SECONDARY_CONTROLS, 0);
	resume();
	assert_false(hv_nested_composed(&n->base.slat));
	close_world();
}

static void test_what_is_virtualized(void **state)
{
	struct hv_nested_fault fault = access_of(0x80, ACCESS_READ);
	gpa_t where = gpa(0);

	begin_apic(PRIMARY_LEAST | PRIMARY_SECONDARY);
	launch();
	assert_false(vmx_nested_ops.redirect(&n->base, &fault, &where)); /* no shadow of the TPR */
	leave_l2();
	must_write(VMCS_PRIMARY_CONTROLS, PRIMARY_SHADOWED);
	resume();
	assert_true(vmx_nested_ops.redirect(&n->base, &fault, &where));
	assert_int_equal(where.v, VIRTUAL_APIC_PAGE + 0x80);
	assert_false(vmx_nested_ops.redirected(&n->base));
	fault.access = ACCESS_EXECUTE;
	assert_false(vmx_nested_ops.redirect(&n->base, &fault, &where));
	fault = access_of(0x80, ACCESS_READ);
	fault.guest_table = true;
	assert_false(vmx_nested_ops.redirect(&n->base, &fault, &where));
	fault = access_of(0xb0, ACCESS_WRITE);
	assert_false(vmx_nested_ops.redirect(&n->base, &fault, &where));
	fault = access_of(0x84, ACCESS_READ);
	assert_false(vmx_nested_ops.redirect(&n->base, &fault, &where));
	close_world();
}

static void test_exits(void **state)
{
	static const struct {
		unsigned offset, access, qualification;
		bool event, table;
	} cases[] = {
		{ 0x20, ACCESS_READ, 0x0020, false, false },
		{ 0x300, ACCESS_WRITE, 0x1300, false, false },
		{ 0x80, ACCESS_READ | ACCESS_WRITE, 0x1080, false, false },
		{ 0x123, ACCESS_EXECUTE, 0x2123, false, false },
		{ 0x40, ACCESS_WRITE, 0x3040, true, false },
		{ 0x40, ACCESS_READ, 0xa000, true, true },
		{ 0x40, ACCESS_READ, 0xf000, false, true },
	};

	begin_apic(PRIMARY_LEAST | PRIMARY_SECONDARY);
	launch();
	for (unsigned i = 0; i < ARRAY_SIZE(cases); i++) {
		struct hv_nested_fault fault = access_of(cases[i].offset, cases[i].access);

		fault.guest_table = cases[i].table;
		l2_exits(REASON_EPT_VIOLATION, EXIT_SLAT_FAULT);
		l2->exit.length = 5;
		if (cases[i].event)
			l2->exit.interrupted = (struct hv_event){ .kind = EVENT_INTERRUPT, .vector = 0x31 };
		vmx_nested_ops.reflect_slat(&n->base, &fault);
		assert_int_equal(must_read(VMCS_EXIT_REASON), 44);
		assert_int_equal(must_read(VMCS_EXIT_QUALIFICATION), cases[i].qualification);
		assert_int_equal(must_read(VMCS_EXIT_INSTRUCTION_LENGTH), 5);
		assert_int_equal(must_read(VMCS_VECTORING_EVENT), cases[i].event ? EVENT_VALID | 0x31 : 0);
		assert_int_equal(must_read(VMCS_GUEST_RIP), 0x5000);
		resume();
	}
	close_world();
}

/* A write that brings VTPR below its threshold: the exit is behind the instruction, a single step stays pending. */
static void test_below_by_a_write(void **state)
{
	struct hv_nested_fault fault = access_of(0x80, ACCESS_WRITE);
	gpa_t where;

	begin_apic(PRIMARY_SHADOWED);
	l1_memory[VIRTUAL_APIC_PAGE + 0x80] = 0x50;
	must_write(VMCS_TPR_THRESHOLD, 4);
	launch();
	for (unsigned i = 0; i < 2; i++) {
		l2_exits(REASON_EPT_VIOLATION, EXIT_SLAT_FAULT);
		assert_true(vmx_nested_ops.redirect(&n->base, &fault, &where));
		l1_memory[where.v] = i ? 0x30 : 0x40;
		l2->rip = 0x5006;
		l2->inject = (struct hv_event){ .kind = EVENT_EXCEPTION, .vector = VECTOR_DB };
		assert_int_equal(vmx_nested_ops.redirected(&n->base), i);
		l2->inject.kind = EVENT_NONE;
	}
	assert_false(n->base.in_l2);
	assert_int_equal(must_read(VMCS_EXIT_REASON), REASON_TPR_THRESHOLD);
	assert_int_equal(must_read(VMCS_GUEST_RIP), 0x5006);
	assert_int_equal(must_read(VMCS_GUEST_PENDING_DEBUG), PENDING_DEBUG_BS);
	close_world();
}

/* VTPR below its threshold is no error of the entry, but an exit behind it; behind the event that it injects. */
static void test_below_at_entry(void **state)
{
	begin_apic(PRIMARY_SHADOWED);
	must_write(VMCS_PIN_CONTROLS, PIN_LEAST | PIN_PREEMPTION_TIMER);
	must_write(VMCS_EXIT_CONTROLS, EXIT_LEAST | EXITC_SAVE_TIMER);
	must_write(VMCS_PREEMPTION_TIMER, 1000);
	must_write(VMCS_TPR_THRESHOLD, 4);
	assert_int_equal(execute(REASON_VMLAUNCH, 0), NESTED_ENTERED);
	assert_false(n->base.in_l2);
	assert_int_equal(must_read(VMCS_EXIT_REASON), REASON_TPR_THRESHOLD);
	assert_int_equal(must_read(VMCS_GUEST_RIP), 0x5000);
	must_write(VMCS_GUEST_RFLAGS, 2 | RFLAGS_IF);
	must_write(VMCS_ENTRY_EVENT, EVENT_VALID | 0x40);
	resume();
	assert_true(l2->inject.kind == EVENT_INTERRUPT && n->base.deadline == 0);
	l2_exits(REASON_EPT_VIOLATION, EXIT_SLAT_FAULT);
	assert_false(vmx_nested_ops.exit(&n->base)); /* its delivery isn't over */
	l2_exits(REASON_PREEMPTION_TIMER, EXIT_SLICE);
	assert_true(vmx_nested_ops.exit(&n->base));
	assert_int_equal(must_read(VMCS_EXIT_REASON), REASON_TPR_THRESHOLD);
	assert_int_equal(must_read(VMCS_PREEMPTION_TIMER), 1000);
	l1_memory[VIRTUAL_APIC_PAGE + 0x80] = 0x40;
	resume();
	assert_true(n->base.deadline > test_tsc);
	close_world();
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_the_page),       cmocka_unit_test(test_what_is_virtualized),
		cmocka_unit_test(test_exits),          cmocka_unit_test(test_below_by_a_write),
		cmocka_unit_test(test_below_at_entry),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
