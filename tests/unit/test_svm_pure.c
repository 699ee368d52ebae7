/* SPDX-License-Identifier: Apache-2.0 */
// sources: svm/state.c svm/event.c svm/exit.c svm/msr_map.c svm/explain.c
/*
 * The parts of the SVM room that only compute: attributes, register groups, events, exits, the MSR map, ASIDs and the
 * explanation of a refused VMCB. The VMCB's layout is proven at compile time.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "arch/x86_64/registers.h"
#include "svm/codes.h"
#include "svm/svm.h"

static struct vmcb vmcb;
static struct hv_exit out;
static const struct svm_features plain = { .asid_count = 16 };
static const struct svm_features rich = { .next_rip = true, .decode_assists = true, .asid_count = 16 };

static void exit_with(const struct svm_features *features, uint64_t code, uint64_t info1, uint64_t info2)
{
	memset(&out, 0xee, sizeof(out));
	vmcb.control.exit_code = code;
	vmcb.control.exit_info1 = info1;
	vmcb.control.exit_info2 = info2;
	svm_decode_exit(&vmcb, features, &out);
	assert_true(out.raw_reason == code);
}

static int clear(void **state)
{
	memset(&vmcb, 0, sizeof(vmcb));
	vmcb.save.rip = 0x1000;
	return 0;
}

static void attributes_convert_both_ways(void **state)
{
	/* 64-bit code: type B, S, P, L, G. */
	assert_int_equal(svm_attributes_to_vmcb(0xa09b), 0xa9b);
	assert_int_equal(svm_attributes_to_vmcb(0xc093), 0xc93);
	assert_int_equal(svm_attributes_from_vmcb(0xa9b), 0xa09b);
	for (unsigned i = 0; i < 0x1000; i++)
		assert_int_equal(svm_attributes_to_vmcb(svm_attributes_from_vmcb((uint16_t)i)), i);
	/* What is no attribute in either form disappears. */
	assert_int_equal(svm_attributes_to_vmcb(0x0f00), 0);
	assert_int_equal(svm_attributes_from_vmcb(0xf000), 0);
}

/* What is taken for plain, each case one step away from the plain one. */
static void plain_code(void **state)
{
	const struct vmcb_segment flat = { .limit = HV_FLAT_LIMIT, .attributes = 0xc9b };
	const struct vmcb_save start = { .cr0 = CR0_PE,
					 .cs = flat,
					 .ds = { .limit = HV_FLAT_LIMIT, .attributes = 0xc93 } };
	struct vmcb_save save = start;

#define CODE_WITH(change, code)                                                                                        \
	do {                                                                                                           \
		save = start;                                                                                          \
		change;                                                                                                \
		assert_int_equal(svm_code_of(&save), code);                                                            \
	} while (0)
	CODE_WITH(, HV_CODE_FLAT);
	CODE_WITH(save.cr0 |= CR0_PG, HV_CODE_FLAT | HV_CODE_PAGED);
	CODE_WITH(save.cr0 = 0, 0);
	CODE_WITH((save.cr0 |= CR0_PG, save.efer = EFER_LMA), HV_CODE_FLAT | HV_CODE_PAGED);
	CODE_WITH((save.cr0 |= CR0_PG, save.efer = EFER_LMA, save.cs.attributes = 0xa9b), HV_CODE_64 | HV_CODE_PAGED);
	CODE_WITH(save.cs.attributes = 0x89b, 0);
	CODE_WITH(save.cs.base = 16, 0);
	CODE_WITH(save.cs.limit = 0xfffff, 0);
	CODE_WITH(save.ds.base = 16, 0);
	CODE_WITH(save.ds.limit = 0xfffff, 0);
	CODE_WITH(save.ds.attributes = 0xc91, 0);
	CODE_WITH(save.ds.attributes = 0xc97, 0);
	CODE_WITH(save.ds.attributes = 0xc13, 0);
#undef CODE_WITH
}

