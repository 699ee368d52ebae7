/* SPDX-License-Identifier: Apache-2.0 */
// sources: svm/run.c svm/special.c svm/shadow.c svm/spec_ctrl.c svm/vcpu.c svm/state.c svm/event.c svm/exit.c svm/msr_map.c svm/explain.c svm/nested/*.c arch/x86_64/pt_format.c
/*
 * Nested SVM from VMRUN to #VMEXIT: what is loaded and stored, refused and reflected, over a processor that is played.
 */
#include "test_svm_nested_world.h"

static void vmrun_and_back(void **state)
{
	struct hv_vcpu *l2 = nested->l2;

	vcpu->gpr[GPR_RBX] = 0xb;
	vcpu->tsc_offset = 1000;
	vcpu->xcr0 = 7;
	vmcb12()->control.tsc_offset = 234;
	vmcb12()->save.cr2 = 0xc2;
	vmrun();
	assert_true(nested->in_l2 && nested->slat_changed && !nested->slat.on);
	script.rflags = 0x46;
	assert_true(l2_exits(SVM_EXIT_CPUID, 0, 0));
	/* As L2 was entered. */
	assert_true(seen.save.rip == 0x7000 && seen.save.rsp == 0x7ff0 && seen.save.rax == 0x1234);
	assert_true(seen.save.cr3 == 0x9000 && seen.save.cs.selector == 8 && seen.save.idtr.base == 0x6000);
	assert_true(seen.save.fs.base == 0xf5 && seen.save.lstar == 0x1157a2 && seen.save.cr2 == 0xc2);
	assert_true(seen.control.tsc_offset == 1234 && seen.control.nested_cr3 == 0x456000);
	assert_true(page_fault_address == 0xc2 && l2->xcr0 == 7 && l2->gpr[GPR_RBX] == 0xb);
	/* As L1 finds it. */
	assert_true(!nested->in_l2 && vmcb12()->control.exit_code == SVM_EXIT_CPUID);
	assert_true(vmcb12()->save.rflags == 0x46 && vmcb12()->save.rip == 0x7000);
	assert_true(vmcb12()->control.exit_interrupt_info == 0);
	assert_true(vcpu->rip == L1_RIP + 3 && vcpu->gpr[GPR_RAX] == VMCB12_AT && vcpu->cr2 == 0xc2);
	svm_ops.load(vcpu, REGS_ALL);
	assert_true(vcpu->cr3 == 0x1000 && vcpu->dr[7] == DR7_RESET && (vcpu->rflags & RFLAGS_IF));
	assert_true(vcpu->efer == (EFER_LME | EFER_LMA | EFER_SVME) && vcpu->segment[SEG_FS].base == 0xf5);
	assert_false(state_of_l1()->gif);
}

/* What VMRUN doesn't switch is L2's to change. */
static void shared_registers_come_back(void **state)
{
	vmrun();
	run_until(nested->l2, SVM_EXIT_HLT, 0);
	assert_false(svm_nested_ops.exit(nested));
	svm_ops.load(nested->l2, REGS_ALL);
	nested->l2->lstar = 0x2157a2;
	nested->l2->segment[SEG_GS].base = 0x65;
	nested->l2->dr[0] = 0xd0;
	nested->l2->dr[6] = 0xffff0ff1;
	nested->l2->xcr0 = 3;
	nested->l2->gpr[GPR_R15] = 15;
	hv_changed(nested->l2, REGS_ALL);
	assert_true(l2_exits(SVM_EXIT_CPUID, 0, 0));
	svm_ops.load(vcpu, REGS_ALL);
	assert_true(vcpu->lstar == 0x2157a2 && vcpu->segment[SEG_GS].base == 0x65);
	assert_true(vcpu->dr[0] == 0xd0 && vcpu->dr[6] == 0xffff0ff1 && vcpu->xcr0 == 3 && vcpu->gpr[GPR_R15] == 15);
	assert_true(vmcb12()->save.dr6 == 0xffff0ff1);
}

