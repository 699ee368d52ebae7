/* SPDX-License-Identifier: Apache-2.0 */
// sources: vm/vcpu/nested.c vm/vcpu/nested_tables.c vm/vcpu/nested_env.c
/*
 * The glue of nested virtualisation against a backend, a run loop and a page manager played by the test: which level runs when, on
 * which tables, and who gets an exception, an event, a fault in L1's tables.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <string.h>

#include "arch/x86_64/cpu.h"
#include "lib/memory.h"
#include "dev/apic/lapic.h"
#include "pgm/shadow/shadow.h"
#include "vm/machine/board.h"
#include "vm/vcpu/nested.h"

static struct hv_vcpu l1, l2;
static struct hv_nested state;
static struct machine machine;
static struct lapic lapic;
static struct vcpu vcpu;

/* ---- the backend ---- */
static enum hv_nested_step step;
static bool waits;
static uint8_t started;
static bool reflects, wants_exception, traps, redirects, lowers;
static enum hv_nested_verdict verdict;
static struct hv_nested_fault reflected;
static unsigned exits_seen, slat_reflected;
static hpa_t tables_of_l2;

static enum status fake_create(struct hv_vcpu *of, const struct hv_nested_env *env, void *context,
			       struct hv_nested **out)
{
	state = (struct hv_nested){ .l1 = of, .l2 = &l2, .env = env, .context = context, .deadline = UINT64_MAX };
	*out = &state;
	return OK;
}
static void fake_destroy(struct hv_nested *n)
{
}
static void fake_reset(struct hv_nested *n)
{
	n->in_l2 = false;
}
static enum hv_nested_step fake_instruction(struct hv_nested *n)
{
	if (step == NESTED_ENTERED) {
		n->in_l2 = true;
		n->slat_changed = true;
		n->awaits_startup = waits;
	}
	return step;
}
static void fake_startup(struct hv_nested *n, uint8_t vector)
{
	started = vector;
	n->in_l2 = n->awaits_startup = false;
}
static bool fake_exit(struct hv_nested *n)
{
	exits_seen++;
	n->in_l2 = !reflects;
	return reflects;
}
static void fake_reflect_slat(struct hv_nested *n, const struct hv_nested_fault *fault)
{
	reflected = *fault;
	slat_reflected++;
	n->in_l2 = false;
}
static bool fake_redirect(struct hv_nested *n, const struct hv_nested_fault *fault, gpa_t *where)
{
	return redirects;
}
static bool fake_redirected(struct hv_nested *n)
{
	n->in_l2 = !lowers;
	return lowers;
}
static bool fake_exception(struct hv_nested *n, const struct hv_event *event, uint64_t detail)
{
	if (event->vector == VECTOR_PF)
		assert_int_equal(detail, 0x1234);
	n->in_l2 = !wants_exception;
	return wants_exception;
}
static enum hv_nested_verdict fake_pending(struct hv_nested *n, enum hv_nested_event what)
{
	if (verdict == NESTED_REFLECTED || verdict == NESTED_TAKEN)
		n->in_l2 = false;
	return verdict;
}
static const struct hv_nested_ops nested_ops = { .create = fake_create,
						 .destroy = fake_destroy,
						 .reset = fake_reset,
						 .instruction = fake_instruction,
						 .exit = fake_exit,
						 .reflect_slat = fake_reflect_slat,
						 .redirect = fake_redirect,
						 .redirected = fake_redirected,
						 .exception = fake_exception,
						 .pending = fake_pending,
						 .startup = fake_startup };
static void fake_set_slat(struct hv_vcpu *h, hpa_t root)
{
	assert_ptr_equal(h, &l2);
	tables_of_l2 = root;
}
static const struct hv_ops ops = { .set_slat = fake_set_slat, .nested = &nested_ops };
const struct hv_ops *hv = &ops;
struct hv_caps hv_capabilities;

/* ---- the page manager ---- */
#define SHADOW_ROOT 0x7000u
#define EMPTY_ROOT 0x8000u
static unsigned roots_out;
static bool no_memory;
static enum shadow_verdict shadow;
static struct shadow_root *const root = (struct shadow_root *)&roots_out;

