/* SPDX-License-Identifier: Apache-2.0 */
// sources: vm/vcpu/task.c vm/vcpu/task_segment.c lib/status.c
/*
 * Hardware task switches over a memory played by the test: two pages with a GDT and the TSSes, of which any access can be made to
 * fault. Intel SDM vol. 3 section 8.3 and table 8-2.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <string.h>

#include "arch/x86_64/registers.h"
#include "vm/machine.h"
#include "vm/vcpu/vcpu.h"

#define GDT 0x100u
#define MAIN 0x200u
#define NEXT 0x300u
#define SMALL 0x400u
#define STACK_TOP 0x800u
#define SELECTOR_OF_CODE 0x08u
#define SELECTOR_OF_DATA 0x10u
#define SELECTOR_OF_MAIN 0x18u
#define SELECTOR_OF_NEXT 0x20u
#define SELECTOR_OF_SMALL 0x28u
#define GDT_LIMIT 0x2fu
#define LENGTH 7u /* of the instruction that asks */

static void load(struct hv_vcpu *v, uint32_t groups)
{
	v->valid |= groups;
}
static const struct hv_ops ops = { .name = "test", .load = load };
const struct hv_ops *hv = &ops;
struct hv_caps hv_capabilities;

static struct hv_vcpu h;
static struct machine machine;
static struct vcpu vcpu;
static uint8_t ram[8192];
static unsigned accesses, fault_at; /* which of them faults; 0: none */
static enum status refusal;         /* not OK: so it is told, as of its hypervisor's tables or of want of memory */
static unsigned ends, injected, got_on;
static uint64_t new_cr3;

static enum status access(uint64_t where, unsigned size, struct hv_event *fault, uint64_t *address)
{
	if (++accesses != fault_at && where + size <= sizeof(ram))
		return OK;
	if (refusal != OK)
		return refusal;
	*fault = (struct hv_event){ .kind = EVENT_EXCEPTION, .vector = VECTOR_PF, .has_error_code = true };
	*address = where;
	return GUEST_FAULT;
}
static enum status read(void *context, gva_t where, void *to, unsigned size, unsigned kind, bool system,
			struct hv_event *fault, uint64_t *address)
{
	enum status status = access(where.v, size, fault, address);

	if (status == OK)
		memcpy(to, ram + where.v, size);
	return status;
}
static enum status write(void *context, gva_t where, const void *from, unsigned size, bool system,
			 struct hv_event *fault, uint64_t *address)
{
	enum status status = access(where.v, size, fault, address);

	if (status == OK)
		memcpy(ram + where.v, from, size);
	return status;
}
void vcpu_emulate_env(struct vcpu *v, struct emulate_env *env)
{
	*env = (struct emulate_env){ .context = v, .read = read, .write = write };
}
unsigned emulate_length(struct hv_vcpu *v, struct emulate_env *env, enum emulate_result *result)
{
	return LENGTH;
}
bool vcpu_write_cr3(struct vcpu *v, uint64_t value)
{
	new_cr3 = value;
	return true;
}
void vcpu_inject_exception(struct vcpu *v, uint8_t vector, bool has_error, uint32_t error)
{
	injected++;
	v->hv->inject = (struct hv_event){
		.kind = EVENT_EXCEPTION, .vector = vector, .has_error_code = has_error, .error_code = error
	};
}
enum exit_action vcpu_park(struct vcpu *v, const char *why)
{
	return ACTION_HALT;
}
void vcpu_got_on(struct vcpu *v)
{
	got_on++;
}
void machine_end(struct machine *m, enum machine_end end, uint32_t value, const char *text, ...)
{
	ends++;
}

static uint32_t get32(unsigned at)
{
	uint32_t value;

	memcpy(&value, ram + at, 4);
	return value;
}
static void set32(unsigned at, uint32_t value)
{
	memcpy(ram + at, &value, 4);
}

static void describe(unsigned selector, uint32_t base, uint32_t limit, uint32_t attributes)
{
	set32(GDT + selector, base << 16 | (limit & 0xffff));
	set32(GDT + selector + 4, (limit & 0xf0000) | attributes << 8);
}

static bool busy(unsigned selector)
{
	return ram[GDT + selector + 5] & 2;
}

