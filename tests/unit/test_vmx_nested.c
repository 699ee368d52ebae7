/* SPDX-License-Identifier: Apache-2.0 */
// sources: vmx/exit.c vmx/convert.c vmx/failure.c vmx/nested/check.c vmx/nested/check_guest.c vmx/nested/check_segments.c vmx/nested/fields.c vmx/nested/offer.c vmx/nested/operand.c arch/x86_64/pt_format.c
/* A hypervisor as a guest on VMX: its instructions, entries and exits, over VMCSs that are arrays. */
#include "vmx_nested_world.h"

/* ---- instructions ---- */

static void test_outside_vmx_operation(void **state)
{
	open_world();
	for (unsigned reason = REASON_VMCLEAR; reason <= REASON_VMXOFF; reason++) {
		assert_int_equal(execute(reason, INFO_MEMORY), NESTED_FAULT);
		assert_int_equal(n->base.fault.vector, VECTOR_UD);
	}
	l1->cr4 &= ~CR4_VMXE;
	hv_changed(l1, REGS_CONTROL);
	vmx_write_back(l1v);
	assert_int_equal(with_pointer(REASON_VMXON, REGION_VMXON), NESTED_FAULT);
	assert_int_equal(n->base.fault.vector, VECTOR_UD);
	l1->cr4 |= CR4_VMXE;
	l1->cr0 &= ~CR0_NE;
	assert_int_equal(with_pointer(REASON_VMXON, REGION_VMXON), NESTED_FAULT);
	assert_int_equal(n->base.fault.vector, VECTOR_GP);
	l1->cr0 |= CR0_NE;
	vmcs[VMCS_GUEST_SS_RIGHTS] = 0xc0f3; /* ring 3 */
	assert_int_equal(with_pointer(REASON_VMXON, REGION_VMXON), NESTED_FAULT);
	assert_int_equal(n->base.fault.vector, VECTOR_GP);
	vmcs[VMCS_GUEST_SS_RIGHTS] = 0xc093;
	vmcs[VMCS_GUEST_CS_RIGHTS] = 0xc09b; /* compatibility mode */
	assert_int_equal(with_pointer(REASON_VMXON, REGION_VMXON), NESTED_FAULT);
	assert_int_equal(n->base.fault.vector, VECTOR_UD);
	close_world();
}

static void test_regions(void **state)
{
	open_world();
	assert_flags(with_pointer(REASON_VMXON, REGION_VMXON), RFLAGS_CF); /* no revision in it */
	set_region(REGION_VMXON);
	assert_flags(with_pointer(REASON_VMXON, REGION_VMXON + 8), RFLAGS_CF);
	assert_flags(with_pointer(REASON_VMXON, BIT(40)), RFLAGS_CF);
	assert_flags(with_pointer(REASON_VMXON, REGION_VMXON), 0);
	assert_flags(with_pointer(REASON_VMXON, REGION_VMXON), RFLAGS_CF); /* VMfail without a current VMCS */
	assert_flags(vm_read(VMCS_GUEST_RIP), RFLAGS_CF);
	assert_flags(vm_write(VMCS_GUEST_RIP, 1), RFLAGS_CF);
	assert_flags(execute(REASON_VMLAUNCH, 0), RFLAGS_CF);
	set_region(REGION_A);
	assert_flags(with_pointer(REASON_VMPTRLD, REGION_A), 0);
	assert_flags(with_pointer(REASON_VMXON, REGION_VMXON), RFLAGS_ZF);
	assert_int_equal(must_read(VMCS_INSTRUCTION_ERROR), 15);
	assert_flags(with_pointer(REASON_VMCLEAR, 1), RFLAGS_ZF);
	assert_int_equal(must_read(VMCS_INSTRUCTION_ERROR), 2);
	assert_flags(with_pointer(REASON_VMCLEAR, REGION_VMXON), RFLAGS_ZF);
	assert_int_equal(must_read(VMCS_INSTRUCTION_ERROR), 3);
	assert_flags(with_pointer(REASON_VMPTRLD, BIT(41)), RFLAGS_ZF);
	assert_int_equal(must_read(VMCS_INSTRUCTION_ERROR), 9);
	assert_flags(with_pointer(REASON_VMPTRLD, REGION_VMXON), RFLAGS_ZF);
	assert_int_equal(must_read(VMCS_INSTRUCTION_ERROR), 10);
	assert_flags(with_pointer(REASON_VMPTRLD, REGION_B), RFLAGS_ZF);
	assert_int_equal(must_read(VMCS_INSTRUCTION_ERROR), 11);
	assert_flags(with_pointer(REASON_VMPTRLD, L1_SIZE), RFLAGS_ZF); /* no memory there */
	assert_int_equal(must_read(VMCS_INSTRUCTION_ERROR), 11);
	assert_flags(execute(REASON_VMPTRST, INFO_MEMORY), 0);
	assert_int_equal(*(uint64_t *)(l1_memory + OPERAND), REGION_A);
	assert_flags(execute(REASON_VMXOFF, 0), 0);
	assert_int_equal(execute(REASON_VMPTRST, INFO_MEMORY), NESTED_FAULT);
	close_world();
}

/* What isn't current is in L1's memory and nowhere else: it may be cleared here and loaded on another vcpu. */
static void test_vmcs_lives_in_memory(void **state)
{
	uint8_t copy[PAGE_SIZE];

	open_world();
	switch_on();
	must_write(VMCS_GUEST_RIP, 0xaaaa);
	assert_flags(with_pointer(REASON_VMPTRLD, REGION_B), 0);
	assert_int_equal(must_read(VMCS_GUEST_RIP), 0);
	must_write(VMCS_GUEST_RIP, 0xbbbb);
	assert_flags(with_pointer(REASON_VMCLEAR, REGION_B), 0);
	assert_flags(vm_read(VMCS_GUEST_RIP), RFLAGS_CF); /* none is current */
	memcpy(copy, l1_memory + REGION_B, PAGE_SIZE);
	memset(l1_memory + REGION_B, 0, PAGE_SIZE);
	memcpy(l1_memory + REGION_B, copy, PAGE_SIZE);
	assert_flags(with_pointer(REASON_VMPTRLD, REGION_A), 0);
	assert_int_equal(must_read(VMCS_GUEST_RIP), 0xaaaa);
	assert_flags(with_pointer(REASON_VMPTRLD, REGION_B), 0);
	assert_int_equal(must_read(VMCS_GUEST_RIP), 0xbbbb);
	close_world();
}

/* Each vcpu finds its own lazy registers, those are written that differ, and all where nobody knows what is there. */
static void test_lazy_registers(void **state)
{
	struct vmx_vcpu a = { .hv = { .star = 1, .sfmask = 2, .dr = { 3, [6] = DR6_RESET } } }, b = a;

	vmx_cpus[0] = (struct vmx_cpu){ .on = true };
	memset(test_msr, 0x55, sizeof(test_msr));
	msr_writes = debug_writes = 0;
	vmx_lazy_acquire(&a);
	assert_true(msr_writes == VMX_LAZY_MSRS && debug_writes == 1);
	assert_true(test_msr[MSR_STAR & 0xfff] == 1 && test_dr[0] == 3);
	vmx_lazy_acquire(&b);
	assert_true(msr_writes == VMX_LAZY_MSRS && debug_writes == 1);
	test_msr[MSR_STAR & 0xfff] = 7;
	test_dr[3] = 8;
	vmx_lazy_acquire(&a);
	assert_true(b.hv.star == 7 && b.hv.dr[3] == 8 && test_msr[MSR_STAR & 0xfff] == 1 && test_dr[3] == 0);
	assert_true(msr_writes == VMX_LAZY_MSRS + 1 && debug_writes == 2);
	/* What is marked as changed isn't in the processor yet, and what is there isn't known. */
	a.hv.star = 7;
	a.hv.dr[3] = 8;
	a.hv.changed = REGS_SYSTEM | REGS_DEBUG;
	vmx_lazy_release(&a);
	assert_true(a.hv.star == 7 && a.hv.dr[3] == 8);
	vmx_lazy_acquire(&b);
	assert_true(test_msr[MSR_STAR & 0xfff] == 7 && test_dr[3] == 8);
	vmx_lazy_release(&a); /* not here */
	assert_ptr_equal(vmx_cpus[0].lazy_owner, &b);
	vmx_cpus[0] = (struct vmx_cpu){ .on = true };
}

/* With VMCS shadowing some of L1's accesses are to the mirror. */
static void test_mirror(void **state)
{
	const uint8_t *reads, *writes_of;
	uint64_t *mirror = vmcs_of[2];

	host_shadows = true;
	open_world();
	host_shadows = false;
	reads = direct_pointer(n->read_bitmap);
	writes_of = direct_pointer(n->write_bitmap);
	assert_int_equal(reads[VMCS_GUEST_RIP / 8] & 1u << VMCS_GUEST_RIP % 8, 0);
	assert_int_equal(writes_of[VMCS_GUEST_RIP / 8] & 1u << VMCS_GUEST_RIP % 8, 0);
	assert_int_equal(reads[VMCS_EXIT_REASON / 8] & 1u << VMCS_EXIT_REASON % 8, 0);
	assert_int_not_equal(writes_of[VMCS_EXIT_REASON / 8] & 1u << VMCS_EXIT_REASON % 8, 0);
	assert_int_not_equal(reads[VMCS_HOST_RIP / 8] & 1u << VMCS_HOST_RIP % 8, 0);
	switch_on();
	assert_true(vmcs_of[0][VMCS_SECONDARY_CONTROLS] & SECONDARY_SHADOWING);
	assert_int_equal(vmcs_of[0][VMCS_LINK_POINTER], l1v->mirror.v);
	write_plain();
	for (unsigned i = 0; i < ARRAY_SIZE(plain); i++)
		mirror[plain[i].field] = plain[i].value;
	mirror[VMCS_GUEST_CS_RIGHTS] = 0xa09b;
	mirror[VMCS_GUEST_SS_RIGHTS] = 0xc093;
	mirror[VMCS_GUEST_RIP] = 0x7777;
	assert_int_equal(execute(REASON_VMLAUNCH, 0), NESTED_ENTERED);
	assert_true(n->base.in_l2);
	assert_int_equal(l2->rip, 0x7777);
	mirror[VMCS_GUEST_RIP] = 0;
	l2_exits(REASON_CPUID, EXIT_CPUID);
	l2->rip = 0x7788;
	assert_true(vmx_nested_ops.exit(&n->base));
	assert_int_equal(mirror[VMCS_GUEST_RIP], 0x7788);
	assert_int_equal(mirror[VMCS_EXIT_REASON], REASON_CPUID);
	mirror[VMCS_GUEST_RIP] = 0x778a;
	mirror[VMCS_GUEST_CR0] = CR0_PE; /* judged anew */
	assert_int_equal(execute(REASON_VMRESUME, 0), NESTED_ENTERED);
	assert_false(n->base.in_l2);
	assert_int_equal(mirror[VMCS_EXIT_REASON], REASON_ENTRY_FAILED | 33);
	assert_flags(with_pointer(REASON_VMCLEAR, REGION_A), 0);
	assert_int_equal(((union vmcs12 *)(l1_memory + REGION_A))->field[VMCS12_SLOT(VMCS_GUEST_RIP)], 0x778a);
	assert_false(vmcs_of[0][VMCS_SECONDARY_CONTROLS] & SECONDARY_SHADOWING); /* VMREAD must fail now */
	assert_int_equal(vmcs_of[0][VMCS_LINK_POINTER], ~UINT64_C(0));
	close_world();
}

