/* SPDX-License-Identifier: Apache-2.0 */
// sources: vmx/exit.c vmx/failure.c vmx/convert.c
/* Raw VMX exits in, neutral exits out: the qualification formats, interrupted events, failed entries. */
#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

#include "arch/x86_64/registers.h"
#include "vmx/exit.h"

static struct hv_exit decode(struct vmx_raw_exit raw)
{
	struct hv_exit exit;

	memset(&exit, 0xa5, sizeof(exit)); /* nothing may depend on what was there */
	vmx_exit_decode(&raw, &exit);
	return exit;
}

static void every_reason_has_its_kind(void **state)
{
	static const struct {
		uint32_t reason;
		enum hv_exit_kind kind;
	} table[] = {
		{ 1, EXIT_HOST_INTERRUPT },
		{ 2, EXIT_TRIPLE_FAULT },
		{ 3, EXIT_INIT },
		{ 4, EXIT_SIPI },
		{ 5, EXIT_UNKNOWN },
		{ 6, EXIT_UNKNOWN },
		{ 7, EXIT_INTERRUPT_WINDOW },
		{ 8, EXIT_NMI_WINDOW },
		{ 9, EXIT_TASK_SWITCH },
		{ 10, EXIT_CPUID },
		{ 11, EXIT_UNDEFINED },
		{ 12, EXIT_HLT },
		{ 13, EXIT_CACHE },
		{ 14, EXIT_INVLPG },
		{ 15, EXIT_NOTHING },
		{ 16, EXIT_RDTSC },
		{ 17, EXIT_UNDEFINED },
		{ 18, EXIT_HYPERCALL },
		{ 19, EXIT_NESTED },
		{ 20, EXIT_NESTED },
		{ 21, EXIT_NESTED },
		{ 22, EXIT_NESTED },
		{ 23, EXIT_NESTED },
		{ 24, EXIT_NESTED },
		{ 25, EXIT_NESTED },
		{ 26, EXIT_NESTED },
		{ 27, EXIT_NESTED },
		{ 28, EXIT_CR_ACCESS },
		{ 29, EXIT_DR_ACCESS },
		{ 30, EXIT_IO },
		{ 31, EXIT_MSR_READ },
		{ 32, EXIT_MSR_WRITE },
		{ 33, EXIT_UNKNOWN },
		{ 35, EXIT_UNKNOWN },
		{ 36, EXIT_UNDEFINED },
		{ 37, EXIT_UNKNOWN },
		{ 39, EXIT_UNDEFINED },
		{ 40, EXIT_PAUSE },
		{ 41, EXIT_UNKNOWN },
		{ 44, EXIT_UNKNOWN },
		{ 46, EXIT_UNDEFINED },
		{ 47, EXIT_UNDEFINED },
		{ 48, EXIT_SLAT_FAULT },
		{ 49, EXIT_SLAT_MISCONFIG },
		{ 50, EXIT_NESTED },
		{ 51, EXIT_RDTSCP },
		{ 52, EXIT_SLICE },
		{ 53, EXIT_NESTED },
		{ 54, EXIT_CACHE },
		{ 55, EXIT_XSETBV },
		{ 56, EXIT_UNKNOWN },
		{ 58, EXIT_UNDEFINED },
		{ 61, EXIT_UNDEFINED },
		{ 62, EXIT_DIRTY_FULL },
		{ 63, EXIT_UNDEFINED },
		{ 64, EXIT_UNDEFINED },
		{ 65, EXIT_UNKNOWN },
		{ 0xffff, EXIT_UNKNOWN },
	};

	for (unsigned i = 0; i < ARRAY_SIZE(table); i++) {
		struct hv_exit exit = decode((struct vmx_raw_exit){ .reason = table[i].reason, .length = 3 });

		assert_int_equal(exit.kind, table[i].kind);
		assert_int_equal(exit.raw_reason, table[i].reason);
		assert_int_equal(exit.interrupted.kind, EVENT_NONE);
		assert_int_equal(exit.length, vmx_exit_rule(table[i].reason)->needs & NEED_LENGTH ? 3 : 0);
	}
}

/*
 * run.c takes a short way for rules without vectoring: it reads length and qualification only, and neither looks for
 * host interrupts nor for anything to inject.
 */
static void the_short_way_suffices(void **state)
{
	for (uint32_t reason = 0; reason < REASON_COUNT; reason++) {
		const struct vmx_exit_rule *rule = vmx_exit_rule(reason);
		struct vmx_raw_exit raw = { .reason = reason, .qualification = ~UINT64_C(0), .event = ~0u };
		struct hv_exit exit = { .kind = rule->kind };
		struct hv_event event;

		if (rule->needs & NEED_VECTORING)
			continue;
		assert_true(rule->needs & NEED_LENGTH);
		assert_false(rule->needs & (NEED_EVENT | NEED_GPA));
		assert_int_equal(!!rule->decode, !!(rule->needs & NEED_QUALIFICATION));
		assert_int_not_equal(rule->kind, EXIT_HOST_INTERRUPT);
		assert_false(vmx_exit_reflects(&raw, &event));
		assert_false(vmx_exit_undoes_iret(&raw, &exit));
		if (rule->decode)
			rule->decode(&raw, &exit);
		assert_int_equal(exit.kind, rule->kind);
	}
}