static int setup(void **state)
{
	static const uint8_t selectors[] = { 0x48, 0x50, 0x54 }; /* ES, SS, DS */

	memset(ram, 0, sizeof(ram));
	describe(SELECTOR_OF_CODE, 0, 0xfffff, 0xc09b);
	describe(SELECTOR_OF_DATA, 0, 0xfffff, 0xc093);
	describe(SELECTOR_OF_MAIN, MAIN, 0x67, 0x8b);
	describe(SELECTOR_OF_NEXT, NEXT, 0x67, 0x89);
	describe(SELECTOR_OF_SMALL, SMALL, 0x2b, 0x81);
	set32(NEXT + 0x1c, 0x5000); /* CR3 */
	set32(NEXT + 0x20, 0x1234);
	set32(NEXT + 0x24, 0x2 | 0x40);
	set32(NEXT + 0x28, 0xa0a0a0a0); /* EAX */
	set32(NEXT + 0x38, STACK_TOP);
	set32(NEXT + 0x4c, SELECTOR_OF_CODE);
	for (unsigned i = 0; i < sizeof(selectors); i++)
		set32(NEXT + selectors[i], SELECTOR_OF_DATA);
	h = (struct hv_vcpu){ .cr0 = CR0_PE | CR0_PG, .rflags = 0x202, .rip = 0x777, .valid = UINT32_MAX };
	h.gdtr.base = GDT;
	h.gdtr.limit = GDT_LIMIT;
	h.segment[SEG_TR] =
		(struct segment){ .selector = SELECTOR_OF_MAIN, .base = MAIN, .limit = 0x67, .attributes = 0x8b };
	h.segment[SEG_CS] = (struct segment){ .selector = SELECTOR_OF_CODE, .limit = UINT32_MAX, .attributes = 0xc09b };
	h.gpr[GPR_RAX] = 0x1a1a1a1a;
	h.dr[7] = 0x755;
	h.exit.kind = EXIT_TASK_SWITCH;
	h.exit.task.selector = SELECTOR_OF_NEXT;
	h.exit.task.source = TASK_CALL;
	h.exit.length = LENGTH;
	vcpu = (struct vcpu){ .hv = &h, .machine = &machine };
	accesses = fault_at = ends = injected = got_on = 0;
	new_cr3 = 0;
	return 0;
}

static void go(enum task_source source)
{
	h.exit.task.source = source;
	assert_int_equal(exit_task_switch(&vcpu), ACTION_ENTER);
}

static void entered_next(void)
{
	assert_int_equal(injected, 0);
	assert_int_equal(h.inject.kind, EVENT_NONE);
	assert_true(h.rip == 0x1234 && h.gpr[GPR_RAX] == 0xa0a0a0a0 && new_cr3 == 0x5000);
	assert_true(h.segment[SEG_TR].selector == SELECTOR_OF_NEXT && (h.segment[SEG_TR].attributes & 2));
	assert_true(h.segment[SEG_DS].limit == UINT32_MAX && h.segment[SEG_SS].selector == SELECTOR_OF_DATA);
	assert_true((h.cr0 & CR0_TS) && h.dr[7] == 0x600);
	assert_true(get32(MAIN + 0x28) == 0x1a1a1a1a && get32(MAIN + 0x4c) == SELECTOR_OF_CODE);
}

static void call_links_and_nests(void **state)
{
	go(TASK_CALL);
	entered_next();
	assert_true(busy(SELECTOR_OF_MAIN) && busy(SELECTOR_OF_NEXT));
	assert_int_equal(get32(NEXT) & 0xffff, SELECTOR_OF_MAIN);
	assert_int_equal(h.rflags, 0x42 | RFLAGS_NT);
	assert_int_equal(get32(MAIN + 0x20), 0x777 + LENGTH);
	assert_int_equal(get32(MAIN + 0x24), 0x202);
}

static void jump_frees_the_old(void **state)
{
	go(TASK_JMP);
	entered_next();
	assert_true(!busy(SELECTOR_OF_MAIN) && busy(SELECTOR_OF_NEXT));
	assert_int_equal(get32(NEXT), 0);
	assert_int_equal(h.rflags, 0x42);
}

static void iret_goes_back(void **state)
{
	describe(SELECTOR_OF_NEXT, NEXT, 0x67, 0x8b);
	h.rflags |= RFLAGS_NT;
	go(TASK_IRET);
	entered_next();
	assert_true(!busy(SELECTOR_OF_MAIN) && busy(SELECTOR_OF_NEXT));
	assert_int_equal(get32(MAIN + 0x24), 0x202); /* without NT */
}