static void test_no_memory_changes_nothing(void **state)
{
	open_world();
	switch_on();
	must_write(VMCS_GUEST_RIP, 0xaaaa);
	set_operand(REGION_B, 0);
	memory_status = NO_MEMORY;
	assert_int_equal(execute(REASON_VMPTRLD, INFO_MEMORY), NESTED_AGAIN);
	assert_int_equal(execute(REASON_VMXOFF, 0), NESTED_AGAIN);
	memory_status = OK;
	assert_int_equal(must_read(VMCS_GUEST_RIP), 0xaaaa);
	close_world();
}

static void test_fields(void **state)
{
	static const struct {
		uint64_t field, kept;
	} some[] = {
		{ VMCS_VPID, 0xffff },
		{ VMCS_GUEST_CS_RIGHTS, 0xffffffff },
		{ VMCS_GUEST_PAT, ~UINT64_C(0) },
		{ VMCS_HOST_RIP, ~UINT64_C(0) },
		{ VMCS_CR3_TARGET0 + 6, ~UINT64_C(0) },
	};

	open_world();
	switch_on();
	for (unsigned i = 0; i < ARRAY_SIZE(some); i++) {
		must_write(some[i].field, ~UINT64_C(0));
		assert_int_equal(must_read(some[i].field), some[i].kept);
	}
	must_write(VMCS_TSC_OFFSET, 0x1122334455667788);
	assert_int_equal(must_read(VMCS_TSC_OFFSET + 1), 0x11223344);
	must_write(VMCS_TSC_OFFSET + 1, 0x99);
	assert_int_equal(must_read(VMCS_TSC_OFFSET), 0x9955667788);
	assert_flags(vm_read(VMCS_GUEST_RIP + 1), RFLAGS_ZF); /* no upper half */
	assert_int_equal(must_read(VMCS_INSTRUCTION_ERROR), 12);
	assert_flags(vm_read(0x400), RFLAGS_ZF); /* where the header lies */
	assert_flags(vm_read(BIT(32) | VMCS_GUEST_RIP), RFLAGS_ZF);
	assert_flags(vm_read(0x2016), RFLAGS_ZF); /* posted interrupts' descriptor: its control isn't offered */
	assert_flags(vm_write(VMCS_EXIT_REASON, 1), RFLAGS_ZF);
	assert_int_equal(must_read(VMCS_INSTRUCTION_ERROR), 13);
	close_world();
}

/* Each field by itself: no two share a place. */
static void test_fields_are_apart(void **state)
{
	bool high, taken[VMCS12_SLOTS] = { false };
	unsigned slot, count = 0;

	for (uint64_t encoding = 0; encoding < 0x8000; encoding += 2) {
		if (!vmcs12_find(encoding, &slot, &high))
			continue;
		assert_false(taken[slot]);
		taken[slot] = true;
		assert_int_equal(vmcs12_encoding(slot), encoding);
		assert_true(slot >= 2); /* behind the header */
		assert_true((encoding >> 1 & 0x1ff) <= VMCS12_HIGHEST_INDEX);
		count++;
	}
	assert_int_equal(count, 133);
}

static void test_operands(void **state)
{
	struct hv_vcpu v = { .efer = EFER_LMA, .gpr = { [GPR_RAX] = 0x1000, [GPR_RBX] = 0x10, [GPR_RSP] = 0x7000 } };
	struct hv_event fault;
	gva_t at;

	v.segment[SEG_CS].attributes = 0xa09b;
	v.segment[SEG_DS] = (struct segment){ 0x5000, 0xfff, 0x10, 0x4093 };
	v.segment[SEG_FS] = (struct segment){ 0xffff800000000000, 0, 0, 0 };
	/* [rax + rbx * 4 + 8], 64 bits; DS has no base there */
	assert_true(vmx_operand_address(&v, 2 | 2u << 7 | 3u << 15 | GPR_RBX << 18 | GPR_RAX << 23, 8, 8, false, 48,
					&at, &fault));
	assert_int_equal(at.v, 0x1048);
	/* fs:[rsp - 8], address size 32 */
	assert_true(vmx_operand_address(&v, 1u << 7 | 4u << 15 | INFO_NO_INDEX | GPR_RSP << 23, -8, 8, false, 48, &at,
					&fault));
	assert_int_equal(at.v, 0xffff800000006ff8);
	/* not canonical: #SS by way of SS */
	assert_false(vmx_operand_address(&v, 2u << 7 | 2u << 15 | INFO_NO_INDEX | INFO_NO_BASE, BIT(47), 8, false, 48,
					 &at, &fault));
	assert_int_equal(fault.vector, VECTOR_SS);
	assert_false(vmx_operand_address(&v, 2u << 7 | 3u << 15 | INFO_NO_INDEX | INFO_NO_BASE, BIT(47) - 4, 8, false,
					 48, &at, &fault));
	assert_int_equal(fault.vector, VECTOR_GP);
	v.efer = 0;
	assert_true(vmx_operand_address(&v, 1u << 7 | 3u << 15 | INFO_NO_INDEX | INFO_NO_BASE, 0xff8, 8, true, 48, &at,
					&fault));
	assert_int_equal(at.v, 0x5ff8);
	assert_false(vmx_operand_address(&v, 1u << 7 | 3u << 15 | INFO_NO_INDEX | INFO_NO_BASE, 0xff9, 8, true, 48, &at,
					 &fault));
	v.segment[SEG_DS].attributes = 0x4091; /* read-only */
	assert_false(vmx_operand_address(&v, 1u << 7 | 3u << 15 | INFO_NO_INDEX | INFO_NO_BASE, 0, 8, true, 48, &at,
					 &fault));
	assert_true(vmx_operand_address(&v, 1u << 7 | 3u << 15 | INFO_NO_INDEX | INFO_NO_BASE, 0, 8, false, 48, &at,
					&fault));
	v.segment[SEG_DS].attributes = 0x4097; /* down */
	assert_false(vmx_operand_address(&v, 1u << 7 | 3u << 15 | INFO_NO_INDEX | INFO_NO_BASE, 0xfff, 8, true, 48, &at,
					 &fault));
	assert_true(vmx_operand_address(&v, 1u << 7 | 3u << 15 | INFO_NO_INDEX | INFO_NO_BASE, 0x1000, 8, true, 48, &at,
					&fault));
	v.segment[SEG_DS].attributes = 0x4093 & ~SEG_ATTR_PRESENT;
	assert_false(vmx_operand_address(&v, 1u << 7 | 3u << 15 | INFO_NO_INDEX | INFO_NO_BASE, 0, 8, false, 48, &at,
					 &fault));
}

static void test_invalidation(void **state)
{
	const uint64_t pointer = EPT_ROOT | EPT_POINTER_WB | EPT_POINTER_LEVELS(4);

	open_world();
	switch_on();
	l1->gpr[GPR_RCX] = INVALIDATE_SINGLE;
	set_operand(pointer, 0);
	l2->flush_pending = false;
	assert_flags(execute(REASON_INVEPT, INFO_MEMORY | (uint64_t)GPR_RCX << 28), 0);
	assert_int_equal(invalidated.v, EPT_ROOT);
	assert_true(l2->flush_pending);
	set_operand(pointer | BIT(7), 0); /* reserved */
	assert_flags(execute(REASON_INVEPT, INFO_MEMORY | (uint64_t)GPR_RCX << 28), RFLAGS_ZF);
	assert_int_equal(must_read(VMCS_INSTRUCTION_ERROR), 28);
	l1->gpr[GPR_RCX] = INVALIDATE_ALL;
	assert_flags(execute(REASON_INVEPT, INFO_MEMORY | (uint64_t)GPR_RCX << 28), 0);
	assert_true(gpa_is(invalidated, NO_VMCS));
	l1->gpr[GPR_RCX] = 3;
	assert_flags(execute(REASON_INVEPT, INFO_MEMORY | (uint64_t)GPR_RCX << 28), RFLAGS_ZF);
	for (unsigned type = 0; type < 5; type++) {
		l1->gpr[GPR_RCX] = type;
		n->vpid = 7;
		set_operand(7, 0x1000);
		assert_flags(execute(REASON_INVVPID, INFO_MEMORY | (uint64_t)GPR_RCX << 28), type < 4 ? 0 : RFLAGS_ZF);
		assert_int_equal(n->vpid == VPID_UNKNOWN, type < 4);
		l1->gpr[GPR_RCX] = type;
		set_operand(0, 0x1000);
		assert_flags(execute(REASON_INVVPID, INFO_MEMORY | (uint64_t)GPR_RCX << 28), type == 2 ? 0 : RFLAGS_ZF);
		l1->gpr[GPR_RCX] = type;
		set_operand(0x10007, 0x1000);
		assert_flags(execute(REASON_INVVPID, INFO_MEMORY | (uint64_t)GPR_RCX << 28), RFLAGS_ZF);
	}
	l1->gpr[GPR_RCX] = 0;
	set_operand(7, BIT(50));
	assert_flags(execute(REASON_INVVPID, INFO_MEMORY | (uint64_t)GPR_RCX << 28), RFLAGS_ZF);
	close_world();
}