static void breakpoints_stay_where_they_are(void **state)
{
	vmrun();
	assert_true(l2_exits(SVM_EXIT_CPUID, 0, 0)); /* both levels have an ASID from now on */
	run_until(vcpu, SVM_EXIT_CPUID, 0);
	breakpoints[2] = 0x222;
	vmrun();
	assert_ptr_equal(svm_cpus[0].loaded, nested_l2(state_of_l1()));
	run_until(nested->l2, SVM_EXIT_HLT, 0);
	assert_int_equal(seen.control.clean, 0);
	svm_ops.load(nested->l2, REGS_DEBUG);
	assert_true(nested->l2->dr[2] == 0x222);
	breakpoints[2] = 0x333;
	nested->l2->valid = 0;
	assert_true(l2_exits(SVM_EXIT_CPUID, 0, 0));
	svm_ops.load(vcpu, REGS_DEBUG);
	assert_true(vcpu->dr[2] == 0x333);
	vcpu->valid = 0;
	breakpoints[2] = 0x444;
	svm_quirks.breakpoints_leak = true; /* by hand: they are copied */
	vmcb12()->save.dr7 = 0x403;
	vmrun();
	run_until(nested->l2, SVM_EXIT_HLT, 0);
	assert_true(breakpoints[2] == 0x444 && entered_with == 0x403);
	/* By hand, too, where neither has any switched on. */
	assert_true(l2_exits(SVM_EXIT_CPUID, 0, 0));
	run_until(vcpu, SVM_EXIT_CPUID, 0);
	assert_true(entered_with == DR7_RESET);
	breakpoints[2] = 0x555;
	vmcb12()->save.dr7 = DR7_RESET;
	vmrun();
	assert_ptr_equal(svm_cpus[0].loaded, nested_l2(state_of_l1()));
	run_until(nested->l2, SVM_EXIT_HLT, 0);
	assert_true(breakpoints[2] == 0x555 && entered_with == DR7_RESET);
}

static const struct {
	uint16_t at; /* in VMCB12 */
	uint64_t value;
} broken[] = {
	{ offsetof(struct vmcb, save.efer), EFER_LME },
	{ offsetof(struct vmcb, save.efer), EFER_SVME | BIT(9) },
	{ offsetof(struct vmcb, save.cr0), CR0_PE | CR0_NW },
	{ offsetof(struct vmcb, save.cr0), CR0_PE | BIT(32) },
	{ offsetof(struct vmcb, save.cr0), CR0_PG },
	{ offsetof(struct vmcb, save.cr3), BIT(40) },
	{ offsetof(struct vmcb, save.cr4), CR4_PAE | CR4_SMEP },
	{ offsetof(struct vmcb, save.cr4), 0 },
	{ offsetof(struct vmcb, save.dr6), BIT(32) },
	{ offsetof(struct vmcb, save.dr7), BIT(63) },
	{ offsetof(struct vmcb, save.cs), UINT64_C(0xe9b) << 16 },
	{ offsetof(struct vmcb, control.intercept[1]), 0 },
	{ offsetof(struct vmcb, control.asid), 0 },
	{ offsetof(struct vmcb, control.asid), NESTED_ASIDS },
	{ offsetof(struct vmcb, control.asid), UINT64_C(2) << 32 | 1 }, /* TLB_CONTROL */
	{ offsetof(struct vmcb, control.iopm_base), BIT(40) - 0x2000 },
	{ offsetof(struct vmcb, control.msrpm_base), BIT(40) - 0x1000 },
	{ offsetof(struct vmcb, control.event_inject), 0x80000102 },
	{ offsetof(struct vmcb, control.event_inject), 0x80000302 },
	{ offsetof(struct vmcb, control.event_inject), 0x8000031f },
};

static void wrong_vmcbs_are_refused(void **state)
{
	static uint8_t before[4096];

	for (unsigned i = 0; i < ARRAY_SIZE(broken); i++) {
		memset(vmcb12(), 0, 4096);
		make_vmcb12();
		memcpy((uint8_t *)vmcb12() + broken[i].at, &broken[i].value, 8);
		memcpy(before, vmcb12(), 4096);
		vcpu->rip = L1_RIP;
		state_of_l1()->gif = true;
		vmrun();
		assert_true(!nested->in_l2 && !state_of_l1()->gif && vcpu->rip == L1_RIP + 3);
		assert_true(vmcb12()->control.exit_code == ~UINT64_C(0));
		vmcb12()->control.exit_code = 0;
		assert_memory_equal(before, vmcb12(), 4096);
	}
	/* Nested paging is looked at when it is on. */
	memset(vmcb12(), 0, 4096);
	make_vmcb12();
	vmcb12()->control.nested_cr3 = BIT(40);
	vmcb12()->save.pat = 2;
	vmrun();
	assert_true(nested->in_l2);
	svm_nested_ops.reset(nested);
	vmcb12()->control.nested_control = NESTED_PAGING;
	vmrun();
	assert_false(nested->in_l2);
	vmcb12()->control.nested_cr3 = 0;
	vmrun();
	assert_false(nested->in_l2);
	for (unsigned i = 0; i < 8 * 256; i++) {
		uint64_t type = i / 8;

		vmcb12()->save.pat = type << i % 8 * 8;
		vmrun();
		assert_int_equal(nested->in_l2, type < 8 && type != 2 && type != 3);
		svm_nested_ops.reset(nested);
	}
}