static void groups_survive_the_vmcb(void **state)
{
	static struct hv_vcpu before, after;

	svm_power_on_state(&before);
	before.rflags = 0x246;
	before.gpr[GPR_RSP] = 0x1234;
	before.cr0 = 0x80000011;
	before.cr3 = 0x5000;
	before.cr4 = 0x20;
	before.efer = EFER_LME | EFER_LMA | EFER_NXE;
	before.segment[SEG_SS].attributes = 0xc0f3;
	for (unsigned i = 0; i < SEG_COUNT; i++) {
		before.segment[i].base = 0x10000 * (i + 1);
		before.segment[i].selector = (uint16_t)(8 * i);
	}
	before.gdtr = (struct table_register){ .base = 0x777000, .limit = 0x7f };
	before.sysenter_eip = 0xabc;
	before.kernel_gs_base = UINT64_C(0xffff800000000000);
	before.interrupt_shadow = true;
	vmcb.control.clean = CLEAN_ALL;
	svm_store_groups(&before, &vmcb, REGS_ALL);
	assert_int_equal(vmcb.control.clean,
			 CLEAN_ALL & ~(CLEAN_CONTROL | CLEAN_SEGMENTS | CLEAN_TABLES | CLEAN_DEBUG | CLEAN_NESTED));
	assert_true(vmcb.save.efer & EFER_SVME);
	assert_int_equal(vmcb.save.cpl, 3);
	assert_int_equal(vmcb.save.ldtr.selector, 8 * SEG_LDTR);
	assert_int_equal(vmcb.save.tr.selector, 8 * SEG_TR);

	svm_fetch_groups(&after, &vmcb, REGS_ALL);
	assert_true(after.rflags == before.rflags && after.gpr[GPR_RSP] == 0x1234);
	assert_true(after.cr0 == before.cr0 && after.cr3 == before.cr3 && after.cr4 == before.cr4);
	assert_true(after.efer == before.efer);
	for (unsigned i = 0; i < SEG_COUNT; i++) {
		assert_true(after.segment[i].base == before.segment[i].base);
		assert_int_equal(after.segment[i].limit, before.segment[i].limit);
		assert_int_equal(after.segment[i].selector, before.segment[i].selector);
		assert_int_equal(after.segment[i].attributes, before.segment[i].attributes);
	}
	assert_true(after.gdtr.base == 0x777000 && after.gdtr.limit == 0x7f && after.idtr.limit == 0xffff);
	assert_true(after.dr[6] == before.dr[6] && after.dr[7] == before.dr[7] && after.pat == before.pat);
	assert_true(after.sysenter_eip == 0xabc && after.kernel_gs_base == before.kernel_gs_base);
	assert_true(after.interrupt_shadow);
}

static void only_the_asked_group_moves(void **state)
{
	static struct hv_vcpu vcpu;

	memset(&vcpu, 0, sizeof(vcpu));
	vmcb.save.rflags = 2;
	vmcb.save.cr3 = 0x9000;
	vmcb.save.cpl = 3;
	vmcb.save.ss.attributes = 0xc93;
	svm_fetch_groups(&vcpu, &vmcb, REGS_RFLAGS);
	assert_true(vcpu.rflags == 2 && vcpu.cr3 == 0);
	svm_fetch_groups(&vcpu, &vmcb, REGS_SEGMENTS);
	assert_int_equal(SEG_ATTR_DPL(vcpu.segment[SEG_SS].attributes), 3); /* CPL rules */
	vmcb.control.clean = CLEAN_ALL;
	svm_store_groups(&vcpu, &vmcb, REGS_RFLAGS | REGS_RSP);
	assert_int_equal(vmcb.control.clean, CLEAN_ALL);
	assert_true(vmcb.save.cr3 == 0x9000);
}