/* ---- entries ---- */

static void test_round_trip(void **state)
{
	open_world();
	switch_on();
	write_plain();
	for (unsigned i = 0; i < GPR_COUNT; i++)
		l1->gpr[i] = 0x100 + i;
	l1->cr2 = 0x77;
	launch();
	assert_true(n->base.slat.on && n->base.slat_changed);
	assert_int_equal(n->base.slat.root.v, EPT_ROOT);
	assert_int_equal(l2->rip, 0x5000);
	assert_int_equal(l2->gpr[GPR_RSI], 0x100 + GPR_RSI);
	assert_int_equal(l2->cr2, 0x77);
	assert_int_equal(vmcs_of[1][VMCS_GUEST_RSP], 0x6000);
	assert_int_equal(vmcs_of[1][VMCS_GUEST_DR7], 0x455); /* not loaded: L1's */
	l2->gpr[GPR_RSI] = 0x42;
	l2_exits(REASON_CPUID, EXIT_CPUID);
	l2->rip = 0x5010;
	vmcs[VMCS_EXIT_QUALIFICATION] = 0x99;
	vmcs[VMCS_GUEST_RSP] = 0x5ff0;
	vmcs[VMCS_SEGMENT(VMCS_GUEST_ES_BASE, SEG_FS)] = 0xf5;
	assert_true(vmx_nested_ops.exit(&n->base));
	assert_int_equal(l1->rip, 0xffff800000001000);
	assert_int_equal(l1->gpr[GPR_RSI], 0x42);
	assert_int_equal(l1->cr3, 0x11000);
	assert_int_equal(vmcs_of[0][VMCS_GUEST_RSP], 0xffff800000002000);
	assert_int_equal(vmcs_of[0][VMCS_GUEST_DR7], DR7_RESET);
	assert_int_equal(vmcs_of[0][VMCS_GUEST_CS_RIGHTS], 0xa09b);
	assert_int_equal(vmcs_of[0][VMCS_GUEST_DS_RIGHTS], RIGHTS_UNUSABLE);
	assert_int_equal(must_read(VMCS_EXIT_REASON), REASON_CPUID);
	assert_int_equal(must_read(VMCS_EXIT_QUALIFICATION), 0x99);
	assert_int_equal(must_read(VMCS_GUEST_RIP), 0x5010);
	assert_int_equal(must_read(VMCS_GUEST_RSP), 0x5ff0);
	assert_int_equal(must_read(VMCS_SEGMENT(VMCS_GUEST_ES_BASE, SEG_FS)), 0xf5); /* fetched now */
	must_write(VMCS_GUEST_RIP, 0x5012);
	n->base.slat_changed = false;
	writes = 0;
	flushes = 0;
	resume();
	assert_int_equal(l2->rip, 0x5012);
	assert_true(writes < 25); /* what hasn't changed isn't written */
	assert_false(n->base.slat_changed);
	vmx_write_back(l2v);
	assert_int_equal(flushes & 2, 0); /* the same VPID */
	close_world();
}

/* What L1 writes over a field that VMCS02 has newer stays; what it doesn't is fetched. */
static void test_kept_fields(void **state)
{
	open_world();
	switch_on();
	write_plain();
	launch();
	l2_exits(REASON_CPUID, EXIT_CPUID);
	vmcs[VMCS_SEGMENT(VMCS_GUEST_ES_BASE, SEG_FS)] = 0xf5;
	vmcs[VMCS_SEGMENT(VMCS_GUEST_ES_BASE, SEG_GS)] = 0xa5;
	leave_l2();
	must_write(VMCS_SEGMENT(VMCS_GUEST_ES_BASE, SEG_FS), 0xff);
	assert_int_equal(must_read(VMCS_SEGMENT(VMCS_GUEST_ES_BASE, SEG_GS)), 0xa5);
	assert_int_equal(must_read(VMCS_SEGMENT(VMCS_GUEST_ES_BASE, SEG_FS)), 0xff);
	resume();
	assert_int_equal(vmcs_of[1][VMCS_SEGMENT(VMCS_GUEST_ES_BASE, SEG_FS)], 0xff);
	vmcs_of[1][VMCS_SEGMENT(VMCS_GUEST_ES_BASE, SEG_GS)] = 0xa6;
	leave_l2();
	assert_flags(with_pointer(REASON_VMCLEAR, REGION_A), 0);
	vmcs_of[1][VMCS_SEGMENT(VMCS_GUEST_ES_BASE, SEG_GS)] = 1;
	assert_flags(with_pointer(REASON_VMPTRLD, REGION_A), 0);
	assert_int_equal(must_read(VMCS_SEGMENT(VMCS_GUEST_ES_BASE, SEG_GS)), 0xa6); /* went to memory */
	close_world();
}

static void test_launch_state(void **state)
{
	open_world();
	switch_on();
	write_plain();
	assert_flags(execute(REASON_VMRESUME, 0), RFLAGS_ZF);
	assert_int_equal(must_read(VMCS_INSTRUCTION_ERROR), 5);
	vmcs_of[0][VMCS_GUEST_INTERRUPTIBILITY] = BLOCKING_MOV_SS;
	assert_flags(execute(REASON_VMLAUNCH, 0), RFLAGS_ZF);
	vmcs_of[0][VMCS_GUEST_INTERRUPTIBILITY] = 0;
	assert_int_equal(must_read(VMCS_INSTRUCTION_ERROR), 26);
	launch();
	leave_l2();
	assert_flags(execute(REASON_VMLAUNCH, 0), RFLAGS_ZF);
	assert_int_equal(must_read(VMCS_INSTRUCTION_ERROR), 4);
	resume();
	leave_l2();
	assert_flags(with_pointer(REASON_VMCLEAR, REGION_A), 0);
	assert_flags(with_pointer(REASON_VMPTRLD, REGION_A), 0);
	launch();
	close_world();
}