static void what_the_processor_refuses_is_l1s(void **state)
{
	vmrun();
	vmcb12()->save.rflags = 0x246;
	script.rflags = 0x9999;
	assert_true(l2_exits(SVM_EXIT_INVALID_LOW, 0, 0));
	assert_true(!nested->in_l2 && vmcb12()->control.exit_code == ~UINT64_C(0));
	assert_true(vmcb12()->save.rflags == 0x246 && vcpu->rip == L1_RIP + 3);
}

static void who_may(void **state)
{
	static const uint64_t codes[] = { SVM_EXIT_VMRUN, SVM_EXIT_VMLOAD, SVM_EXIT_VMSAVE,
					  SVM_EXIT_STGI,  SVM_EXIT_CLGI,   SVM_EXIT_INVLPGA };

	for (unsigned i = 0; i < ARRAY_SIZE(codes); i++) {
		make_l1();
		vcpu->segment[SEG_SS].attributes |= 0x60;
		assert_int_equal(l1_executes(codes[i], VMCB12_AT), NESTED_FAULT);
		assert_true(nested->fault.vector == VECTOR_GP && nested->fault.has_error_code);
		vcpu->efer &= ~EFER_SVME;
		hv_changed(vcpu, REGS_CONTROL);
		assert_int_equal(l1_executes(codes[i], VMCB12_AT), NESTED_FAULT);
		assert_true(nested->fault.vector == VECTOR_UD && !nested->fault.has_error_code);
		make_l1();
		vcpu->cr0 = CR0_ET;
		vcpu->efer = EFER_SVME;
		assert_int_equal(l1_executes(codes[i], VMCB12_AT), NESTED_FAULT);
		assert_int_equal(nested->fault.vector, VECTOR_UD);
	}
	make_l1();
	assert_int_equal(l1_executes(SVM_EXIT_SKINIT, 0), NESTED_FAULT);
	assert_int_equal(nested->fault.vector, VECTOR_UD);
	for (unsigned i = 0; i < 3; i++) {
		assert_int_equal(l1_executes(codes[i], VMCB12_AT + 8), NESTED_FAULT);
		assert_int_equal(nested->fault.vector, VECTOR_GP);
		assert_int_equal(l1_executes(codes[i], BIT(40)), NESTED_FAULT);
		assert_int_equal(l1_executes(codes[i], L1_MEMORY), NESTED_FAULT); /* no memory there */
		memory_status = NO_MEMORY;
		assert_int_equal(l1_executes(codes[i], VMCB12_AT), NESTED_AGAIN);
		memory_status = OK;
	}
	assert_true(vcpu->rip == L1_RIP && !nested->in_l2 && state_of_l1()->gif);
}

static void load_and_save(void **state)
{
	uint8_t *page = l1_memory + 0x5000;
	struct vmcb *v = (struct vmcb *)page;

	memset(page, 0x5a, 4096);
	assert_int_equal(l1_executes(SVM_EXIT_VMSAVE, 0x5000), NESTED_DONE);
	assert_true(v->save.fs.base == 0xf5 && v->save.lstar == 0x1157a2);
	for (unsigned i = 0; i < 4096; i++) {
		unsigned at = i - 0x400;
		bool saved = (at >= 0x40 && at < 0x60) || (at >= 0x70 && at < 0x80) || (at >= 0x90 && at < 0xa0) ||
			     (at >= 0x200 && at < 0x240);

		assert_true(saved || page[i] == 0x5a);
	}
	v->save.gs.base = 0x6565;
	v->save.tr.selector = 0x28;
	v->save.kernel_gs_base = 0x77;
	v->save.sysenter_eip = 0x88;
	v->save.cr3 = 0x99;
	assert_int_equal(l1_executes(SVM_EXIT_VMLOAD, 0x5000), NESTED_DONE);
	svm_ops.load(vcpu, REGS_ALL);
	assert_true(vcpu->segment[SEG_GS].base == 0x6565 && vcpu->segment[SEG_TR].selector == 0x28);
	assert_true(vcpu->kernel_gs_base == 0x77 && vcpu->sysenter_eip == 0x88 && vcpu->cr3 == 0x1000);
}