static void events_encode(void **state)
{
	struct hv_event e = { .kind = EVENT_INTERRUPT, .vector = 0x30 };

	assert_true(svm_event_encode(&e) == 0x80000030);
	e = (struct hv_event){ .kind = EVENT_NMI };
	assert_true(svm_event_encode(&e) == 0x80000202);
	e = (struct hv_event){ .kind = EVENT_EXCEPTION, .vector = 14, .has_error_code = true, .error_code = 7 };
	assert_true(svm_event_encode(&e) == UINT64_C(0x780000b0e));
	e = (struct hv_event){ .kind = EVENT_EXCEPTION, .vector = 6, .error_code = 7 };
	assert_true(svm_event_encode(&e) == 0x80000306);
	e = (struct hv_event){ .kind = EVENT_SOFT_INTERRUPT, .vector = 0x80, .length = 2 };
	assert_true(svm_event_encode(&e) == 0x80000480);
	e = (struct hv_event){ .kind = EVENT_EXCEPTION, .vector = 31 };
	assert_non_null(svm_event_refused(&e));
	e.vector = 2;
	assert_non_null(svm_event_refused(&e));
	e.vector = 18;
	assert_null(svm_event_refused(&e));
	e = (struct hv_event){ .kind = EVENT_INTERRUPT, .vector = 31 };
	assert_null(svm_event_refused(&e));
	e.kind = 77;
	assert_non_null(svm_event_refused(&e));
}

static void events_decode(void **state)
{
	struct hv_event e;
	bool soft;

	svm_event_decode(0x7fffffff, &e, &soft); /* not valid, whatever else is there */
	assert_int_equal(e.kind, EVENT_NONE);
	svm_event_decode(UINT64_C(0x580000b0d), &e, &soft);
	assert_true(e.kind == EVENT_EXCEPTION && e.vector == 13 && e.has_error_code && e.error_code == 5 && !soft);
	svm_event_decode(0x80000303, &e, &soft);
	assert_true(e.kind == EVENT_EXCEPTION && e.vector == 3 && soft);
	svm_event_decode(0x80000403, &e, &soft); /* QEMU's INT3 */
	assert_true(e.kind == EVENT_SOFT_INTERRUPT && e.vector == 3 && soft);
	svm_event_decode(0x800003ec, &e, &soft); /* QEMU's virtual interrupt */
	assert_true(e.kind == EVENT_INTERRUPT && e.vector == 0xec && !e.has_error_code && !soft);
	svm_event_decode(0x80000202, &e, &soft);
	assert_true(e.kind == EVENT_NMI && !soft);
	svm_event_decode(0x80000102, &e, &soft); /* a reserved type */
	assert_int_equal(e.kind, EVENT_NONE);
}

static void exits_of_instructions(void **state)
{
	vmcb.control.next_rip = 0x1002;
	exit_with(&plain, SVM_EXIT_CPUID, 0, 0);
	assert_true(out.kind == EXIT_CPUID && out.length == 0 && out.byte_count == 0);
	exit_with(&rich, SVM_EXIT_CPUID, 0, 0);
	assert_true(out.kind == EXIT_CPUID && out.length == 2);
	vmcb.control.next_rip = 0x1010; /* 16 bytes: impossible */
	exit_with(&rich, SVM_EXIT_HLT, 0, 0);
	assert_true(out.kind == EXIT_HLT && out.length == 0);
	vmcb.control.next_rip = 0;
	exit_with(&rich, SVM_EXIT_MSR, 0, 0);
	assert_true(out.kind == EXIT_MSR_READ && out.length == 0);
	exit_with(&rich, SVM_EXIT_MSR, 1, 0);
	assert_int_equal(out.kind, EXIT_MSR_WRITE);
	exit_with(&rich, SVM_EXIT_INVD, 0, 0);
	assert_int_equal(out.kind, EXIT_CACHE);
	exit_with(&rich, SVM_EXIT_SKINIT, 0, 0);
	assert_int_equal(out.kind, EXIT_NESTED);
	/* No counter that CPUID tells of: each number is out of range, which is #GP(0), as under VMX. */
	exit_with(&rich, SVM_EXIT_RDPMC, 0, 0);
	assert_true(out.kind == EXIT_EXCEPTION && out.exception.vector == 13 && out.exception.has_error_code);
	assert_true(out.exception.error_code == 0 && out.exception.detail == 0 && out.length == 0);
	exit_with(&rich, SVM_EXIT_VMMCALL, 0, 0);
	assert_int_equal(out.kind, EXIT_HYPERCALL);
}