/* One field made wrong each: the instruction fails with that number, or is an exit to L1 with that qualification. */
static void test_checks(void **state)
{
	enum { FAIL_7, FAIL_8, EXIT_33 };
	static const struct {
		uint32_t field;
		uint64_t value;
		unsigned how, qualification;
	} wrong[] = {
		{ VMCS_PIN_CONTROLS, 0, FAIL_7, 0 },
		{ VMCS_PIN_CONTROLS, PIN_LEAST | BIT(7), FAIL_7, 0 },
		{ VMCS_PIN_CONTROLS, PIN_LEAST | PIN_VIRTUAL_NMIS, FAIL_7, 0 },
		{ VMCS_PRIMARY_CONTROLS, PRIMARY_LEAST | PRIMARY_NMI_WINDOW, FAIL_7, 0 },
		{ VMCS_PRIMARY_CONTROLS, PRIMARY_LEAST | BIT(0), FAIL_7, 0 },
		{ VMCS_SECONDARY_CONTROLS, BIT(4), FAIL_7, 0 },
		{ VMCS_SECONDARY_CONTROLS, SECONDARY_UNRESTRICTED, FAIL_7, 0 },
		{ VMCS_CR3_TARGET_COUNT, 5, FAIL_7, 0 },
		{ VMCS_VPID, 0, FAIL_7, 0 },
		{ VMCS_EPT_POINTER, EPT_ROOT | EPT_POINTER_LEVELS(4) | 1, FAIL_7, 0 },
		{ VMCS_EPT_POINTER, EPT_ROOT | EPT_POINTER_WB | EPT_POINTER_LEVELS(3), FAIL_7, 0 },
		{ VMCS_EPT_POINTER, BIT(40) | EPT_POINTER_WB | EPT_POINTER_LEVELS(4), FAIL_7, 0 },
		{ VMCS_EXIT_CONTROLS, EXIT_LEAST | EXITC_SAVE_TIMER, FAIL_7, 0 },
		{ VMCS_EXIT_CONTROLS, 0, FAIL_7, 0 },
		{ VMCS_ENTRY_CONTROLS, ENTRY_LEAST | BIT(10), FAIL_7, 0 },
		{ VMCS_ENTRY_EVENT, EVENT_VALID | 1 << 8, FAIL_7, 0 },
		{ VMCS_ENTRY_EVENT, EVENT_VALID | 2 << 8 | 3, FAIL_7, 0 },
		{ VMCS_ENTRY_EVENT, EVENT_VALID | 3 << 8 | VECTOR_GP, FAIL_7, 0 }, /* its error code */
		{ VMCS_ENTRY_EVENT, EVENT_VALID | EVENT_HAS_ERROR | 3 << 8 | VECTOR_UD, FAIL_7, 0 }, /* has none */
		{ VMCS_ENTRY_EVENT, EVENT_VALID | BIT(12) | 3 << 8 | VECTOR_UD, FAIL_7, 0 },
		{ VMCS_ENTRY_EVENT, EVENT_VALID | 4 << 8 | 0x80, FAIL_7, 0 }, /* length 0 */
		{ VMCS_HOST_CR0, CR0_PE | CR0_PG, FAIL_8, 0 },
		{ VMCS_HOST_CR4, CR4_VMXE, FAIL_8, 0 },
		{ VMCS_HOST_CR4, CR4_PAE, FAIL_8, 0 },
		{ VMCS_HOST_CR4, CR4_PAE | CR4_VMXE | CR4_SMEP, FAIL_8, 0 }, /* this L1 has none */
		{ VMCS_HOST_CR3, BIT(40), FAIL_8, 0 },
		{ VMCS_HOST_CS_SELECTOR, 0, FAIL_8, 0 },
		{ VMCS_HOST_CS_SELECTOR, 9, FAIL_8, 0 },
		{ VMCS_HOST_TR_SELECTOR, 0, FAIL_8, 0 },
		{ VMCS_HOST_RIP, BIT(47), FAIL_8, 0 },
		{ VMCS_HOST_IDTR_BASE, BIT(50), FAIL_8, 0 },
		{ VMCS_EXIT_CONTROLS, EXIT_LEAST & ~EXITC_HOST_64, FAIL_8, 0 },
		{ VMCS_EXIT_CONTROLS, EXIT_LEAST | EXITC_LOAD_EFER, FAIL_8, 0 },
		{ VMCS_GUEST_CR0, CR0_PE | CR0_NE, EXIT_33, 0 },
		{ VMCS_GUEST_CR0, CR0_PG | CR0_NE, EXIT_33, 0 },
		{ VMCS_GUEST_CR4, CR4_VMXE, EXIT_33, 0 },
		{ VMCS_GUEST_CR4, CR4_PAE, EXIT_33, 0 },
		{ VMCS_GUEST_CR3, BIT(40), EXIT_33, 0 },
		{ VMCS_GUEST_RFLAGS, 0, EXIT_33, 0 },
		{ VMCS_GUEST_RFLAGS, 2 | BIT(15), EXIT_33, 0 },
		{ VMCS_GUEST_RFLAGS, 2 | RFLAGS_VM, EXIT_33, 0 },
		{ VMCS_GUEST_RIP, BIT(48), EXIT_33, 0 },
		{ VMCS_GUEST_ACTIVITY, 2, EXIT_33, 0 },
		{ VMCS_GUEST_ACTIVITY, 4, EXIT_33, 0 },
		{ VMCS_GUEST_INTERRUPTIBILITY, BLOCKING_STI, EXIT_33, 0 }, /* IF is clear */
		{ VMCS_GUEST_INTERRUPTIBILITY, BLOCKING_SMI, EXIT_33, 0 },
		{ VMCS_GUEST_PENDING_DEBUG, BIT(13), EXIT_33, 0 },
		{ VMCS_GUEST_GDTR_LIMIT, 0x10000, EXIT_33, 0 },
		{ VMCS_GUEST_IDTR_BASE, BIT(48), EXIT_33, 0 },
		{ VMCS_GUEST_SYSENTER_EIP, BIT(48), EXIT_33, 0 },
		{ VMCS_LINK_POINTER, 8, EXIT_33, 4 },
		{ VMCS_LINK_POINTER, OPERAND, EXIT_33, 4 },           /* no VMCS there */
		{ VMCS_ENTRY_EVENT, EVENT_VALID | 0x20, EXIT_33, 0 }, /* IF is clear */
		{ VMCS_GUEST_CS_RIGHTS, 0xe09b, EXIT_33, 0 },         /* L and D */
		{ VMCS_GUEST_CS_RIGHTS, 0xa093, EXIT_33, 0 },
		{ VMCS_GUEST_CS_RIGHTS, 0xa09b | RIGHTS_UNUSABLE, EXIT_33, 0 },
		{ VMCS_GUEST_CS_RIGHTS, 0x209b, EXIT_33, 0 }, /* granularity against the limit */
		{ VMCS_GUEST_SS_RIGHTS, 0xc0f3, EXIT_33, 0 },
		{ VMCS_GUEST_SS_RIGHTS, 0xc091, EXIT_33, 0 },
		{ VMCS_GUEST_DS_RIGHTS, 0xc092, EXIT_33, 0 },
		{ VMCS_GUEST_DS_RIGHTS, 0xc193, EXIT_33, 0 },
		{ VMCS_SEGMENT(VMCS_GUEST_ES_BASE, SEG_DS), BIT(32), EXIT_33, 0 },
		{ VMCS_SEGMENT(VMCS_GUEST_ES_BASE, SEG_GS), BIT(50), EXIT_33, 0 },
		{ VMCS_SEGMENT(VMCS_GUEST_ES_SELECTOR, SEG_DS), 3, EXIT_33, 0 }, /* RPL above DPL */
		{ VMCS_SEGMENT(VMCS_GUEST_ES_SELECTOR, SEG_SS), 1, EXIT_33, 0 },
		{ VMCS_SEGMENT(VMCS_GUEST_ES_RIGHTS, SEG_TR), 0x83, EXIT_33, 0 },
		{ VMCS_SEGMENT(VMCS_GUEST_ES_RIGHTS, SEG_TR), 0x89, EXIT_33, 0 },
		{ VMCS_SEGMENT(VMCS_GUEST_ES_SELECTOR, SEG_TR), 4, EXIT_33, 0 },
		{ VMCS_SEGMENT(VMCS_GUEST_ES_RIGHTS, SEG_LDTR), 0x89, EXIT_33, 0 },
		{ VMCS_ENTRY_CONTROLS, ENTRY_LEAST | ENTRYC_LOAD_EFER, EXIT_33, 0 }, /* GUEST_EFER is 0 */
		{ VMCS_ENTRY_CONTROLS, ENTRY_LEAST & ~ENTRYC_IA32E, EXIT_33, 2 },    /* PAE: PDPTEs, see below */
	};

	open_world();
	switch_on();
	write_plain();
	launch();
	leave_l2();
	for (unsigned i = 0; i < ARRAY_SIZE(wrong); i++) {
		uint64_t was = must_read(wrong[i].field), error = wrong[i].how == FAIL_7 ? 7 : 8;

		if (wrong[i].qualification == 2) {
			must_write(VMCS_GUEST_CS_RIGHTS, 0xc09b);
			must_write(VMCS_GUEST_PDPTE0, 3);
		}
		must_write(wrong[i].field, wrong[i].value);
		if (wrong[i].how != EXIT_33) {
			assert_flags(execute(REASON_VMRESUME, 0), RFLAGS_ZF);
			assert_int_equal(must_read(VMCS_INSTRUCTION_ERROR), error);
		} else {
			assert_int_equal(execute(REASON_VMRESUME, 0), NESTED_ENTERED);
			assert_false(n->base.in_l2);
			assert_int_equal(l1->rip, 0xffff800000001000);
			assert_int_equal(must_read(VMCS_EXIT_REASON), REASON_ENTRY_FAILED | 33);
			assert_int_equal(must_read(VMCS_EXIT_QUALIFICATION), wrong[i].qualification);
			assert_int_equal(must_read(wrong[i].field), wrong[i].value); /* guest fields stay */
		}
		must_write(wrong[i].field, was);
	}
	must_write(VMCS_GUEST_CS_RIGHTS, 0xa09b);
	resume();
	close_world();
}

static void test_scaled_clock(void **state)
{
	open_world();
	switch_on();
	write_plain();
	must_write(VMCS_PRIMARY_CONTROLS, PRIMARY_LEAST | PRIMARY_SECONDARY | PRIMARY_TSC_OFFSET);
	must_write(VMCS_SECONDARY_CONTROLS, SECONDARY_TSC_SCALING);
	must_write(VMCS_TSC_OFFSET, 1000);
	assert_flags(execute(REASON_VMLAUNCH, 0), RFLAGS_ZF); /* a multiplier of 0 */
	assert_int_equal(must_read(VMCS_INSTRUCTION_ERROR), 7);
	must_write(VMCS_TSC_MULTIPLIER, BIT(47));
	l1->tsc_offset = 0 - UINT64_C(600);
	launch();
	assert_true(vmcs[VMCS_SECONDARY_CONTROLS] & SECONDARY_TSC_SCALING);
	assert_true(l2->tsc_scale == BIT(47) && l2->tsc_offset == 700);
	assert_int_equal(hv_tsc(l2, 5000), 3200); /* L1's 4,400 halved, and 1,000 */
	leave_l2();
	must_write(VMCS_PRIMARY_CONTROLS, PRIMARY_LEAST | PRIMARY_SECONDARY);
	resume();
	assert_true(!l2->tsc_scale && l2->tsc_offset == l1->tsc_offset);
	/* Without offsetting there is no scaling, and the field may hold anything: the processor isn't asked for it. */
	assert_false(vmcs[VMCS_SECONDARY_CONTROLS] & SECONDARY_TSC_SCALING);
	close_world();
}

static void test_controls_come_together(void **state)
{
	open_world();
	switch_on();
	write_plain();
	must_write(VMCS_PRIMARY_CONTROLS, PRIMARY_LEAST | PRIMARY_SECONDARY | PRIMARY_INVLPG | PRIMARY_TSC_OFFSET);
	must_write(VMCS_EXCEPTION_BITMAP, BIT(VECTOR_UD));
	must_write(VMCS_TSC_OFFSET, 1000);
	must_write(VMCS_CR0_MASK, CR0_TS | CR0_WP);
	must_write(VMCS_CR0_SHADOW, CR0_TS);
	l1->tsc_offset = 5;
	launch();
	vmx_write_back(l2v);
	assert_int_equal(vmcs[VMCS_EXCEPTION_BITMAP], VMX_EXCEPTIONS | BIT(VECTOR_UD));
	assert_true((l2v->primary & PRIMARY_INVLPG) && (l2v->primary & PRIMARY_UNCONDITIONAL_IO));
	assert_true(l2v->primary & PRIMARY_HLT); /* L1 doesn't ask for it: vm/ lets the vcpu sleep */
	assert_int_equal(vmcs[VMCS_SECONDARY_CONTROLS] & (SECONDARY_EPT | SECONDARY_UNRESTRICTED | SECONDARY_VPID |
							  SECONDARY_RDTSCP | SECONDARY_PML),
			 SECONDARY_EPT | SECONDARY_UNRESTRICTED | SECONDARY_VPID);
	assert_int_equal(l2->tsc_offset, 1005);
	assert_true((vmcs[VMCS_CR0_MASK] & CR0_TS) && (vmcs[VMCS_CR0_MASK] & CR0_PG));
	assert_int_equal(vmcs[VMCS_CR0_SHADOW] & (CR0_TS | CR0_WP | CR0_PG), CR0_TS | CR0_PG);
	assert_int_equal(vmcs[VMCS_GUEST_CR0] & (CR0_TS | CR0_WP), 0);
	assert_int_equal(vmx_nested_ops.control_value(&n->base, 0, CR0_TS | CR0_MP), CR0_MP);
	leave_l2();
	must_write(VMCS_SECONDARY_CONTROLS, SECONDARY_RDTSCP);
	resume();
	assert_false(n->base.slat.on);
	assert_true(n->base.slat_changed);
	assert_true(vmcs[VMCS_SECONDARY_CONTROLS] & SECONDARY_PML); /* on L1's own tables L2's writes are L1's */
	assert_true(vmcs[VMCS_SECONDARY_CONTROLS] & SECONDARY_RDTSCP);
	flushes = 0;
	vmx_write_back(l2v);
	assert_int_equal(flushes, 2); /* without a VPID */
	close_world();
}