enum status shadow_root_get(struct pgm *pgm, const struct hv_nested_slat *slat, unsigned who, struct shadow_root **out)
{
	if (no_memory)
		return NO_MEMORY;
	roots_out++;
	*out = root;
	return OK;
}
void shadow_root_put(struct pgm *pgm, struct shadow_root *r)
{
	assert_ptr_equal(r, root);
	roots_out--;
}
hpa_t shadow_root_address(const struct shadow_root *r)
{
	return hpa(SHADOW_ROOT);
}
enum shadow_verdict shadow_fault(struct pgm *pgm, struct shadow_root *r, gpa_t where, unsigned access, bool guest_table,
				 struct hv_nested_fault *fault)
{
	fault->where = where;
	fault->trapped = traps;
	return shadow;
}
enum status shadow_walk(struct pgm *pgm, const struct hv_nested_slat *slat, gpa_t where, unsigned access, gpa_t *to,
			struct hv_nested_fault *fault)
{
	return OUTER_FAULT;
}
void shadow_invalidate(struct pgm *pgm, const struct hv_nested_slat *slat)
{
}
hpa_t pgm_empty_root(void)
{
	return hpa(EMPTY_ROOT);
}
enum status pgm_read_simple(struct pgm *pgm, gpa_t from, void *to, size_t length)
{
	if ((from.v & 4095) + length > 4096)
		return BAD_VALUE;
	memset(to, (int)(from.v >> 12), length);
	return OK;
}
enum status pgm_write_simple(struct pgm *pgm, gpa_t to, const void *from, size_t length)
{
	return (to.v & 4095) + length > 4096 ? BAD_VALUE : OK;
}

enum status pgm_parts(struct pgm *pgm, gpa_t page, void *copy, const struct hv_nested_part *parts, unsigned count,
		      bool write)
{
	return OK;
}

/* ---- the rest of vm/ ---- */
static enum exit_action handler_says;
static uint8_t handler_injects; /* a vector; 0: nothing */
static bool handler_refused;    /* by L1's tables */
static unsigned handled, parked, injected, skipped;

enum exit_action vcpu_handle_exit(struct vcpu *v)
{
	handled++;
	if (handler_injects)
		v->hv->inject = (struct hv_event){ .kind = EVENT_EXCEPTION, .vector = handler_injects };
	v->nested->outer_waits |= handler_refused;
	return handler_says;
}
enum exit_action exit_emulate(struct vcpu *v)
{
	return vcpu_handle_exit(v);
}
enum exit_action vcpu_park(struct vcpu *v, const char *why)
{
	parked++;
	return ACTION_HALT;
}
static unsigned got_on;
void vcpu_got_on(struct vcpu *v)
{
	got_on++;
}
void vcpu_recover_event(struct vcpu *v)
{
	v->hv->inject = v->hv->exit.interrupted;
}
void vcpu_inject_exception(struct vcpu *v, uint8_t vector, bool has_error, uint32_t error)
{
	injected = vector;
}
enum exit_action vcpu_inject_ud(struct vcpu *v)
{
	injected = VECTOR_UD;
	return ACTION_ENTER;
}
bool vcpu_skip_slowly(struct vcpu *v)
{
	skipped++;
	return true;
}
bool vcpu_find_length(struct vcpu *v)
{
	v->hv->exit.length = 3;
	return true;
}
bool vcpu_measure(struct vcpu *v)
{
	v->nested->outer = (struct hv_nested_fault){ .where = gpa(0xbad000) };
	return vcpu_find_length(v);
}
void vcpu_deliver(struct vcpu *v)
{
	(void)vcpu_nested_takes_event(v, NESTED_INTERRUPT);
}
void vcpu_emulate_env(struct vcpu *v, struct emulate_env *env)
{
	fail();
}
static const struct hv_vcpu *level_of_msr;
enum status vcpu_msr(struct vcpu *v, uint32_t msr, bool write, uint64_t *value)
{
	level_of_msr = v->hv;
	return OK;
}
int board_take_interrupt(struct board *board, struct lapic *l)
{
	return 0x31;
}
struct cpuid_result vcpu_cpuid(struct vcpu *v, uint32_t leaf, uint32_t subleaf)
{
	return (struct cpuid_result){ .eax = leaf };
}
uint64_t cpuid_limit(const struct cpuid_policy *policy, enum cpuid_limit limit)
{
	return 0;
}
uint8_t cpuid_physical_bits(const struct cpuid_policy *policy)
{
	return 40;
}