static void exits_of_io(void **state)
{
	exit_with(&plain, SVM_EXIT_IOIO, 0x03f80011, 0x1001); /* in al, dx */
	assert_true(out.kind == EXIT_IO && out.io.port == 0x3f8 && out.io.size == 1 && out.io.in);
	assert_true(!out.io.string && !out.io.rep && out.length == 1);
	exit_with(&plain, SVM_EXIT_IOIO, 0xffff004c, 0x1002); /* rep outsd */
	assert_true(out.io.port == 0xffff && out.io.size == 4 && !out.io.in && out.io.string && out.io.rep);
	exit_with(&plain, SVM_EXIT_IOIO, 0x00800020, 0);
	assert_true(out.io.size == 2 && out.length == 0);
}

static void exits_of_control_registers(void **state)
{
	exit_with(&plain, SVM_EXIT_CR_WRITE + 8, CR_INFO_MOV | 3, 0);
	assert_true(out.kind == EXIT_CR_ACCESS && out.cr.number == 8 && out.cr.write && !out.cr.decoded);
	exit_with(&rich, SVM_EXIT_CR_READ + 8, CR_INFO_MOV | 11, 0);
	assert_true(out.cr.number == 8 && !out.cr.write && out.cr.decoded && out.cr.gpr == 11);
	exit_with(&rich, SVM_EXIT_CR_WRITE, 0, 0); /* LMSW: not described */
	assert_true(out.cr.number == 0 && out.cr.write && !out.cr.decoded && !out.cr.lmsw && !out.cr.clts);
	exit_with(&rich, SVM_EXIT_DR_WRITE + 7, 2, 0);
	assert_true(out.kind == EXIT_DR_ACCESS && out.dr.number == 7 && out.dr.write);
	assert_true(out.dr.decoded && out.dr.gpr == 2);
	exit_with(&plain, SVM_EXIT_DR_READ + 6, 2, 0);
	assert_true(out.dr.number == 6 && !out.dr.write && !out.dr.decoded);
}

static void exits_of_nested_faults(void **state)
{
	exit_with(&plain, SVM_EXIT_NPF, 0x100000004, 0xfee00020);
	assert_true(out.kind == EXIT_SLAT_FAULT && out.slat.gpa.v == 0xfee00020 && out.slat.access == ACCESS_READ);
	assert_true(out.slat.rights == 0 && !out.slat.guest_table && !out.slat.gva_valid && out.byte_count == 0);
	exit_with(&plain, SVM_EXIT_NPF, 0x200000007, 0x5000);
	assert_true(out.slat.guest_table && out.slat.access == ACCESS_WRITE);
	assert_int_equal(out.slat.rights, ACCESS_READ | ACCESS_EXECUTE);
	exit_with(&plain, SVM_EXIT_NPF, 0x100000015, 0x5000);
	assert_int_equal(out.slat.access, ACCESS_EXECUTE);
	assert_int_equal(out.slat.rights, ACCESS_READ | ACCESS_WRITE);
	exit_with(&plain, SVM_EXIT_NPF, 0x10000000e, 0x5000); /* reserved, P clear as on QEMU */
	assert_int_equal(out.kind, EXIT_SLAT_MISCONFIG);

	vmcb.control.fetched_count = 15;
	memset(vmcb.control.fetched, 0x90, 15);
	exit_with(&rich, SVM_EXIT_NPF, 0x100000004, 0x5000);
	assert_true(out.byte_count == 15 && out.bytes[0] == 0x90 && out.bytes[14] == 0x90);
	vmcb.control.fetched_count = 200;
	exit_with(&rich, SVM_EXIT_NPF, 0x100000004, 0x5000);
	assert_int_equal(out.byte_count, 0);
}

static void exits_of_exceptions(void **state)
{
	vmcb.save.dr6 = 0xffff4ff0;
	exit_with(&plain, SVM_EXIT_EXCEPTION + VECTOR_DB, 99, 98);
	assert_true(out.kind == EXIT_EXCEPTION && out.exception.vector == 1 && !out.exception.has_error_code);
	assert_true(out.exception.detail == 0xffff4ff0 && out.exception.error_code == 0);
	exit_with(&plain, SVM_EXIT_EXCEPTION + VECTOR_PF, 6, 0xabcd);
	assert_true(out.exception.has_error_code && out.exception.error_code == 6 && out.exception.detail == 0xabcd);
	exit_with(&plain, SVM_EXIT_EXCEPTION + VECTOR_AC, 0, 0);
	assert_true(out.exception.vector == 17 && out.exception.has_error_code);
}