static void test_msr_bitmaps(void **state)
{
	static const uint32_t others[] = { MSR_STAR,           MSR_SYSENTER_CS, MSR_SYSENTER_ESP, MSR_SYSENTER_EIP,
					   MSR_KERNEL_GS_BASE, MSR_EFER,        MSR_PAT,          MSR_SPEC_CTRL,
					   MSR_PRED_CMD,       MSR_FLUSH_CMD,   MSR_GS_BASE,      MSR_SFMASK };
	uint8_t *merged;

	open_world();
	vmx_pass_msr(l1, MSR_LSTAR, true, true);
	vmx_pass_msr(l1, MSR_FS_BASE, true, false);
	for (unsigned i = 0; i < ARRAY_SIZE(others); i++)
		vmx_pass_msr(l1, others[i], true, true);
	switch_on();
	write_plain();
	memset(l1_memory + MSR_BITMAP_PAGE, 0, PAGE_SIZE);
	set_exit(l1_memory + MSR_BITMAP_PAGE, MSR_LSTAR, true, true);
	must_write(VMCS_MSR_BITMAP, MSR_BITMAP_PAGE);
	launch();
	merged = direct_pointer(l2v->msr_bitmap);
	assert_true(vmx_msr_bitmap_exits(merged, MSR_LSTAR, false)); /* bitmaps are not in use */
	l2->gpr[GPR_RCX] = MSR_STAR;
	l2_exits(REASON_RDMSR, EXIT_MSR_READ);
	assert_true(vmx_nested_ops.exit(&n->base));
	must_write(VMCS_PRIMARY_CONTROLS, PRIMARY_LEAST | PRIMARY_SECONDARY | PRIMARY_MSR_BITMAP);
	resume();
	assert_false(vmx_msr_bitmap_exits(merged, MSR_LSTAR, false));
	assert_true(vmx_msr_bitmap_exits(merged, MSR_LSTAR, true)); /* L1 wants it */
	assert_false(vmx_msr_bitmap_exits(merged, MSR_FS_BASE, false));
	assert_true(vmx_msr_bitmap_exits(merged, MSR_FS_BASE, true)); /* Quire wants it */
	assert_true(vmx_msr_bitmap_exits(merged, MSR_EFER, true));
	assert_true(vmx_msr_bitmap_exits(merged, 0x2000, true) && vmx_msr_bitmap_exits(merged, 0x80000000, false));
	l2->gpr[GPR_RCX] = MSR_EFER;
	l2_exits(REASON_WRMSR, EXIT_MSR_WRITE);
	assert_false(vmx_nested_ops.exit(&n->base));
	l2->gpr[GPR_RCX] = 0xdeadbeef;
	assert_true(vmx_nested_ops.exit(&n->base)); /* in no range */
	memset(l1_memory + MSR_BITMAP_PAGE, 0, PAGE_SIZE);
	resume();
	assert_memory_equal(merged, direct_pointer(vmx_of(l1)->msr_bitmap), PAGE_SIZE); /* L1 wants none */
	close_world();
}

/* ---- exits ---- */

static bool reflected(unsigned reason, enum hv_exit_kind kind)
{
	if (!n->base.in_l2)
		resume();
	l2_exits(reason, kind);
	return vmx_nested_ops.exit(&n->base);
}

static void test_wants(void **state)
{
	static const struct {
		uint32_t primary;
		uint8_t reason;
	} by_control[] = {
		{ PRIMARY_HLT, REASON_HLT },
		{ PRIMARY_INVLPG, REASON_INVLPG },
		{ PRIMARY_RDPMC, REASON_RDPMC },
		{ PRIMARY_RDTSC, REASON_RDTSC },
		{ PRIMARY_RDTSC, REASON_RDTSCP },
		{ PRIMARY_MWAIT, REASON_MWAIT },
		{ PRIMARY_MONITOR, REASON_MONITOR },
		{ PRIMARY_MOV_DR, REASON_DR_ACCESS },
		{ PRIMARY_PAUSE, REASON_PAUSE },
		{ PRIMARY_INTERRUPT_WINDOW, REASON_INTERRUPT_WINDOW },
		{ PRIMARY_UNCONDITIONAL_IO, REASON_IO },
		{ PRIMARY_INVLPG, REASON_INVPCID },
	};
	static const uint8_t always[] = { REASON_CPUID,  REASON_GETSEC,       REASON_INVD,       REASON_VMCALL,
					  REASON_VMREAD, REASON_VMXON,        REASON_INVEPT,     REASON_INVVPID,
					  REASON_XSETBV, REASON_TRIPLE_FAULT, REASON_TASK_SWITCH };
	static const uint8_t never[] = {
		REASON_EXTERNAL_INTERRUPT, REASON_INIT,     REASON_SIPI,   REASON_EPT_VIOLATION,
		REASON_EPT_MISCONFIG,      REASON_PML_FULL, REASON_VMFUNC, REASON_ENCLS
	};

	open_world();
	switch_on();
	write_plain();
	launch();
	for (unsigned i = 0; i < ARRAY_SIZE(always); i++)
		assert_true(reflected(always[i], EXIT_NOTHING));
	for (unsigned i = 0; i < ARRAY_SIZE(never); i++)
		assert_false(reflected(never[i], EXIT_NOTHING));
	leave_l2();
	for (unsigned i = 0; i < ARRAY_SIZE(by_control); i++) {
		must_write(VMCS_PRIMARY_CONTROLS, PRIMARY_LEAST | PRIMARY_SECONDARY);
		assert_false(reflected(by_control[i].reason, EXIT_NOTHING));
		leave_l2();
		must_write(VMCS_PRIMARY_CONTROLS, PRIMARY_LEAST | PRIMARY_SECONDARY | by_control[i].primary);
		assert_true(reflected(by_control[i].reason, EXIT_NOTHING));
		assert_int_equal(must_read(VMCS_EXIT_REASON), by_control[i].reason);
	}
	close_world();
}

static bool exception_exits(unsigned vector, unsigned type, uint32_t error)
{
	if (!n->base.in_l2)
		resume();
	l2_exits(REASON_EXCEPTION_OR_NMI, EXIT_EXCEPTION);
	vmcs[VMCS_EXIT_EVENT] = EVENT_VALID | type << 8 | vector;
	vmcs[VMCS_EXIT_ERROR_CODE] = error;
	return vmx_nested_ops.exit(&n->base);
}

static void test_exceptions(void **state)
{
	const struct hv_event ud = { .kind = EVENT_EXCEPTION, .vector = VECTOR_UD };
	const struct hv_event df = { .kind = EVENT_EXCEPTION, .vector = VECTOR_DF, .has_error_code = true };
	const struct hv_event pf = {
		.kind = EVENT_EXCEPTION, .vector = VECTOR_PF, .has_error_code = true, .error_code = 2
	};

	open_world();
	switch_on();
	write_plain();
	must_write(VMCS_EXCEPTION_BITMAP, BIT(VECTOR_UD) | BIT(VECTOR_PF) | BIT(VECTOR_MC));
	must_write(VMCS_PAGE_FAULT_MASK, 1);
	must_write(VMCS_PAGE_FAULT_MATCH, 1);
	launch();
	assert_false(exception_exits(VECTOR_DB, 3, 0));
	assert_false(exception_exits(VECTOR_MC, 3, 0)); /* the host's */
	assert_false(exception_exits(VECTOR_NMI, 2, 0));
	assert_true(exception_exits(VECTOR_UD, 3, 0));
	assert_true(exception_exits(VECTOR_PF, 3, 5));
	assert_false(exception_exits(VECTOR_PF, 3, 4));
	assert_false(vmx_nested_ops.exception(&n->base, &pf, 0x1234)); /* not by mask and match */
	l2->inject = pf;
	assert_true(vmx_nested_ops.exception(&n->base, &ud, 0));
	assert_int_equal(must_read(VMCS_EXIT_EVENT), EVENT_VALID | 3 << 8 | VECTOR_UD);
	assert_int_equal(must_read(VMCS_VECTORING_EVENT), EVENT_VALID | EVENT_HAS_ERROR | 3 << 8 | VECTOR_PF);
	assert_int_equal(must_read(VMCS_VECTORING_ERROR_CODE), 2);
	must_write(VMCS_EXCEPTION_BITMAP, 0);
	resume();
	assert_true(vmx_nested_ops.exception(&n->base, &pf, 0x1234)); /* a clear bit turns mask and match round */
	assert_int_equal(must_read(VMCS_EXIT_QUALIFICATION), 0x1234);
	resume();
	assert_false(vmx_nested_ops.exception(&n->base, &ud, 0));
	l2->inject = df;
	assert_true(vmx_nested_ops.exception(&n->base, &ud, 0));
	assert_int_equal(must_read(VMCS_EXIT_REASON), REASON_TRIPLE_FAULT);
	close_world();
}

static bool port_exits(unsigned port, unsigned size)
{
	if (!n->base.in_l2)
		resume();
	l2_exits(REASON_IO, EXIT_IO);
	l2->exit.io.port = (uint16_t)port;
	l2->exit.io.size = (uint8_t)size;
	return vmx_nested_ops.exit(&n->base);
}

static void test_io_bitmaps(void **state)
{
	open_world();
	switch_on();
	write_plain();
	must_write(VMCS_IO_BITMAP_A, IO_BITMAP_PAGE);
	must_write(VMCS_IO_BITMAP_B, IO_BITMAP_PAGE + PAGE_SIZE);
	must_write(VMCS_PRIMARY_CONTROLS,
		   PRIMARY_LEAST | PRIMARY_SECONDARY | PRIMARY_IO_BITMAPS | PRIMARY_UNCONDITIONAL_IO);
	l1_memory[IO_BITMAP_PAGE + 0x70 / 8] = 2;         /* 71h */
	l1_memory[IO_BITMAP_PAGE + PAGE_SIZE + 0x40] = 1; /* 8200h */
	launch();
	assert_false(port_exits(0x70, 1));
	assert_true(port_exits(0x71, 1));
	assert_true(port_exits(0x6e, 4));
	assert_false(port_exits(0x72, 4));
	assert_true(port_exits(0x8200, 1));
	assert_true(port_exits(0xffff, 2)); /* round the end */
	assert_false(port_exits(0x7fff, 2));
	leave_l2();
	must_write(VMCS_IO_BITMAP_B, L1_SIZE); /* no memory there */
	assert_true(port_exits(0x9000, 1));
	close_world();
}