static void io_qualification(void **state)
{
	struct hv_exit exit = decode((struct vmx_raw_exit){ .reason = 30, .length = 1, .qualification = 0x03f80000 });

	assert_int_equal(exit.io.port, 0x3f8);
	assert_int_equal(exit.io.size, 1);
	assert_false(exit.io.in || exit.io.string || exit.io.rep);
	exit = decode(
		(struct vmx_raw_exit){ .reason = 30, .length = 2, .qualification = 0xcfc0000 | 3 | BIT(3) | BIT(6) });
	assert_int_equal(exit.io.port, 0xcfc);
	assert_int_equal(exit.io.size, 4);
	assert_true(exit.io.in);
	exit = decode((struct vmx_raw_exit){ .reason = 30, .qualification = 0x1f00000 | 1 | BIT(3) | BIT(4) | BIT(5) });
	assert_int_equal(exit.io.size, 2);
	assert_true(exit.io.in && exit.io.string && exit.io.rep);
}

static void cr_qualification(void **state)
{
	struct hv_exit exit = decode((struct vmx_raw_exit){ .reason = 28, .length = 3, .qualification = 0x904 });

	assert_true(exit.cr.decoded && exit.cr.write && !exit.cr.clts && !exit.cr.lmsw);
	assert_int_equal(exit.cr.number, 4);
	assert_int_equal(exit.cr.gpr, 9);
	exit = decode((struct vmx_raw_exit){ .reason = 28, .qualification = 0x318 });
	assert_true(!exit.cr.write && exit.cr.number == 8 && exit.cr.gpr == GPR_RBX);
	exit = decode((struct vmx_raw_exit){ .reason = 28, .qualification = 0x20 });
	assert_true(exit.cr.write && exit.cr.clts && exit.cr.number == 0);
	exit = decode((struct vmx_raw_exit){ .reason = 28, .qualification = 0x00110030 });
	assert_true(exit.cr.write && exit.cr.lmsw && exit.cr.lmsw_source == 0x11);
	exit = decode((struct vmx_raw_exit){ .reason = 29, .qualification = 0x217 });
	assert_true(exit.dr.decoded && !exit.dr.write && exit.dr.number == 7 && exit.dr.gpr == GPR_RDX);
}

static void violation(void **state)
{
	struct hv_exit exit = decode((struct vmx_raw_exit){
		.reason = 48, .length = 7, .qualification = 0x1aa, .gpa = 0xfee000b0, .gva = 0xffff8000000000b0 });

	assert_int_equal(exit.slat.gpa.v, 0xfee000b0);
	assert_true(exit.slat.gva_valid && !exit.slat.guest_table);
	assert_int_equal(exit.slat.gva.v, 0xffff8000000000b0);
	assert_int_equal(exit.slat.access, ACCESS_WRITE);
	assert_int_equal(exit.slat.rights, ACCESS_READ | ACCESS_EXECUTE);
	assert_int_equal(exit.length, 0); /* not defined for it */
	for (unsigned bits = 0; bits < 64; bits++) {
		exit = decode((struct vmx_raw_exit){ .reason = 48, .qualification = 0x180 | bits, .gpa = 0x1000 });
		assert_int_equal(exit.slat.access, bits & 7);
		assert_int_equal(exit.slat.rights, bits >> 3);
	}
	/* A walk with accessed and dirty bits: the manual reports a read and a write, Bochs the write alone. */
	for (unsigned access = 2; access <= 3; access++) {
		exit = decode((struct vmx_raw_exit){ .reason = 48, .qualification = 0x80 | access, .gpa = 0x1000 });
		assert_true(exit.slat.guest_table);
		assert_int_equal(exit.slat.access, ACCESS_READ | ACCESS_WRITE);
	}
	/* Loading PDPTEs by MOV CR: no linear address. */
	exit = decode((struct vmx_raw_exit){ .reason = 48, .qualification = 0x01, .gpa = 0x2000, .gva = 0x999 });
	assert_true(!exit.slat.gva_valid && exit.slat.gva.v == 0 && !exit.slat.guest_table);
	exit = decode((struct vmx_raw_exit){ .reason = 49, .gpa = 0x3000, .gva = 0x999 });
	assert_true(exit.slat.gpa.v == 0x3000 && !exit.slat.gva_valid && !exit.slat.access);
}