/* APM vol. 2 section 15.14.1: the selector, and what asks for it; a task gate's event is being delivered. */
static void exits_of_task_switches(void **state)
{
	static const struct {
		uint64_t info2, interrupted;
		enum task_source source;
	} rows[] = {
		{ BIT(36), 0, TASK_IRET },
		{ BIT(38), 0, TASK_JMP },
		{ 0, 0, TASK_CALL },
		{ 0, 0x80000020, TASK_GATE },
		{ BIT(44) | 5, UINT64_C(0x580000b0d), TASK_GATE },
	};

	for (unsigned i = 0; i < ARRAY_SIZE(rows); i++) {
		vmcb.control.exit_interrupt_info = rows[i].interrupted;
		exit_with(&plain, SVM_EXIT_TASK_SWITCH, 0xabcd0030, rows[i].info2);
		assert_true(out.kind == EXIT_TASK_SWITCH && out.task.selector == 0x30 && out.length == 0);
		assert_int_equal(out.task.source, rows[i].source);
	}
}

static void exits_of_the_rest(void **state)
{
	static const struct {
		uint64_t code;
		enum hv_exit_kind kind;
	} rows[] = {
		{ SVM_EXIT_INTR, EXIT_HOST_INTERRUPT },
		{ SVM_EXIT_NMI, EXIT_HOST_INTERRUPT },
		{ SVM_EXIT_VINTR, EXIT_INTERRUPT_WINDOW },
		{ SVM_EXIT_SHUTDOWN, EXIT_TRIPLE_FAULT },
		{ SVM_EXIT_CR0_SELECTIVE, EXIT_CR_ACCESS },
		{ 0x66, EXIT_UNKNOWN },
		{ 0x8f, EXIT_UNKNOWN },
		{ SVM_EXIT_LOW_END, EXIT_UNKNOWN },
		{ 0x401, EXIT_UNKNOWN },
		{ UINT64_MAX - 1, EXIT_UNKNOWN },
	};

	for (unsigned i = 0; i < ARRAY_SIZE(rows); i++) {
		exit_with(&rich, rows[i].code, 0, 0);
		assert_int_equal(out.kind, rows[i].kind);
		assert_int_equal(out.length, 0);
	}
	for (uint64_t code = 0; code < 0x500; code++) {
		exit_with(&rich, code, ~UINT64_C(0), ~UINT64_C(0));
		assert_true(out.kind < EXIT_KIND_COUNT && out.length <= 15 && out.byte_count <= 15);
	}
}

static void msr_map_bits(void **state)
{
	static uint8_t map[MSR_MAP_SIZE];

	memset(map, 0xff, sizeof(map));
	assert_true(svm_msr_map_set(map, MSR_STAR, false, false));
	assert_int_equal(map[0x800 + 0x81 / 4], 0xf3); /* APM: second range, two bits each */
	assert_true(svm_msr_map_set(map, MSR_SYSENTER_CS, true, false));
	assert_int_equal(map[0x174 / 4], 0xfd);
	assert_true(svm_msr_map_set(map, 0xc0011fff, false, true));
	assert_int_equal(map[0x17ff], 0xbf);
	assert_true(svm_msr_map_set(map, 0xc0011fff, true, true));
	assert_int_equal(map[0x17ff], 0xff);
	assert_false(svm_msr_map_set(map, 0x2000, false, false));
	assert_false(svm_msr_map_set(map, 0xc0012000, false, false));
	assert_false(svm_msr_map_set(map, 0xffffffff, false, false));
	for (unsigned i = 0x1800; i < MSR_MAP_SIZE; i++)
		assert_int_equal(map[i], 0xff);
	assert_true(svm_msr_passable(MSR_FS_BASE, true) && svm_msr_passable(MSR_KERNEL_GS_BASE, true));
	assert_false(svm_msr_passable(MSR_EFER, false) || svm_msr_passable(MSR_PAT, false) ||
		     svm_msr_passable(MSR_APIC_BASE, false));
}