static bool moves(unsigned number, bool write, uint64_t value)
{
	if (!n->base.in_l2)
		resume();
	l2_exits(REASON_CR_ACCESS, EXIT_CR_ACCESS);
	l2->exit.cr.number = (uint8_t)number;
	l2->exit.cr.gpr = GPR_RBX;
	l2->exit.cr.write = write;
	l2->gpr[GPR_RBX] = value;
	return vmx_nested_ops.exit(&n->base);
}

static void test_control_registers(void **state)
{
	open_world();
	switch_on();
	write_plain();
	must_write(VMCS_CR0_MASK, CR0_TS | CR0_PE);
	must_write(VMCS_CR0_SHADOW, CR0_PE);
	must_write(VMCS_CR4_MASK, CR4_VMXE);
	must_write(VMCS_CR3_TARGET0 + 2, 0x3000);
	must_write(VMCS_CR3_TARGET_COUNT, 2);
	must_write(VMCS_PRIMARY_CONTROLS, PRIMARY_LEAST | PRIMARY_SECONDARY | PRIMARY_CR3_LOAD | PRIMARY_CR8_STORE);
	launch();
	assert_false(moves(0, true, CR0_PE | CR0_PG | CR0_WP)); /* as the shadow has it */
	assert_true(moves(0, true, CR0_PE | CR0_TS));
	assert_true(moves(0, true, CR0_PG));
	assert_false(moves(4, true, CR4_PAE));
	assert_true(moves(4, true, CR4_PAE | CR4_VMXE));
	assert_false(moves(3, true, 0x3000));
	assert_true(moves(3, true, 0x4000));
	assert_false(moves(3, false, 0));
	assert_true(moves(8, false, 0));
	assert_false(moves(8, true, 0));
	l2->exit.cr.lmsw = true;
	l2->exit.cr.lmsw_source = 0; /* can't clear PE */
	assert_false(vmx_nested_ops.exit(&n->base));
	l2->exit.cr.lmsw_source = CR0_TS;
	assert_true(vmx_nested_ops.exit(&n->base));
	assert_false(moves(8, true, 0));
	l2->exit.cr.clts = true;
	assert_false(vmx_nested_ops.exit(&n->base)); /* reads as 0 already */
	assert_true(vmx_nested_ops.control(&n->base, CR0_PE | CR0_PG | CR0_NE, CR4_VMXE, 0));
	assert_false(vmx_nested_ops.control(&n->base, CR0_PE | CR0_NE, CR4_VMXE, 0));
	assert_false(vmx_nested_ops.control(&n->base, CR0_PE | CR0_PG | CR0_NE, 0, 0));
	close_world();
}

static void test_tpr_shadow(void **state)
{
	open_world();
	switch_on();
	write_plain();
	must_write(VMCS_VIRTUAL_APIC_ADDRESS, VIRTUAL_APIC_PAGE);
	must_write(VMCS_PRIMARY_CONTROLS, PRIMARY_LEAST | PRIMARY_SECONDARY | PRIMARY_TPR_SHADOW);
	l1_memory[VIRTUAL_APIC_PAGE + 0x80] = 0x50;
	must_write(VMCS_TPR_THRESHOLD, 6);
	assert_flags(execute(REASON_VMLAUNCH, 0), RFLAGS_ZF); /* above VTPR */
	must_write(VMCS_TPR_THRESHOLD, 4);
	launch();
	assert_false(moves(8, false, 0));
	assert_int_equal(l2->exit.kind, EXIT_CACHE);
	assert_int_equal(l2->gpr[GPR_RBX], 5);
	assert_false(moves(8, true, 7));
	assert_int_equal(l2->exit.kind, EXIT_CACHE);
	assert_int_equal(l1_memory[VIRTUAL_APIC_PAGE + 0x80], 0x70);
	assert_false(moves(8, true, 16));
	assert_int_equal(l2->exit.kind, EXIT_CR_ACCESS); /* #GP is vm's */
	l2->rip = 0x5000;
	assert_true(moves(8, true, 3));
	assert_int_equal(must_read(VMCS_EXIT_REASON), REASON_TPR_THRESHOLD);
	assert_int_equal(must_read(VMCS_GUEST_RIP), 0x5002);
	close_world();
}

static void test_pending(void **state)
{
	open_world();
	assert_int_equal(vmx_nested_ops.pending(&n->base, NESTED_INIT), NESTED_INJECT);
	switch_on();
	assert_int_equal(vmx_nested_ops.pending(&n->base, NESTED_INIT), NESTED_HELD);
	assert_int_equal(vmx_nested_ops.pending(&n->base, NESTED_INTERRUPT), NESTED_INJECT);
	write_plain();
	launch();
	assert_int_equal(vmx_nested_ops.pending(&n->base, NESTED_INTERRUPT), NESTED_INJECT);
	assert_int_equal(vmx_nested_ops.pending(&n->base, NESTED_NMI), NESTED_INJECT);
	assert_int_equal(vmx_nested_ops.pending(&n->base, NESTED_INIT), NESTED_TAKEN);
	assert_int_equal(must_read(VMCS_EXIT_REASON), REASON_INIT);
	must_write(VMCS_PIN_CONTROLS, PIN_LEAST | PIN_EXTERNAL_INTERRUPT | PIN_NMI);
	must_write(VMCS_ENTRY_EVENT, EVENT_VALID | 4 << 8 | 0x80);
	must_write(VMCS_ENTRY_INSTRUCTION_LENGTH, 2);
	resume();
	assert_int_equal(l2->inject.kind, EVENT_SOFT_INTERRUPT);
	l2->slice_deadline = 1;
	assert_int_equal(vmx_nested_ops.pending(&n->base, NESTED_INTERRUPT), NESTED_HELD); /* L1's event first */
	assert_int_equal(vmx_nested_ops.pending(&n->base, NESTED_NMI), NESTED_HELD);
	assert_true(n->base.in_l2 && !l2->slice_deadline);
	l2->inject.kind = EVENT_NONE; /* it is in */
	assert_int_equal(vmx_nested_ops.pending(&n->base, NESTED_INTERRUPT), NESTED_REFLECTED);
	assert_int_equal(must_read(VMCS_EXIT_REASON), REASON_EXTERNAL_INTERRUPT);
	assert_int_equal(must_read(VMCS_EXIT_EVENT), 0);
	assert_int_equal(must_read(VMCS_VECTORING_EVENT), 0);
	assert_int_equal(must_read(VMCS_ENTRY_EVENT), 4 << 8 | 0x80); /* no longer valid */
	must_write(VMCS_EXIT_CONTROLS, EXIT_LEAST | EXITC_ACKNOWLEDGE);
	resume();
	assert_int_equal(vmx_nested_ops.pending(&n->base, NESTED_INTERRUPT), NESTED_HELD); /* it has gone */
	waiting_vector = 0x41;
	assert_int_equal(vmx_nested_ops.pending(&n->base, NESTED_INTERRUPT), NESTED_REFLECTED);
	assert_int_equal(must_read(VMCS_EXIT_EVENT), EVENT_VALID | 0x41);
	resume();
	vmcs[VMCS_GUEST_INTERRUPTIBILITY] = BLOCKING_NMI;
	assert_int_equal(vmx_nested_ops.pending(&n->base, NESTED_NMI), NESTED_WINDOW);
	vmcs[VMCS_GUEST_INTERRUPTIBILITY] = 0;
	l2->valid = 0;
	assert_int_equal(vmx_nested_ops.pending(&n->base, NESTED_NMI), NESTED_TAKEN);
	assert_int_equal(must_read(VMCS_EXIT_EVENT), EVENT_VALID | 2 << 8 | 2);
	assert_int_equal(vmcs_of[0][VMCS_GUEST_INTERRUPTIBILITY], BLOCKING_NMI);
	close_world();
}

/* An exit out of a HLT that isn't L1's finds L2 halted; what comes after it has gone on doesn't. */
static void test_halted(void **state)
{
	open_world();
	switch_on();
	write_plain();
	must_write(VMCS_PIN_CONTROLS, PIN_LEAST | PIN_EXTERNAL_INTERRUPT);
	launch();
	assert_false(reflected(REASON_HLT, EXIT_HLT));
	assert_int_equal(vmx_nested_ops.pending(&n->base, NESTED_INTERRUPT), NESTED_REFLECTED);
	assert_int_equal(must_read(VMCS_GUEST_ACTIVITY), ACTIVITY_HLT);
	resume(); /* and sleeps on */
	assert_int_equal(vmcs[VMCS_GUEST_ACTIVITY], ACTIVITY_HLT);
	leave_l2();
	must_write(VMCS_GUEST_ACTIVITY, ACTIVITY_ACTIVE);
	/* Woken by L1, it has not come to run when the next interrupt comes. */
	resume();
	assert_false(reflected(REASON_HLT, EXIT_HLT));
	assert_int_equal(vmx_nested_ops.pending(&n->base, NESTED_INTERRUPT), NESTED_REFLECTED);
	must_write(VMCS_GUEST_ACTIVITY, ACTIVITY_ACTIVE);
	resume();
	assert_int_equal(vmx_nested_ops.pending(&n->base, NESTED_INTERRUPT), NESTED_REFLECTED);
	assert_int_equal(must_read(VMCS_GUEST_ACTIVITY), ACTIVITY_ACTIVE);
	resume();
	assert_false(reflected(REASON_HLT, EXIT_HLT));
	l2_exits(REASON_EPT_VIOLATION, EXIT_SLAT_FAULT); /* an event has woken it */
	assert_int_equal(vmx_nested_ops.pending(&n->base, NESTED_INTERRUPT), NESTED_REFLECTED);
	assert_int_equal(must_read(VMCS_GUEST_ACTIVITY), ACTIVITY_ACTIVE);
	must_write(VMCS_PRIMARY_CONTROLS, PRIMARY_LEAST | PRIMARY_SECONDARY | PRIMARY_HLT);
	assert_true(reflected(REASON_HLT, EXIT_HLT));
	assert_int_equal(must_read(VMCS_GUEST_ACTIVITY), ACTIVITY_ACTIVE);
	close_world();
}