/* An exception's task gate: it goes on where that struck, and the error code lies on the new stack. */
static void gate_pushes_the_error(void **state)
{
	h.inject = h.exit.interrupted = (struct hv_event){
		.kind = EVENT_EXCEPTION, .vector = VECTOR_GP, .has_error_code = true, .error_code = 0xabc
	};
	h.exit.length = 0;
	go(TASK_GATE);
	entered_next();
	assert_int_equal(get32(MAIN + 0x20), 0x777);
	assert_int_equal(h.gpr[GPR_RSP], STACK_TOP - 4);
	assert_int_equal(get32(STACK_TOP - 4), 0xabc);
	assert_true(h.rflags & RFLAGS_NT);
}

/* INT n's goes on behind it, also where the processor tells no length. */
static void gate_of_an_instruction(void **state)
{
	h.exit.interrupted = (struct hv_event){ .kind = EVENT_SOFT_INTERRUPT, .vector = 0x31 };
	h.exit.length = 0;
	go(TASK_GATE);
	entered_next();
	assert_int_equal(get32(MAIN + 0x20), 0x777 + LENGTH);
}

static void small_tasks(void **state)
{
	static const uint16_t image[] = { 0,
					  0,
					  0,
					  0,
					  0,
					  0,
					  0,
					  0x4321,
					  2,
					  0xbeef,
					  0,
					  0,
					  0,
					  STACK_TOP,
					  0,
					  0,
					  0,
					  SELECTOR_OF_DATA,
					  SELECTOR_OF_CODE,
					  SELECTOR_OF_DATA,
					  SELECTOR_OF_DATA,
					  0 };

	memcpy(ram + SMALL, image, sizeof(image));
	h.exit.task.selector = SELECTOR_OF_SMALL;
	go(TASK_CALL);
	assert_int_equal(injected, 0);
	assert_true(h.rip == 0x4321 && h.gpr[GPR_RAX] == 0xffffbeef && new_cr3 == 0);
	assert_true(busy(SELECTOR_OF_SMALL) && get32(SMALL) == SELECTOR_OF_MAIN);
}

/* What is found before the old task is left is its own fault, and all is as it was. */
static void bad_targets(void **state)
{
	static const struct {
		uint16_t selector, attributes, limit;
		uint8_t source, vector;
	} rows[] = {
		{ SELECTOR_OF_NEXT | 4, 0x89, 0x67, TASK_CALL, VECTOR_GP }, /* in the LDT */
		{ SELECTOR_OF_NEXT | 4, 0x8b, 0x67, TASK_IRET, VECTOR_TS },
		{ GDT_LIMIT + 1, 0x89, 0x67, TASK_JMP, VECTOR_GP },
		{ SELECTOR_OF_NEXT, 0x93, 0x67, TASK_JMP, VECTOR_GP },  /* not one */
		{ SELECTOR_OF_NEXT, 0x8b, 0x67, TASK_CALL, VECTOR_GP }, /* busy */
		{ SELECTOR_OF_NEXT, 0x89, 0x67, TASK_IRET, VECTOR_TS }, /* not busy */
		{ SELECTOR_OF_NEXT, 0x09, 0x67, TASK_CALL, VECTOR_NP },
		{ SELECTOR_OF_NEXT, 0x89, 0x66, TASK_CALL, VECTOR_TS }, /* too small */
	};

	for (unsigned i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		(void)setup(NULL);
		describe(SELECTOR_OF_NEXT, NEXT, rows[i].limit, rows[i].attributes);
		describe(GDT_LIMIT + 1, NEXT, 0x67, 0x89); /* beyond the table */
		h.exit.task.selector = rows[i].selector;
		go(rows[i].source);
		assert_int_equal(injected, 1);
		assert_int_equal(h.inject.vector, rows[i].vector);
		assert_int_equal(h.inject.error_code, rows[i].selector & ~3u);
		assert_true(h.rip == 0x777 && h.segment[SEG_TR].selector == SELECTOR_OF_MAIN && busy(SELECTOR_OF_MAIN));
	}
}