static int begin(void **s)
{
	memset(&l1, 0, sizeof(l1));
	memset(&l2, 0, sizeof(l2));
	memset(&lapic, 0, sizeof(lapic));
	vcpu = (struct vcpu){ .hv = &l1, .l1 = &l1, .machine = &machine, .lapic = &lapic };
	l1.slat_root = hpa(0x6000);
	l1.slice_deadline = UINT64_MAX;
	l1.exit.kind = EXIT_NESTED;
	reflects = wants_exception = no_memory = traps = redirects = lowers = false;
	handled = got_on = parked = injected = skipped = exits_seen = slat_reflected = 0;
	handler_injects = 0;
	handler_refused = false;
	handler_says = ACTION_ENTER;
	verdict = NESTED_INJECT;
	assert_int_equal(vcpu_nested_create(&vcpu), OK);
	vcpu_nested_deadline(&vcpu);
	assert_int_equal(tables_of_l2.v, 0x6000);
	return 0;
}

static int end(void **s)
{
	vcpu_nested_destroy(&vcpu);
	assert_int_equal(roots_out, 0);
	return 0;
}

static void enter(bool slat)
{
	step = NESTED_ENTERED;
	state.slat.on = slat;
	assert_int_equal(exit_nested(&vcpu), ACTION_SWITCH);
	assert_true(vcpu.hv == &l2 && vcpu_in_l2(&vcpu) && vcpu_outer(&vcpu) == slat);
}

static void test_instructions(void **s)
{
	step = NESTED_DONE;
	assert_int_equal(exit_nested(&vcpu), ACTION_ENTER);
	assert_true(skipped == 1 && l1.exit.length == 3);
	step = NESTED_FAULT;
	state.fault = (struct hv_event){ .vector = VECTOR_GP };
	assert_int_equal(exit_nested(&vcpu), ACTION_ENTER);
	assert_true(injected == VECTOR_GP && skipped == 1);
	step = NESTED_AGAIN;
	assert_int_equal(exit_nested(&vcpu), ACTION_HALT);
	assert_true(parked == 1 && got_on == 2); /* each of the others ends the wait, if one was told of */
	enter(false);
	assert_int_equal(got_on, 3);
	/* An L2's own, which its L1 doesn't intercept. */
	assert_int_equal(exit_nested(&vcpu), ACTION_ENTER);
	assert_int_equal(injected, VECTOR_UD);
}

static void test_waits_for_startup(void **s)
{
	enter(false);
	assert_int_equal(vcpu.activity, VCPU_RUNNABLE);
	state.in_l2 = false;
	vcpu_nested_sync(&vcpu);
	waits = true;
	enter(false);
	waits = false;
	assert_int_equal(vcpu.activity, VCPU_WAIT_SIPI);
	vcpu_nested_startup(&vcpu, 0x9a);
	assert_true(started == 0x9a && !vcpu_in_l2(&vcpu));
}

static void test_tables(void **s)
{
	enter(false);
	assert_int_equal(tables_of_l2.v, 0x6000);
	l1.slat_root = hpa(0x9000); /* the gate of A20 */
	vcpu_nested_root(&vcpu);
	assert_int_equal(tables_of_l2.v, 0x9000);
	reflects = true;
	assert_false(vcpu_exited_l2(&l2));
	assert_true(vcpu.hv == &l1 && vcpu.action == ACTION_SWITCH);
	enter(true);
	assert_true(tables_of_l2.v == SHADOW_ROOT && roots_out == 1);
	vcpu_nested_reset(&vcpu);
	assert_true(vcpu.hv == &l1 && roots_out == 0);
}