static void exceptions_and_nmi(void **state)
{
	struct hv_exit exit = decode((struct vmx_raw_exit){ .event = 0x80000202, .length = 2 });
	struct vmx_raw_exit int1 = { .event = 0x80000501, .length = 1 };
	struct hv_event event;

	assert_int_equal(exit.kind, EXIT_HOST_INTERRUPT);
	exit = decode((struct vmx_raw_exit){ .event = 0x80000b11, .event_error = 0, .length = 2 });
	assert_int_equal(exit.kind, EXIT_EXCEPTION);
	assert_true(exit.exception.vector == VECTOR_AC && exit.exception.has_error_code && exit.length == 0);
	exit = decode((struct vmx_raw_exit){ .event = 0x80000301, .qualification = 0x4001 });
	assert_true(exit.exception.vector == VECTOR_DB && exit.exception.detail == 0x4001);
	assert_true(vmx_exit_reflects(&int1, &event));
	assert_true(event.kind == EVENT_EXCEPTION && event.soft && event.vector == VECTOR_DB && event.length == 1);
	assert_true(vmx_exit_reflects(&(struct vmx_raw_exit){ .reason = 15 }, &event));
	assert_true(event.vector == VECTOR_GP && event.has_error_code && !event.error_code && !event.soft);
	assert_false(vmx_exit_reflects(&(struct vmx_raw_exit){ .event = 0x80000301 }, &event));
}

static void interrupted_events(void **state)
{
	struct hv_exit exit = decode((struct vmx_raw_exit){
		.reason = 48, .vectoring = 0x80000b0e, .vectoring_error = 6, .length = 9, .qualification = 0x181 });

	assert_true(exit.interrupted.kind == EVENT_EXCEPTION && exit.interrupted.vector == VECTOR_PF);
	assert_true(exit.interrupted.has_error_code && exit.interrupted.error_code == 6 &&
		    exit.interrupted.length == 0);
	exit = decode((struct vmx_raw_exit){ .reason = 48, .vectoring = 0x80000480, .length = 2 });
	assert_true(exit.interrupted.kind == EVENT_SOFT_INTERRUPT && exit.interrupted.vector == 0x80);
	assert_int_equal(exit.interrupted.length, 2);
	assert_int_equal(exit.length, 0);
	exit = decode((struct vmx_raw_exit){ .reason = 49, .vectoring = 0x80000020 });
	assert_true(exit.interrupted.kind == EVENT_INTERRUPT && exit.interrupted.vector == 0x20);
	exit = decode((struct vmx_raw_exit){ .reason = 48, .vectoring = 0x00000b0e });
	assert_int_equal(exit.interrupted.kind, EVENT_NONE);
}

static bool undoes(struct vmx_raw_exit raw)
{
	struct hv_exit exit = decode(raw);

	return vmx_exit_undoes_iret(&raw, &exit);
}

static void iret_that_faults_blocks_nmis_again(void **state)
{
	assert_true(undoes((struct vmx_raw_exit){ .reason = 48, .qualification = BIT(12) }));
	assert_false(undoes((struct vmx_raw_exit){ .reason = 48, .qualification = 0 }));
	assert_false(undoes((struct vmx_raw_exit){ .reason = 48, .qualification = BIT(12), .vectoring = 0x80000202 }));
	assert_true(undoes((struct vmx_raw_exit){ .event = 0x80001b11 }));
	assert_false(undoes((struct vmx_raw_exit){ .event = 0x80001b08 })); /* undefined for #DF */
	assert_false(undoes((struct vmx_raw_exit){ .reason = 30, .qualification = BIT(12) }));
}

static void failed_entries_say_why(void **state)
{
	struct hv_exit exit = decode((struct vmx_raw_exit){ .reason = 0x80000021, .qualification = 4 });

	assert_int_equal(exit.kind, EXIT_INVALID_STATE);
	assert_int_equal(exit.raw_reason, 33);
	assert_int_equal(exit.failure.code, 4);
	assert_non_null(strstr(exit.failure.text, "link pointer"));
	exit = decode((struct vmx_raw_exit){ .reason = 0x80000021, .qualification = 1 });
	assert_true(exit.kind == EXIT_INVALID_STATE && !exit.failure.text);
	exit = decode((struct vmx_raw_exit){ .reason = 0x80000022, .qualification = 1 });
	assert_non_null(exit.failure.text);
	/* The same numbers without bit 31 never come; they must not be taken for anything known. */
	assert_int_equal(decode((struct vmx_raw_exit){ .reason = 0x8000000a }).kind, EXIT_INVALID_STATE);
	assert_non_null(strstr(vmx_instruction_error_text(7), "control"));
	assert_non_null(strstr(vmx_instruction_error_text(8), "host"));
	assert_null(vmx_instruction_error_text(14));
	assert_null(vmx_instruction_error_text(29));
	assert_null(vmx_instruction_error_text(~0u));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(every_reason_has_its_kind),
		cmocka_unit_test(the_short_way_suffices),
		cmocka_unit_test(io_qualification),
		cmocka_unit_test(cr_qualification),
		cmocka_unit_test(violation),
		cmocka_unit_test(exceptions_and_nmi),
		cmocka_unit_test(interrupted_events),
		cmocka_unit_test(iret_that_faults_blocks_nmis_again),
		cmocka_unit_test(failed_entries_say_why),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