/* From the first of the new task's segments on the fault is the new task's. */
static void bad_segments(void **state)
{
	static const struct {
		uint8_t field, selector, vector;
	} rows[] = {
		{ 0x4c, SELECTOR_OF_DATA, VECTOR_TS }, { 0x4c, 0, VECTOR_TS },
		{ 0x50, SELECTOR_OF_CODE, VECTOR_TS }, { 0x50, 0, VECTOR_TS },
		{ 0x54, SELECTOR_OF_MAIN, VECTOR_TS }, { 0x54, GDT_LIMIT + 1, VECTOR_TS },
		{ 0x60, SELECTOR_OF_DATA, VECTOR_TS }, /* LDT */ { 0x58, SELECTOR_OF_SMALL, VECTOR_TS },
	};

	for (unsigned i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		(void)setup(NULL);
		set32(NEXT + rows[i].field, rows[i].selector);
		go(TASK_CALL);
		assert_int_equal(injected, 1);
		assert_int_equal(h.inject.vector, rows[i].vector);
		assert_int_equal(h.inject.error_code, rows[i].selector);
		assert_true(h.rip == 0x1234 && h.segment[SEG_TR].selector == SELECTOR_OF_NEXT);
	}
}

/* Each access in turn meets an absent page: a page fault there, before the switch or behind it, and never half of one. */
static void faults_anywhere(void **state)
{
	unsigned n = 0;

	do {
		(void)setup(NULL);
		fault_at = ++n;
		go(TASK_CALL);
		assert_int_equal(injected, accesses >= n);
		if (injected) {
			assert_int_equal(h.inject.vector, VECTOR_PF);
			assert_int_equal(accesses, n);
		}
		assert_true((h.rip == 0x777 && h.segment[SEG_TR].selector == SELECTOR_OF_MAIN &&
			     h.gpr[GPR_RAX] == 0x1a1a1a1a) ||
			    (h.rip == 0x1234 && h.segment[SEG_TR].selector == SELECTOR_OF_NEXT &&
			     h.gpr[GPR_RAX] == 0xa0a0a0a0));
	} while (injected);
	assert_in_range(n, 8, 20);
	assert_int_equal(ends, 0);
}

/* Likewise, but it's L1's tables that lack the page: nobody's machine ends, and before the switch all comes again as if for the first time. */
static void refused_anywhere(void **state)
{
	unsigned before = 0;

	refusal = OUTER_FAULT;
	for (unsigned n = 1; n < 20; n++) {
		(void)setup(NULL);
		fault_at = n;
		go(TASK_JMP);
		assert_true(ends == 0 && injected == 0);
		if (h.rip != 0x777)
			continue;
		before = n;
		go(TASK_JMP);
		entered_next();
		assert_true(!busy(SELECTOR_OF_MAIN) && busy(SELECTOR_OF_NEXT));
	}
	assert_in_range(before, 5, 10);
	refusal = OK;
}

/* The host is short of memory, or the machine's account is full for a moment: it waits, and does all of it later. */
static void no_memory(void **state)
{
	static const enum status why[] = { NO_MEMORY, OVER_QUOTA };

	for (unsigned i = 0; i < 2; i++) {
		(void)setup(NULL);
		refusal = why[i];
		fault_at = 4;
		assert_int_equal(exit_task_switch(&vcpu), ACTION_HALT);
		assert_true(ends == 0 && got_on == 0);
		refusal = OK;
		go(TASK_CALL);
		entered_next();
		assert_int_equal(got_on, 1);
	}
}

/* The T bit of the new TSS: a debug trap before its first instruction. */
static void trapped(void **state)
{
	set32(NEXT + 0x64, 1);
	go(TASK_CALL);
	assert_true(injected == 1 && h.inject.vector == VECTOR_DB && h.rip == 0x1234);
	assert_true(h.dr[6] & BIT(15));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup(call_links_and_nests, setup),
		cmocka_unit_test_setup(jump_frees_the_old, setup),
		cmocka_unit_test_setup(iret_goes_back, setup),
		cmocka_unit_test_setup(gate_pushes_the_error, setup),
		cmocka_unit_test_setup(gate_of_an_instruction, setup),
		cmocka_unit_test_setup(small_tasks, setup),
		cmocka_unit_test_setup(bad_targets, setup),
		cmocka_unit_test_setup(bad_segments, setup),
		cmocka_unit_test_setup(faults_anywhere, setup),
		cmocka_unit_test_setup(refused_anywhere, setup),
		cmocka_unit_test_setup(no_memory, setup),
		cmocka_unit_test_setup(trapped, setup),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