static void test_no_memory_for_a_root(void **s)
{
	no_memory = true;
	enter(true);
	assert_int_equal(tables_of_l2.v, EMPTY_ROOT);
	l2.exit.kind = EXIT_SLAT_FAULT;
	assert_false(vcpu_exited_l2(&l2));
	assert_true(parked == 1 && exits_seen == 0);
	no_memory = false;
	shadow = SHADOW_RESUME;
	assert_true(vcpu_exited_l2(&l2));
	assert_true(tables_of_l2.v == SHADOW_ROOT && handled == 0 && got_on == 2);
}

static void test_faults_in_the_tables(void **s)
{
	enter(true);
	l2.exit = (struct hv_exit){ .kind = EXIT_SLAT_FAULT,
				    .interrupted = { .kind = EVENT_NMI, .vector = 2 },
				    .slat = { .gpa = gpa(0x4000), .gva = gva(0x55), .gva_valid = true } };
	shadow = SHADOW_RESUME;
	assert_true(vcpu_exited_l2(&l2));
	assert_int_equal(l2.inject.kind, EVENT_NMI); /* broken off: it comes again */
	shadow = SHADOW_EMULATE;
	assert_true(vcpu_exited_l2(&l2));
	assert_int_equal(handled, 1);
	shadow = SHADOW_REFLECT;
	assert_false(vcpu_exited_l2(&l2));
	assert_true(vcpu.hv == &l1 && slat_reflected == 1 && reflected.where.v == 0x4000);
	assert_true(reflected.linear_valid && reflected.linear.v == 0x55);
	assert_int_equal(vcpu.counters.error[FAULT_ABSENT_READ], 3);
}

/* The page that is L1's processor's APIC: carried out elsewhere, or an exit that tells of its instruction's length. */
static void test_the_apic_page(void **s)
{
	const struct hv_exit exit = { .kind = EXIT_SLAT_FAULT, .slat = { .gpa = gpa(0x4080), .access = ACCESS_WRITE } };

	step = NESTED_ENTERED;
	state.slat.traps = true; /* without tables of L1's, too */
	assert_int_equal(exit_nested(&vcpu), ACTION_SWITCH);
	assert_true(tables_of_l2.v == SHADOW_ROOT && vcpu_outer(&vcpu));
	shadow = SHADOW_REFLECT;
	traps = redirects = true;
	l2.exit = exit;
	assert_true(vcpu_exited_l2(&l2));
	assert_true(handled == 1 && slat_reflected == 0 && vcpu.hv == &l2);
	lowers = true;
	l2.exit = exit;
	assert_false(vcpu_exited_l2(&l2));
	assert_true(handled == 2 && slat_reflected == 0 && vcpu.hv == &l1 && vcpu.action == ACTION_SWITCH);
	lowers = redirects = false;
	assert_int_equal(exit_nested(&vcpu), ACTION_SWITCH);
	l2.exit = exit;
	assert_false(vcpu_exited_l2(&l2));
	assert_true(handled == 2 && slat_reflected == 1 && reflected.trapped && l2.exit.length == 3);
	/* The emulator's access of more bytes; looking for its length goes wrong. */
	assert_int_equal(exit_nested(&vcpu), ACTION_SWITCH);
	l2.exit = (struct hv_exit){ .kind = EXIT_SLAT_FAULT };
	vcpu.nested->outer = (struct hv_nested_fault){ .where = gpa(0x4080), .trapped = true };
	vcpu.nested->outer_waits = true;
	assert_true(vcpu_reflect_outer(&vcpu));
	assert_true(slat_reflected == 2 && reflected.where.v == 0x4080 && l2.exit.length == 3);
	/* The delivery of an event is no instruction's. */
	redirects = true;
	assert_int_equal(exit_nested(&vcpu), ACTION_SWITCH);
	l2.exit = exit;
	l2.exit.interrupted = (struct hv_event){ .kind = EVENT_INTERRUPT, .vector = 0x31 };
	assert_false(vcpu_exited_l2(&l2));
	assert_true(handled == 2 && slat_reflected == 3 && l2.exit.length == 0);
}