static void maps(void **state)
{
	l1_memory[MSR_MAP_AT + MSR_LSTAR % 0x2000 / 4 + 0x800] = 1u << (MSR_LSTAR % 4 * 2); /* reads */
	l1_memory[IO_MAP_AT + 0x80 / 8] = 1;
	l1_memory[IO_MAP_AT + 0x10000 / 8] = 1; /* behind the last port */
	svm_ops.pass_msr(vcpu, MSR_LSTAR, true, true);
	svm_ops.pass_msr(vcpu, MSR_STAR, true, true);
	vmrun();
	run_until(nested->l2, SVM_EXIT_HLT, 0);

	const uint8_t *map = direct_pointer(hpa(seen.control.msrpm_base));

	for (unsigned i = 0; i < 0x1800; i++)
		assert_int_equal(map[i], i == 0x820 ? 0xd3 : 0xff); /* all of STAR's pass, of LSTAR's the writes */
	assert_int_equal(seen.control.intercept[0] & INTERCEPT1_IOIO, INTERCEPT1_IOIO);

	static const struct {
		uint64_t code, info, msr;
		bool l1;
	} rows[] = {
		{ SVM_EXIT_MSR, 0, MSR_LSTAR, true },    { SVM_EXIT_MSR, 1, MSR_LSTAR, false },
		{ SVM_EXIT_MSR, 0, MSR_CSTAR, false },   { SVM_EXIT_MSR, 0, 0x2000, true },
		{ SVM_EXIT_IOIO, 0x00800010, 0, true },  { SVM_EXIT_IOIO, 0x00810010, 0, false },
		{ SVM_EXIT_IOIO, 0x007d0040, 0, true },  { SVM_EXIT_IOIO, 0x007c0041, 0, false },
		{ SVM_EXIT_IOIO, 0xffff0020, 0, true },  { SVM_EXIT_IOIO, 0xffff0010, 0, false },
		{ SVM_EXIT_IOIO, 0xfffc0040, 0, false },
	};

	for (unsigned i = 0; i < ARRAY_SIZE(rows); i++) {
		svm_nested_ops.reset(nested);
		vmrun();
		nested->l2->gpr[GPR_RCX] = rows[i].msr;
		assert_true(l2_exits(rows[i].code, rows[i].info, 0x7002) == rows[i].l1);
		assert_true(!rows[i].l1 ||
			    (vmcb12()->control.exit_info1 == rows[i].info && vmcb12()->control.exit_info2 == 0x7002));
	}
	/* A map where L1 has no memory asks for all; without the intercept nothing is asked for. */
	vmcb12()->control.iopm_base = vmcb12()->control.msrpm_base = 0x100000;
	svm_nested_ops.reset(nested);
	vmrun();
	assert_true(l2_exits(SVM_EXIT_IOIO, 0x00810010, 0));
	assert_int_equal(map[0x820], 0xff);
	vmcb12()->control.intercept[0] &= ~(uint32_t)(INTERCEPT1_IOIO | INTERCEPT1_MSR);
	vmrun();
	assert_false(l2_exits(SVM_EXIT_IOIO, 0x00800010, 0) || l2_exits(SVM_EXIT_MSR, 0, 0));
	assert_int_equal(map[0x820], 0xc3);
}

/* Each byte of VMCB12 counts as it was read, once: a good one is entered whatever it becomes, and a bad one isn't mended in time. */
static void attack12_vmcb_changes_under_vmrun(void **state)
{
	flips = true;
	vmrun();
	flips = false;
	memset(vmcb12(), 0xff, sizeof(*vmcb12()));
	assert_true(l2_exits(SVM_EXIT_CPUID, 0, 0));
	assert_true(seen.save.rip == 0x7000 && seen.save.rsp == 0x7ff0 && seen.save.cr3 == 0x9000);
	assert_true(seen.save.efer == (EFER_SVME | EFER_LME | EFER_LMA | EFER_NXE) && seen.save.cs.selector == 8);
	for (unsigned i = 0; i < ARRAY_SIZE(broken); i++) {
		memset(vmcb12(), 0, sizeof(*vmcb12()));
		make_vmcb12();
		memcpy((uint8_t *)vmcb12() + broken[i].at, &broken[i].value, 8);
		vcpu->rip = L1_RIP;
		state_of_l1()->gif = flips = true;
		vmrun();
		flips = false;
		assert_true(!nested->in_l2 && vmcb12()->control.exit_code == ~UINT64_C(0));
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(vmrun_and_back, begin, end),
		cmocka_unit_test_setup_teardown(shared_registers_come_back, begin, end),
		cmocka_unit_test_setup_teardown(breakpoints_stay_where_they_are, begin, end),
		cmocka_unit_test_setup_teardown(wrong_vmcbs_are_refused, begin, end),
		cmocka_unit_test_setup_teardown(attack12_vmcb_changes_under_vmrun, begin, end),
		cmocka_unit_test_setup_teardown(what_the_processor_refuses_is_l1s, begin, end),
		cmocka_unit_test_setup_teardown(who_may, begin, end),
		cmocka_unit_test_setup_teardown(load_and_save, begin, end),
		cmocka_unit_test_setup_teardown(maps, begin, end),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