/* An L2 that waits for a SIPI gets nothing but that, and L1 an exit of it. */
static void test_waiting_for_startup(void **state)
{
	open_world();
	assert_true(vmx_offered(&n->offer, MSR_VMX_MISC) & MISC_WAIT_SIPI);
	switch_on();
	write_plain();
	must_write(VMCS_PIN_CONTROLS, PIN_LEAST | PIN_EXTERNAL_INTERRUPT | PIN_NMI);
	launch();
	assert_false(reflected(REASON_HLT, EXIT_HLT)); /* its last exit, which is to leave no trace */
	assert_int_equal(vmx_nested_ops.pending(&n->base, NESTED_INTERRUPT), NESTED_REFLECTED);
	assert_false(n->base.awaits_startup);
	must_write(VMCS_GUEST_ACTIVITY, ACTIVITY_WAIT_SIPI);
	resume();
	for (enum hv_nested_event what = NESTED_INTERRUPT; what <= NESTED_INIT; what++)
		assert_int_equal(vmx_nested_ops.pending(&n->base, what), NESTED_HELD);
	assert_true(n->base.in_l2 && n->base.awaits_startup);
	vmx_nested_ops.startup(&n->base, 0x9a);
	assert_false(n->base.in_l2 || n->base.awaits_startup);
	assert_int_equal(must_read(VMCS_EXIT_REASON), REASON_SIPI);
	assert_int_equal(must_read(VMCS_EXIT_QUALIFICATION), 0x9a);
	assert_int_equal(must_read(VMCS_GUEST_ACTIVITY), ACTIVITY_WAIT_SIPI);
	assert_int_equal(vmx_nested_ops.pending(&n->base, NESTED_INIT), NESTED_HELD); /* L1 is in root operation */
	/* It can't be given an event, nor be in a shadow. */
	must_write(VMCS_ENTRY_EVENT, EVENT_VALID | 2 << 8 | 2);
	assert_int_equal(execute(REASON_VMRESUME, 0), NESTED_ENTERED);
	assert_int_equal(must_read(VMCS_EXIT_REASON), REASON_ENTRY_FAILED | REASON_INVALID_GUEST_STATE);
	must_write(VMCS_ENTRY_EVENT, 0);
	must_write(VMCS_GUEST_INTERRUPTIBILITY, BLOCKING_MOV_SS);
	assert_int_equal(execute(REASON_VMRESUME, 0), NESTED_ENTERED);
	assert_int_equal(must_read(VMCS_EXIT_REASON), REASON_ENTRY_FAILED | REASON_INVALID_GUEST_STATE);
	must_write(VMCS_GUEST_INTERRUPTIBILITY, 0);
	resume();
	vmx_nested_ops.reset(&n->base);
	assert_false(n->base.awaits_startup);
	close_world();
}

static void test_timer(void **state)
{
	open_world();
	switch_on();
	write_plain();
	must_write(VMCS_PIN_CONTROLS, PIN_LEAST | PIN_PREEMPTION_TIMER);
	must_write(VMCS_EXIT_CONTROLS, EXIT_LEAST | EXITC_SAVE_TIMER);
	must_write(VMCS_PREEMPTION_TIMER, 100);
	launch();
	assert_int_equal(n->base.deadline, test_tsc + 3200);
	assert_false(l2v->primary & PRIMARY_HLT); /* it ends a HLT, too */
	test_tsc += 320;
	assert_false(reflected(REASON_PREEMPTION_TIMER, EXIT_SLICE)); /* Quire's slice */
	leave_l2();
	assert_int_equal(n->base.deadline, UINT64_MAX);
	assert_int_equal(must_read(VMCS_PREEMPTION_TIMER), 90);
	resume();
	test_tsc += 5000;
	assert_false(reflected(REASON_EPT_VIOLATION, EXIT_SLAT_FAULT)); /* it is finished first */
	assert_true(reflected(REASON_PREEMPTION_TIMER, EXIT_SLICE));
	assert_int_equal(must_read(VMCS_EXIT_REASON), REASON_PREEMPTION_TIMER);
	assert_int_equal(must_read(VMCS_PREEMPTION_TIMER), 0);
	close_world();
}

static void test_slat_faults(void **state)
{
	struct hv_nested_fault fault = { .where = { 0x7123 },
					 .linear = { 0xffff800000007123 },
					 .linear_valid = true,
					 .access = ACCESS_WRITE,
					 .rights = ACCESS_READ | ACCESS_EXECUTE };

	open_world();
	switch_on();
	write_plain();
	launch();
	l2_exits(REASON_EPT_VIOLATION, EXIT_SLAT_FAULT);
	vmcs[VMCS_EXIT_QUALIFICATION] = 0x1fff; /* the shadow's, and an IRET's */
	vmcs[VMCS_GUEST_INTERRUPTIBILITY] = BLOCKING_NMI;
	vmx_nested_ops.reflect_slat(&n->base, &fault);
	assert_int_equal(must_read(VMCS_EXIT_REASON), REASON_EPT_VIOLATION);
	assert_int_equal(must_read(VMCS_EXIT_QUALIFICATION), 0x11aa);
	assert_int_equal(must_read(VMCS_GUEST_PHYSICAL_ADDRESS), 0x7123);
	assert_int_equal(must_read(VMCS_GUEST_LINEAR_ADDRESS), 0xffff800000007123);
	assert_int_equal(must_read(VMCS_GUEST_INTERRUPTIBILITY), 0);
	resume();
	l2_exits(REASON_EPT_VIOLATION, EXIT_SLAT_FAULT);
	vmcs[VMCS_EXIT_QUALIFICATION] = 0;
	fault.guest_table = true;
	fault.access = ACCESS_READ | ACCESS_WRITE;
	l2->exit.interrupted = (struct hv_event){ .kind = EVENT_INTERRUPT, .vector = 0x31 };
	vmx_nested_ops.reflect_slat(&n->base, &fault);
	assert_int_equal(must_read(VMCS_EXIT_QUALIFICATION), 0xab);
	assert_int_equal(must_read(VMCS_VECTORING_EVENT), EVENT_VALID | 0x31);
	resume();
	l2_exits(REASON_EPT_VIOLATION, EXIT_SLAT_FAULT);
	fault.misconfigured = true;
	vmx_nested_ops.reflect_slat(&n->base, &fault);
	assert_int_equal(must_read(VMCS_EXIT_REASON), REASON_EPT_MISCONFIG);
	assert_int_equal(must_read(VMCS_EXIT_QUALIFICATION), 0);
	close_world();
}

static void set_list(unsigned at, uint32_t msr, uint64_t value)
{
	const struct vmx_msr_entry entry = { msr, 0, value };

	memcpy(l1_memory + MSR_LIST + at * sizeof(entry), &entry, sizeof(entry));
}

static void test_msr_lists(void **state)
{
	open_world();
	switch_on();
	write_plain();
	set_list(0, MSR_KERNEL_GS_BASE, 0x1111);
	set_list(1, MSR_SYSENTER_CS, 0x2222);
	set_list(2, MSR_LSTAR, BIT(50));
	must_write(VMCS_ENTRY_MSR_LOAD_COUNT, 3);
	must_write(VMCS_ENTRY_MSR_LOAD_ADDRESS, MSR_LIST + 8); /* not aligned */
	assert_flags(execute(REASON_VMLAUNCH, 0), RFLAGS_ZF);
	must_write(VMCS_ENTRY_MSR_LOAD_ADDRESS, BIT(40) - 32); /* its last is beyond the width */
	assert_flags(execute(REASON_VMLAUNCH, 0), RFLAGS_ZF);
	must_write(VMCS_ENTRY_MSR_LOAD_ADDRESS, MSR_LIST);
	must_write(VMCS_ENTRY_MSR_LOAD_COUNT, 3);
	assert_int_equal(execute(REASON_VMLAUNCH, 0), NESTED_ENTERED);
	assert_false(n->base.in_l2);
	assert_int_equal(must_read(VMCS_EXIT_REASON), REASON_ENTRY_FAILED | REASON_MSR_LOADING);
	assert_int_equal(must_read(VMCS_EXIT_QUALIFICATION), 3);
	must_write(VMCS_ENTRY_MSR_LOAD_COUNT, 2);
	launch(); /* still not launched */
	vmx_write_back(l2v);
	assert_int_equal(test_msr[MSR_KERNEL_GS_BASE & 0xfff], 0x1111);
	assert_int_equal(vmcs[VMCS_GUEST_SYSENTER_CS], 0x2222);
	leave_l2();
	set_list(3, MSR_SYSENTER_CS, 0);
	set_list(4, MSR_KERNEL_GS_BASE, 0x3333);
	must_write(VMCS_EXIT_MSR_STORE_ADDRESS, MSR_LIST + 48);
	must_write(VMCS_EXIT_MSR_STORE_COUNT, 1);
	must_write(VMCS_EXIT_MSR_LOAD_ADDRESS, MSR_LIST + 64);
	must_write(VMCS_EXIT_MSR_LOAD_COUNT, 1);
	resume();
	leave_l2();
	assert_int_equal(*(uint64_t *)(l1_memory + MSR_LIST + 56), 0x2222);
	vmx_write_back(l1v);
	assert_int_equal(test_msr[MSR_KERNEL_GS_BASE & 0xfff], 0x3333);
	set_list(4, MSR_TSC_AUX, 0x77);
	resume();
	leave_l2();
	assert_int_equal(test_msr[0], 0x77);
	set_list(4, MSR_FS_BASE, 0);
	resume();
	leave_l2();
	assert_int_equal(l1->inject.vector, VECTOR_DF);
	l1->inject.kind = EVENT_NONE;
	set_list(4, 0x9999, 0);
	resume();
	leave_l2();
	assert_int_equal(l1->inject.vector, VECTOR_DF); /* VMX abort: shutdown */
	assert_int_equal(*(uint32_t *)(l1_memory + REGION_A + 4), 4);
	close_world();
}