static void test_emulator_meets_refusal(void **s)
{
	assert_false(vcpu_reflect_outer(&vcpu));
	enter(true);
	assert_false(vcpu_reflect_outer(&vcpu));
	vcpu.nested->outer = (struct hv_nested_fault){ .where = gpa(0x77000) };
	vcpu.nested->outer_waits = true;
	assert_true(vcpu_reflect_outer(&vcpu));
	assert_true(reflected.where.v == 0x77000 && vcpu.hv == &l1);
	assert_false(vcpu_reflect_outer(&vcpu));
	/* Another handler's walk meets it; one of an earlier exit is over. */
	enter(true);
	l2.exit = (struct hv_exit){ .kind = EXIT_TASK_SWITCH };
	vcpu.nested->outer_waits = true;
	assert_true(vcpu_exited_l2(&l2));
	assert_true(slat_reflected == 1 && vcpu.hv == &l2);
	handler_refused = true;
	assert_false(vcpu_exited_l2(&l2));
	assert_true(slat_reflected == 2 && vcpu.hv == &l1 && vcpu.action == ACTION_SWITCH);
}

static void test_exits(void **s)
{
	enter(false);
	l2.exit = (struct hv_exit){ .kind = EXIT_SLAT_FAULT }; /* no tables of L1's: an ordinary one */
	assert_true(vcpu_exited_l2(&l2));
	assert_true(exits_seen == 1 && handled == 1 && vcpu.in_guest == 1);
	l2.exit = (struct hv_exit){ .kind = EXIT_HYPERCALL };
	assert_true(vcpu_exited_l2(&l2));
	assert_true(handled == 1 && injected == VECTOR_UD);
	l2.exit = (struct hv_exit){ .kind = EXIT_HLT };
	handler_says = ACTION_HALT;
	assert_false(vcpu_exited_l2(&l2));
	assert_int_equal(vcpu.action, ACTION_HALT);
	l2.want_interrupt_window = true;
	reflects = true;
	assert_false(vcpu_exited_l2(&l2));
	assert_true(vcpu.action == ACTION_SWITCH && vcpu.hv == &l1 && !l2.want_interrupt_window);
	assert_int_equal(vcpu.in_guest, 0);
	assert_true(vcpu.nested->exits[EXIT_HLT] == 2 && vcpu.nested->to_l1[EXIT_HLT] == 1 &&
		    vcpu.nested->entries == 1);
}

static void test_exceptions_of_handlers(void **s)
{
	enter(false);
	l2.exit = (struct hv_exit){ .kind = EXIT_CR_ACCESS };
	l2.cr2 = 0x1234;
	handler_injects = VECTOR_PF;
	assert_true(vcpu_exited_l2(&l2));
	assert_true(l2.inject.kind == EVENT_EXCEPTION && l2.inject.vector == VECTOR_PF);
	wants_exception = true;
	assert_false(vcpu_exited_l2(&l2));
	assert_true(vcpu.hv == &l1 && l2.inject.kind == EVENT_NONE);
	assert_int_equal(vcpu.action, ACTION_SWITCH);
	/* The single step over an L2's HLT: L1 doesn't sleep. */
	enter(false);
	handler_injects = VECTOR_DB;
	handler_says = ACTION_HALT;
	assert_false(vcpu_exited_l2(&l2));
	assert_true(vcpu.hv == &l1 && vcpu.action == ACTION_SWITCH);
	/* L1's own are nobody else's. */
	assert_false(vcpu_nested_takes_exception(&vcpu, &(struct hv_event){ .vector = VECTOR_GP }));
}