static void asids_never_repeat_without_a_flush(void **state)
{
	struct asid_space one = { 0 }, two = { 0 };
	struct asid held[40], other = { 0 };
	uint64_t used = 0;
	unsigned flushes = 0;

	asid_open(&one, 0, 16);
	asid_open(&two, 1, 16);
	assert_false(asid_valid(&one, &other)); /* nothing was taken yet, not even on CPU 0 */
	assert_false(asid_valid(&two, &other));
	for (unsigned i = 0; i < 40; i++) {
		if (asid_take(&one, &held[i])) {
			used = 0;
			flushes++;
		}
		assert_true(held[i].number >= 1 && held[i].number < 16);
		assert_false(used & BIT(held[i].number));
		used |= BIT(held[i].number);
		assert_true(asid_valid(&one, &held[i]));
	}
	assert_int_equal(flushes, 3);              /* the first one, and after each 15 */
	assert_false(asid_valid(&one, &held[29])); /* of the generation before */
	assert_true(asid_take(&two, &other));
	assert_false(asid_valid(&one, &other));
	for (unsigned i = 0; i < 40; i++)
		assert_false(asid_valid(&two, &held[i]));

	asid_open(&one, 0, 2); /* off and on again; a single guest ASID: every taking flushes */
	for (unsigned i = 0; i < 40; i++)
		assert_false(asid_valid(&one, &held[i]));
	assert_true(asid_take(&one, &other) && other.number == 1);
	assert_true(asid_take(&one, &other) && other.number == 1);
}

static void refusals_are_explained(void **state)
{
	static const struct svm_limits limits = { BITS(31, 0), ~UINT64_C(0), 16, 52 };
	static struct hv_vcpu vcpu;

	svm_power_on_state(&vcpu);
	svm_store_groups(&vcpu, &vmcb, REGS_ALL);
	vmcb.control.intercept[1] = INTERCEPT2_VMRUN;
	vmcb.control.asid = 1;
	vmcb.control.nested_cr3 = 0x1000;
	vmcb.control.nested_control = NESTED_PAGING;
	assert_null(svm_explain_refusal(&vmcb, &limits, true));
	vmcb.save.cr4 = BIT(40);
	assert_non_null(strstr(svm_explain_refusal(&vmcb, &limits, true), "CR4"));
	assert_null(svm_explain_refusal(&vmcb, &limits, false));
	vmcb.control.asid = 16;
	assert_non_null(strstr(svm_explain_refusal(&vmcb, &limits, false), "ASID"));
	vmcb.control.asid = 1;
	vmcb.control.event_inject = 0x80000302;
	assert_non_null(strstr(svm_explain_refusal(&vmcb, &limits, false), "event"));
	vmcb.control.nested_cr3 = HPA_NONE.v;
	assert_non_null(strstr(svm_explain_refusal(&vmcb, &limits, false), "root"));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup(attributes_convert_both_ways, clear),
		cmocka_unit_test_setup(plain_code, clear),
		cmocka_unit_test_setup(groups_survive_the_vmcb, clear),
		cmocka_unit_test_setup(only_the_asked_group_moves, clear),
		cmocka_unit_test_setup(events_encode, clear),
		cmocka_unit_test_setup(events_decode, clear),
		cmocka_unit_test_setup(exits_of_instructions, clear),
		cmocka_unit_test_setup(exits_of_io, clear),
		cmocka_unit_test_setup(exits_of_control_registers, clear),
		cmocka_unit_test_setup(exits_of_nested_faults, clear),
		cmocka_unit_test_setup(exits_of_exceptions, clear),
		cmocka_unit_test_setup(exits_of_task_switches, clear),
		cmocka_unit_test_setup(exits_of_the_rest, clear),
		cmocka_unit_test_setup(msr_map_bits, clear),
		cmocka_unit_test_setup(asids_never_repeat_without_a_flush, clear),
		cmocka_unit_test_setup(refusals_are_explained, clear),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