/* L1's memory under a VMCS changes while it is current, and what is read at an entry changes behind the reading: all counts as read. */
static void test_attack12_changes_under_an_entry(void **state)
{
	open_world();
	switch_on();
	write_plain();
	must_write(VMCS_ENTRY_MSR_LOAD_ADDRESS, MSR_LIST);
	must_write(VMCS_ENTRY_MSR_LOAD_COUNT, 2);
	assert_flags(with_pointer(REASON_VMCLEAR, REGION_A), 0);
	set_list(0, MSR_KERNEL_GS_BASE, 0x1111);
	set_list(1, MSR_SYSENTER_CS, 0x2222);
	assert_flags(with_pointer(REASON_VMPTRLD, REGION_A), 0);
	memset(l1_memory + REGION_A, 0xff, PAGE_SIZE);
	flips = true;
	launch();
	flips = false;
	vmx_write_back(l2v);
	assert_int_equal(test_msr[MSR_KERNEL_GS_BASE & 0xfff], 0x1111);
	assert_int_equal(vmcs[VMCS_GUEST_SYSENTER_CS], 0x2222);
	assert_int_not_equal(*(uint64_t *)(l1_memory + MSR_LIST + 8), 0x1111);
	leave_l2();
	assert_int_equal(must_read(VMCS_EXIT_REASON), REASON_VMCALL);
	close_world();
}

/* What the processor refuses though no check of ours did. */
static void test_processor_refuses(void **state)
{
	open_world();
	switch_on();
	write_plain();
	launch();
	l2_exits(REASON_INVALID_GUEST_STATE, EXIT_INVALID_STATE);
	l2->exit.failure.code = 3;
	assert_true(vmx_nested_ops.exit(&n->base));
	assert_int_equal(must_read(VMCS_EXIT_REASON), REASON_ENTRY_FAILED | 33);
	assert_int_equal(must_read(VMCS_EXIT_QUALIFICATION), 3);
	launch();                        /* it counts as not launched */
	l2_exits(0, EXIT_INVALID_STATE); /* of the controls: our own fault */
	assert_false(vmx_nested_ops.exit(&n->base));
	close_world();
}

/* A 32-bit L1 with paging by PAE. */
static void test_narrow_l1(void **state)
{
	open_world();
	l1->efer = 0;
	hv_changed(l1, REGS_CONTROL);
	vmcs[VMCS_GUEST_CS_RIGHTS] = 0xc09b;
	switch_on();
	write_plain();
	must_write(VMCS_TSC_OFFSET, UINT64_C(0x1122334455));
	assert_int_equal(must_read(VMCS_TSC_OFFSET), 0x22334455); /* the lower half, each way */
	must_write(VMCS_EXIT_CONTROLS, EXIT_LEAST & ~EXITC_HOST_64);
	must_write(VMCS_HOST_RIP, 0x1000);
	must_write(VMCS_ENTRY_CONTROLS, ENTRY_LEAST);
	assert_flags(execute(REASON_VMLAUNCH, 0), RFLAGS_ZF); /* no 64-bit guest of such an L1 */
	assert_int_equal(must_read(VMCS_INSTRUCTION_ERROR), 8);
	must_write(VMCS_ENTRY_CONTROLS, ENTRY_LEAST & ~ENTRYC_IA32E);
	must_write(VMCS_GUEST_CS_RIGHTS, 0xc09b);
	must_write(VMCS_LINK_POINTER + 1, UINT32_MAX);
	must_write(VMCS_LINK_POINTER, UINT32_MAX);
	must_write(VMCS_LINK_POINTER + 1, UINT32_MAX);
	l1_memory[0x11000] = 1;
	l1_memory[0x11001] = 0x30;
	launch();
	leave_l2();
	assert_int_equal(l1->pdpte[0], 0x3001);
	assert_int_equal(vmcs_of[0][VMCS_GUEST_CS_RIGHTS], 0xc09b);
	assert_int_equal(l1->efer & EFER_LMA, 0);
	close_world();
}

static void test_offer(void **state)
{
	uint64_t value;

	open_world();
	assert_int_equal(vmx_nested_ops.msr(&n->base, MSR_FEATURE_CONTROL, false, &value), OK);
	assert_int_equal(value, 5);
	assert_int_equal(vmx_nested_ops.msr(&n->base, MSR_FEATURE_CONTROL, true, &value), DENIED);
	assert_int_equal(vmx_nested_ops.msr(&n->base, 0x10, false, &value), NOT_FOUND);
	assert_int_equal(vmx_nested_ops.msr(&n->base, 0x491, false, &value), NOT_FOUND);
	for (uint32_t i = MSR_VMX_BASIC; i <= MSR_VMX_TRUE_ENTRY; i++) {
		assert_int_equal(vmx_nested_ops.msr(&n->base, i, false, &value), OK);
		assert_int_equal(vmx_nested_ops.msr(&n->base, i, true, &value), DENIED);
		if ((i >= MSR_VMX_PIN && i <= MSR_VMX_ENTRY) || i >= MSR_VMX_TRUE_PIN || i == MSR_VMX_SECONDARY)
			assert_int_equal((uint32_t)value & ~(value >> 32), 0); /* what must be 1 may be */
	}
	assert_int_equal(vmx_offered(&n->offer, MSR_VMX_SECONDARY) >> 32 & (SECONDARY_PML | SECONDARY_WBINVD), 0);
	assert_true(vmx_offered(&n->offer, MSR_VMX_EPT_VPID) & EPT_ACCESSED_DIRTY);
	assert_false(vmx_offered(&n->offer, MSR_VMX_EPT_VPID) & EPT_EXECUTE_ONLY);
	assert_int_equal(format_of(n)->invalid_rights & 1u << 4, 1u << 4);
	close_world();
}

/* Any VMCS12: it is refused, or runs; VMCS02 never gets what isn't Quire's to give. */
static void test_random_entries(void **state)
{
	uint64_t random = 88172645463325252u;
	unsigned entered = 0, failed_entries = 0, refused = 0;
	uint8_t good[PAGE_SIZE];

	open_world();
	switch_on();
	write_plain();
	assert_flags(with_pointer(REASON_VMCLEAR, REGION_A), 0);
	memcpy(good, l1_memory + REGION_A, PAGE_SIZE);
	for (unsigned round = 0; round < 20000; round++) {
		assert_flags(with_pointer(REASON_VMCLEAR, REGION_A), 0);
		memcpy(l1_memory + REGION_A, good, PAGE_SIZE);
		assert_flags(with_pointer(REASON_VMPTRLD, REGION_A), 0);
		for (unsigned i = 0; i < 1 + round % 3; i++) {
			enum vmcs_field field;
			bool high;
			unsigned slot;

			random ^= random << 13;
			random ^= random >> 7;
			random ^= random << 17;
			field = vmcs12_encoding(random % VMCS12_SLOTS);
			if (vmcs12_find(field, &slot, &high) && !vmcs12_read_only(slot))
				must_write(field,
					   round & 8 ? must_read(field) ^ BIT(random >> 58) : random >> (random >> 58));
		}
		if (execute(REASON_VMLAUNCH, 0) == NESTED_DONE) {
			refused++;
			continue;
		}
		if (!n->base.in_l2) {
			failed_entries++;
			continue;
		}
		entered++;
		vmx_write_back(l2v);
		assert_true(vmcs[VMCS_SECONDARY_CONTROLS] & SECONDARY_EPT);
		assert_true(vmcs[VMCS_SECONDARY_CONTROLS] & SECONDARY_UNRESTRICTED);
		assert_int_equal(vmcs[VMCS_SECONDARY_CONTROLS] &
					 ~(uint64_t)(vmx_capability.secondary | vmx_capability.may_secondary),
				 0);
		assert_int_equal(~l2v->primary & (PRIMARY_MSR_BITMAP | PRIMARY_UNCONDITIONAL_IO | PRIMARY_SECONDARY),
				 0);
		assert_int_equal(vmcs[VMCS_EXCEPTION_BITMAP] & VMX_EXCEPTIONS, VMX_EXCEPTIONS);
		assert_int_equal(vmcs[VMCS_CR0_MASK] & vmx_cr0_mask(), vmx_cr0_mask());
		assert_int_equal(vmcs[VMCS_GUEST_CR4] & (CR4_MCE | CR4_VMXE), CR4_MCE | CR4_VMXE);
		assert_int_equal(vmcs[VMCS_EPT_POINTER], 0);
		assert_int_equal(vmcs[VMCS_HOST_RIP], 0);
		for (unsigned i = 0; i < PAGE_SIZE; i++) /* this L1 passes nothing */
			assert_int_equal(((uint8_t *)direct_pointer(l2v->msr_bitmap))[i], 0xff);
		leave_l2();
	}
	assert_true(entered > 500 && failed_entries > 500 && refused > 500);
	close_world();
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_outside_vmx_operation),
		cmocka_unit_test(test_regions),
		cmocka_unit_test(test_vmcs_lives_in_memory),
		cmocka_unit_test(test_mirror),
		cmocka_unit_test(test_lazy_registers),
		cmocka_unit_test(test_no_memory_changes_nothing),
		cmocka_unit_test(test_fields),
		cmocka_unit_test(test_fields_are_apart),
		cmocka_unit_test(test_operands),
		cmocka_unit_test(test_invalidation),
		cmocka_unit_test(test_round_trip),
		cmocka_unit_test(test_kept_fields),
		cmocka_unit_test(test_launch_state),
		cmocka_unit_test(test_checks),
		cmocka_unit_test(test_controls_come_together),
		cmocka_unit_test(test_scaled_clock),
		cmocka_unit_test(test_msr_bitmaps),
		cmocka_unit_test(test_wants),
		cmocka_unit_test(test_exceptions),
		cmocka_unit_test(test_io_bitmaps),
		cmocka_unit_test(test_control_registers),
		cmocka_unit_test(test_tpr_shadow),
		cmocka_unit_test(test_pending),
		cmocka_unit_test(test_halted),
		cmocka_unit_test(test_waiting_for_startup),
		cmocka_unit_test(test_timer),
		cmocka_unit_test(test_slat_faults),
		cmocka_unit_test(test_msr_lists),
		cmocka_unit_test(test_attack12_changes_under_an_entry),
		cmocka_unit_test(test_processor_refuses),
		cmocka_unit_test(test_narrow_l1),
		cmocka_unit_test(test_offer),
		cmocka_unit_test(test_random_entries),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