static void test_events(void **s)
{
	enter(false);
	assert_false(vcpu_nested_takes_event(&vcpu, NESTED_INTERRUPT));
	verdict = NESTED_WINDOW;
	assert_true(vcpu_nested_takes_event(&vcpu, NESTED_INTERRUPT));
	assert_true(l2.want_interrupt_window && !l2.want_nmi_window);
	verdict = NESTED_HELD;
	assert_true(vcpu_nested_takes_event(&vcpu, NESTED_INTERRUPT));
	assert_false(l2.want_interrupt_window);
	vcpu.nmi_pending = true;
	verdict = NESTED_REFLECTED; /* SVM's stays pending over #VMEXIT */
	assert_true(vcpu_nested_takes_event(&vcpu, NESTED_NMI));
	assert_true(vcpu.nmi_pending && vcpu.hv == &l1);
	enter(false);
	verdict = NESTED_TAKEN;
	assert_true(vcpu_nested_takes_event(&vcpu, NESTED_NMI));
	assert_true(!vcpu.nmi_pending && vcpu.hv == &l1);
}

/* L2's halt isn't L1's: an event that leads there ends it. */
static void test_event_ends_halt(void **s)
{
	enter(false);
	vcpu.activity = VCPU_HALTED;
	vcpu.init_pending = true;
	verdict = NESTED_HELD;
	assert_true(vcpu_nested_takes_event(&vcpu, NESTED_INIT));
	assert_int_equal(vcpu.activity, VCPU_HALTED);
	verdict = NESTED_TAKEN;
	assert_true(vcpu_nested_takes_event(&vcpu, NESTED_INIT));
	assert_true(vcpu.hv == &l1 && !vcpu.init_pending && vcpu.activity == VCPU_RUNNABLE);
}

/* An interrupt that comes up between an exit and the next entry leads to L1: L2 must not be entered. */
static void test_interrupt_before_the_next_entry(void **s)
{
	enter(false);
	l2.exit = (struct hv_exit){ .kind = EXIT_CPUID };
	verdict = NESTED_REFLECTED;
	l2.want_interrupt_window = true; /* deliver() is called */
	assert_false(vcpu_exited_l2(&l2));
	assert_true(vcpu.hv == &l1 && vcpu.in_guest == 0 && vcpu.action == ACTION_ENTER);
}

static void test_deadline(void **s)
{
	l1.slice_deadline = 5000;
	vcpu_nested_deadline(&vcpu);
	state.deadline = 3000;
	enter(false);
	assert_int_equal(l2.slice_deadline, 3000);
	l2.slice_deadline = 2000;
	vcpu_nested_deadline(&vcpu);
	assert_int_equal(l2.slice_deadline, 2000);
	reflects = true;
	assert_false(vcpu_exited_l2(&l2));
	assert_int_equal(l1.slice_deadline, 2000);
}

static void test_structures_across_pages(void **s)
{
	uint8_t bytes[4096];

	assert_int_equal(state.env->read(state.context, gpa(0x5800), bytes, sizeof(bytes)), OK);
	assert_true(bytes[0] == 5 && bytes[2047] == 5 && bytes[2048] == 6 && bytes[4095] == 6);
	assert_int_equal(state.env->write(state.context, gpa(0x5800), bytes, sizeof(bytes)), OK);
}

/* Lists of MSRs are loaded at either level, whichever runs. */
static void test_msrs_of_a_level(void **s)
{
	uint64_t value = 1;

	assert_int_equal(state.env->msr(state.context, &l2, 0xc0000103, true, &value), OK);
	assert_true(level_of_msr == &l2 && vcpu.hv == &l1);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, begin, end)

int main(void)
{
	const struct CMUnitTest tests[] = { TEST(test_instructions),
					    TEST(test_waits_for_startup),
					    TEST(test_tables),
					    TEST(test_no_memory_for_a_root),
					    TEST(test_faults_in_the_tables),
					    TEST(test_emulator_meets_refusal),
					    TEST(test_the_apic_page),
					    TEST(test_exits),
					    TEST(test_exceptions_of_handlers),
					    TEST(test_events),
					    TEST(test_event_ends_halt),
					    TEST(test_interrupt_before_the_next_entry),
					    TEST(test_deadline),
					    TEST(test_msrs_of_a_level),
					    TEST(test_structures_across_pages) };

	return cmocka_run_group_tests(tests, NULL, NULL);
}
