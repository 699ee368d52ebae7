/* SPDX-License-Identifier: Apache-2.0 */
// sources: vm/vcpu/control.c vm/vcpu/debug.c vm/vcpu/msr.c vm/vcpu/msr_registers.c vm/vcpu/mtrr.c vm/vcpu/step.c lib/status.c
/*
 * Exits for registers: control and debug registers, MSRs, and the step over the instruction that exited. Memory, the
 * emulator and the local APIC are played by the test; a privileged instruction would end it.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <string.h>

#include "arch/x86_64/features.h"
#include "arch/x86_64/registers.h"
#include "dev/apic/lapic.h"
#include "pgm/walk.h"
#include "vm/machine.h"
#include "vm/emulate/decode.h"
#include "vm/vcpu/vcpu.h"

static enum status no_load(struct hv_vcpu *vcpu, uint32_t groups);
static void load(struct hv_vcpu *vcpu, uint32_t groups)
{
	(void)no_load(vcpu, groups);
}
static void pass_msr(struct hv_vcpu *v, uint32_t msr, bool read, bool write);
static const struct hv_ops ops = { .name = "test", .load = load, .pass_msr = pass_msr };
const struct hv_ops *hv = &ops;
struct hv_caps hv_capabilities = { .slat = SLAT_NPT };

static struct hv_vcpu h;
static struct machine machine;
static struct lapic lapic;
static struct vcpu vcpu;
static bool has_tsc_aux;
static unsigned apic_placed, ends;
static enum status apic_fits;
static unsigned tsc_told, cr8_sets;
static uint64_t tsc_at_telling;

/* The processor's registers are those in h: a load brings nothing new, but it is noted. */
static enum status no_load(struct hv_vcpu *v, uint32_t groups)
{
	v->valid |= groups;
	return OK;
}

enum status guest_load_pdptes(struct pgm *pgm, uint64_t cr3, unsigned physical_bits, uint64_t pdpte[4])
{
	return OK;
}
uint8_t cpuid_physical_bits(const struct cpuid_policy *policy)
{
	return 40;
}
static uint64_t limits[CPUID_LIMITS];
uint64_t cpuid_limit(const struct cpuid_policy *policy, enum cpuid_limit limit)
{
	return limits[limit];
}
struct features features;

static struct {
	uint32_t msr;
	bool read, write;
} passed[32];
static unsigned passes;
static void pass_msr(struct hv_vcpu *v, uint32_t msr, bool read, bool write)
{
	passed[passes].msr = msr;
	passed[passes].read = read;
	passed[passes++].write = write;
}
bool cpuid_has_tsc_aux(const struct cpuid_policy *policy)
{
	return has_tsc_aux;
}

void vcpu_emulate_env(struct vcpu *v, struct emulate_env *env)
{
}
enum emulate_result emulate_decode(struct hv_vcpu *v, struct emulate_env *env, struct instruction *in)
{
	return EMULATE_UNHANDLED;
}
enum emulate_result emulate_read_word(struct hv_vcpu *v, struct emulate_env *env, uint16_t *word)
{
	return EMULATE_UNHANDLED;
}
unsigned emulate_length(struct hv_vcpu *v, struct emulate_env *env, enum emulate_result *result)
{
	*result = EMULATE_DONE;
	return 2;
}
void vcpu_inject_exception(struct vcpu *v, uint8_t vector, bool has_error, uint32_t error)
{
	v->hv->inject = (struct hv_event){
		.kind = EVENT_EXCEPTION, .vector = vector, .has_error_code = has_error, .error_code = error
	};
}
enum exit_action vcpu_inject_gp(struct vcpu *v)
{
	vcpu_inject_exception(v, VECTOR_GP, true, 0);
	return ACTION_ENTER;
}
enum exit_action vcpu_inject_ud(struct vcpu *v)
{
	vcpu_inject_exception(v, VECTOR_UD, false, 0);
	return ACTION_ENTER;
}

/* The local APIC is the vcpu's own: it may have to take the machine's lock itself. */
uint64_t lapic_cr8(const struct lapic *l)
{
	assert_int_equal(machine.lock.held, 0);
	return 5;
}
void lapic_set_cr8(struct lapic *l, uint64_t value)
{
	assert_int_equal(machine.lock.held, 0);
	cr8_sets++;
}
enum status lapic_msr_read(struct lapic *l, uint32_t msr, uint64_t *value)
{
	return BAD_VALUE;
}
enum status lapic_msr_write(struct lapic *l, uint32_t msr, uint64_t value)
{
	if (msr != MSR_APIC_BASE || value & 1)
		return BAD_VALUE;
	l->base = value;
	return OK;
}
enum status board_place_apic(struct machine *m)
{
	assert_int_equal(machine.lock.held, 0); /* PGM waits for the device's handler, which takes it */
	apic_placed++;
	return apic_fits;
}
void machine_end(struct machine *m, enum machine_end end, uint32_t value, const char *text, ...)
{
	assert_int_equal(end, END_ERROR);
	ends++;
}
void lapic_tsc_changed(struct lapic *l)
{
	assert_int_equal(machine.lock.held, 0);
	tsc_told++;
	tsc_at_telling = h.tsc_offset;
}
uint64_t timer_next(const struct timer_queue *queue)
{
	return UINT64_MAX;
}
void machine_timer_moved(struct machine *m)
{
}

/* 64-bit mode, ring 0, behind an exit of an instruction of two bytes at 0x1000. */
static void set_up(void)
{
	memset(&h, 0, sizeof(h));
	memset(&vcpu, 0, sizeof(vcpu));
	vcpu.hv = vcpu.l1 = &h;
	vcpu.machine = &machine;
	vcpu.lapic = &lapic;
	machine.vcpu[0] = &vcpu;
	lock_init(&machine.lock, RANK_MACHINE, "machine");
	h.cr0 = CR0_PE | CR0_PG | CR0_ET;
	h.cr4 = CR4_PAE;
	h.efer = EFER_LME | EFER_LMA;
	h.rflags = 2;
	h.segment[SEG_CS].attributes = 0xa09b;
	h.segment[SEG_SS].attributes = 0xc093;
	h.dr[6] = 0xffff0ff0;
	h.dr[7] = 0x400;
	h.rip = 0x1000;
	h.exit.length = 2;
	has_tsc_aux = false;
	passes = 0;
	limits[CPUID_CR4] = CR4_PAE | CR4_DE | CR4_PGE;
	limits[CPUID_EFER] = EFER_LME | EFER_LMA | EFER_NXE;
	limits[CPUID_XCR0] = 7;
	tsc_told = cr8_sets = 0;
	apic_placed = ends = 0;
	apic_fits = OK;
}

static bool faulted(uint8_t vector)
{
	return h.inject.kind == EVENT_EXCEPTION && h.inject.vector == vector && h.rip == 0x1000;
}

/* Linux' interface for guests of KVM: one MSR, and the clock that follows the TSC. */
static enum status pv_status;
static unsigned clocks_written, parked;
enum status pv_write_msr(struct vcpu *v, uint32_t msr, uint64_t *value)
{
	return pv_status;
}
enum status pv_clock_write(struct vcpu *v)
{
	assert_int_equal(machine.lock.held, 0);
	clocks_written++;
	return pv_status;
}
enum exit_action vcpu_park(struct vcpu *v, const char *why)
{
	parked++;
	return ACTION_ENTER;
}
void vcpu_got_on(struct vcpu *v)
{
}

static void write_msr(uint32_t msr, uint64_t value)
{
	set_up();
	h.gpr[GPR_RCX] = msr;
	h.gpr[GPR_RAX] = (uint32_t)value;
	h.gpr[GPR_RDX] = value >> 32;
	assert_int_equal(exit_msr_write(&vcpu), ACTION_ENTER);
}

static void dr_access(unsigned number, bool write, uint64_t value)
{
	h.exit.dr.number = (uint8_t)number;
	h.exit.dr.gpr = GPR_RAX;
	h.exit.dr.write = write;
	h.exit.dr.decoded = true;
	h.gpr[GPR_RAX] = value;
	assert_int_equal(exit_dr_access(&vcpu), ACTION_ENTER);
}

/* A processor without RDTSCP and RDPID has no such register either: the host must not touch it for the guest. */
static void test_no_tsc_aux(void **state)
{
	write_msr(0xc0000103, 7);
	assert_true(faulted(VECTOR_GP));
	set_up();
	h.gpr[GPR_RCX] = 0xc0000103;
	assert_int_equal(exit_msr_read(&vcpu), ACTION_ENTER);
	assert_true(faulted(VECTOR_GP));
}

/* Another CPU may be raising an interrupt at that moment. */
static void test_cr8_without_lock(void **state)
{
	for (unsigned write = 0; write < 2; write++) {
		set_up();
		h.exit.cr.number = 8;
		h.exit.cr.gpr = GPR_RBX;
		h.exit.cr.write = write;
		h.exit.cr.decoded = true;
		h.gpr[GPR_RBX] = 3;
		assert_int_equal(exit_cr_access(&vcpu), ACTION_ENTER);
		assert_int_equal(h.rip, 0x1002);
		assert_int_equal(cr8_sets, write);
		assert_int_equal(h.gpr[GPR_RBX], write ? 3 : 5);
		assert_int_equal(machine.lock.held, 0);
	}
}

/* A deadline lies elsewhere once the counter has been set. */
static void test_tsc_write_is_told(void **state)
{
	write_msr(0x10, 5000);
	assert_int_equal(h.rip, 0x1002);
	assert_int_equal(tsc_told, 1);
	assert_int_equal(tsc_at_telling, h.tsc_offset);
	assert_true(h.tsc_changed);
	write_msr(0x3b, 100);
	assert_int_equal(tsc_told, 1);
	assert_int_equal(h.tsc_offset, 100);
	assert_int_equal(tsc_at_telling, 100);
	assert_int_equal(vcpu.msr.tsc_adjust, 100);
	assert_int_equal(machine.lock.held, 0);
}

/* DR7.GD: the access traps instead, and says so in DR6. SDM vol. 3 section 18.2.4. */
static void test_general_detect(void **state)
{
	for (unsigned write = 0; write < 2; write++) {
		set_up();
		h.dr[7] |= BIT(13);
		dr_access(3, write, 0x1234);
		assert_true(faulted(VECTOR_DB));
		assert_int_equal(h.dr[6] & BIT(13), BIT(13));
		assert_int_equal(h.dr[7], 0x400);
		assert_true(h.rflags & RFLAGS_RF);
		assert_int_equal(h.dr[3], 0);
		assert_int_equal(h.gpr[GPR_RAX], 0x1234);
		assert_true(h.changed & REGS_DEBUG);
	}
}

static void test_debug_registers(void **state)
{
	set_up();
	dr_access(7, true, UINT64_C(0x100000000));
	assert_true(faulted(VECTOR_GP));
	set_up();
	h.segment[SEG_CS].attributes = 0xc09b; /* outside 64-bit mode the operand has 32 bits */
	dr_access(7, true, UINT64_C(0x100000001));
	assert_int_equal(h.inject.kind, EVENT_NONE);
	assert_int_equal(h.dr[7], 0x401);
	h.exit.length = 2;
	dr_access(0, true, UINT64_C(0xffffffff12345678));
	assert_int_equal(h.dr[0], 0x12345678);
	set_up();
	h.cr4 |= CR4_DE;
	dr_access(4, false, 0);
	assert_true(faulted(VECTOR_UD));
	set_up();
	dr_access(4, false, 0);
	assert_int_equal(h.gpr[GPR_RAX], 0xffff0ff0);
}

/* An instruction done for the guest ends as any other: RF clear, and the single-step trap where TF was set. */
static void test_step(void **state)
{
	for (unsigned known = 0; known < 4; known++) {
		set_up();
		h.exit.length = known & 1 ? 2 : 0;
		h.valid = known & 2 ? REGS_SHADOW | REGS_RFLAGS : 0;
		h.rflags |= RFLAGS_TF | RFLAGS_RF;
		assert_true(vcpu_skip(&vcpu));
		assert_int_equal(h.rip, 0x1002);
		assert_int_equal(h.inject.kind, EVENT_EXCEPTION);
		assert_int_equal(h.inject.vector, VECTOR_DB);
		assert_false(h.inject.has_error_code);
		assert_int_equal(h.dr[6], 0xffff4ff0);
		assert_false(h.rflags & RFLAGS_RF);
		assert_int_equal(h.changed & (REGS_DEBUG | REGS_RFLAGS), REGS_DEBUG | REGS_RFLAGS);
		set_up();
		h.exit.length = known & 1 ? 2 : 0;
		h.valid = known & 2 ? REGS_SHADOW | REGS_RFLAGS : 0;
		assert_true(vcpu_skip(&vcpu));
		assert_int_equal(h.rip, 0x1002);
		assert_int_equal(h.inject.kind, EVENT_NONE);
		assert_int_equal(h.changed, 0);
	}
}

/* The base has as many bits as a physical address, and the page follows it; where it can't the machine ends. */
static void test_apic_base(void **state)
{
	lapic.base = 0xfee00900;
	write_msr(0x1b, UINT64_C(0x100fee00900));
	assert_true(faulted(VECTOR_GP));
	assert_true(lapic.base == 0xfee00900 && !apic_placed);
	write_msr(0x1b, 0xfee00901); /* reserved */
	assert_true(faulted(VECTOR_GP) && !apic_placed);
	write_msr(0x1b, UINT64_C(0xfffeb00900));
	assert_int_equal(h.inject.kind, EVENT_NONE);
	assert_true(lapic.base == UINT64_C(0xfffeb00900) && apic_placed == 1 && !ends);
	set_up();
	apic_fits = CONFLICT;
	h.gpr[GPR_RCX] = 0x1b;
	h.gpr[GPR_RAX] = 0x100900;
	assert_int_equal(exit_msr_write(&vcpu), ACTION_ENTER); /* machine_end() has asked the vcpu to leave */
	assert_true(apic_placed == 1 && ends == 1);
}

/* Paging on with EFER.LME: long mode, which Intel's processors enter with a 32-bit TSS only. */
static void test_long_mode_needs_its_tss(void **state)
{
	static const struct {
		enum slat_kind slat;
		uint16_t tr;
		bool enters;
	} cases[] = {
		{ SLAT_EPT, 0x8b, true }, { SLAT_EPT, 0x83, false }, { SLAT_EPT, 0x81, false }, { SLAT_NPT, 0x83, true }
	};

	for (unsigned i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		set_up();
		hv_capabilities.slat = cases[i].slat;
		h.cr0 = CR0_PE | CR0_ET;
		h.efer = EFER_LME;
		h.segment[SEG_CS].attributes = 0xc09b;
		h.segment[SEG_TR].attributes = cases[i].tr;
		h.exit.cr.number = 0;
		h.exit.cr.gpr = GPR_RAX;
		h.exit.cr.write = h.exit.cr.decoded = true;
		h.gpr[GPR_RAX] = CR0_PE | CR0_ET | CR0_PG;
		assert_int_equal(exit_cr_access(&vcpu), ACTION_ENTER);
		assert_int_equal(faulted(VECTOR_GP), !cases[i].enters);
		assert_int_equal((h.efer & EFER_LMA) != 0, cases[i].enters);
		assert_int_equal((h.cr0 & CR0_PG) != 0, cases[i].enters);
	}
	hv_capabilities.slat = SLAT_NPT;
	memset(&h.exit, 0, sizeof(h.exit));
}

static bool reads(uint32_t msr, uint64_t *value)
{
	set_up();
	h.gpr[GPR_RCX] = msr;
	assert_int_equal(exit_msr_read(&vcpu), ACTION_ENTER);
	*value = h.gpr[GPR_RDX] << 32 | h.gpr[GPR_RAX];
	return !faulted(VECTOR_GP);
}

static bool writes(uint32_t msr, uint64_t value)
{
	write_msr(msr, value);
	return !faulted(VECTOR_GP);
}

/* SPEC_CTRL is the guest's own from its first use on, and only what CPUID has told it of can be set. */
static void test_spec_ctrl(void **state)
{
	uint64_t value;

	limits[CPUID_SPEC_CTRL] = 0;
	assert_false(reads(0x48, &value));
	assert_false(writes(0x48, 0));
	limits[CPUID_SPEC_CTRL] = 5;
	assert_true(reads(0x48, &value) && value == 0);
	assert_true(writes(0x48, 0) && passes == 0);
	assert_false(writes(0x48, 2));
	assert_int_equal(passes, 0);
	assert_true(writes(0x48, 4));
	assert_true(passes == 1 && passed[0].msr == 0x48 && passed[0].read && passed[0].write);
	assert_true(h.spec_ctrl == 4 && (h.changed & REGS_SYSTEM));
	passes = 0;
	msr_reset(&vcpu);
	assert_true(passes == 1 && passed[0].msr == 0x48 && !passed[0].read && !passed[0].write);
	/* Commands that the guest has go straight to the processor; those that it hasn't, and reads, fault. */
	for (unsigned i = 0; i < 2; i++) {
		set_up();
		limits[i ? CPUID_FLUSH_CMD : CPUID_PRED_CMD] = 1;
		limits[i ? CPUID_PRED_CMD : CPUID_FLUSH_CMD] = 0;
		msr_pass_through(&vcpu);
		for (unsigned k = 0; k < passes; k++) {
			assert_int_not_equal(passed[k].msr, 0x48);
			if (passed[k].msr == 0x49 || passed[k].msr == 0x10b)
				assert_true(!passed[k].read &&
					    passed[k].write == (passed[k].msr == (i ? 0x10b : 0x49)));
		}
	}
	assert_false(reads(0x49, &value) || writes(0x49, 1) || reads(0x10b, &value) || writes(0x10b, 1));
	limits[CPUID_ARCH_CAPABILITIES] = 0;
	assert_false(reads(0x10a, &value));
	limits[CPUID_ARCH_CAPABILITIES] = 0x61;
	assert_true(reads(0x10a, &value) && value == 0x61);
	assert_false(writes(0x10a, 0x61));
}

/* Locked, read-only, write-only, the other vendor's: a guest is told by #GP as a processor would. */
static void test_which_msrs(void **state)
{
	enum { I_READ = 1, I_WRITE = 2, A_READ = 4, A_WRITE = 8, READ = 5, WRITE = 10 };
	static const struct {
		uint32_t msr;
		uint64_t value;
		unsigned may;
	} cases[] = {
		{ 0x17, 0, I_READ },
		{ 0x2a, 0, I_READ | I_WRITE },
		{ 0x34, 0, I_READ },
		{ 0x3a, 1, I_READ }, /* locked */
		{ 0x3a, 5, I_READ },
		{ 0x79, 0, I_WRITE },
		{ 0x8b, 0, READ | I_WRITE },
		{ 0xc1, 7, I_READ | I_WRITE },
		{ 0xce, 0, I_READ },
		{ 0xfe, 0x508, READ },
		{ 0x179, 0, READ },
		{ 0x17a, 0, READ | WRITE },
		{ 0x17a, 8, READ },
		{ 0x186, 7, I_READ | I_WRITE },
		{ 0x198, 0, I_READ },
		{ 0x1a0, 1 | 3 << 11, I_READ | I_WRITE },
		{ 0x1a0, 1 << 22, I_READ },
		{ 0x1a0, UINT64_C(1) << 34, I_READ },
		{ 0x1a0, 2, I_READ },
		{ 0x1d9, 3, READ | WRITE },
		{ 0x1d9, 1 << 6, READ },
		{ 0x611, 0, I_READ },
		{ 0xc0000080, 0, READ }, /* LME may not change under paging */
		{ 0xc0000082, UINT64_C(1) << 47, READ },
		{ 0xc0010015, 0, A_READ | A_WRITE },
		{ 0xc0010114, 0, A_READ | A_WRITE },
		{ 0xc0010117, 0, 0 }, /* SVM's, which no guest has */
		{ 0xc0011029, 2, A_READ | A_WRITE },
		{ 0x480, 0, 0 },
		{ 0x122, 0, 0 },
		{ 0xc001011f, 0, 0 },
	};
	uint64_t value;

	for (unsigned i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		for (unsigned amd = 0; amd < 2; amd++) {
			unsigned may = amd ? cases[i].may >> 2 : cases[i].may & 3;

			features.amd = amd;
			machine.msr_complaints = 8;
			if (reads(cases[i].msr, &value) != (may & 1) ||
			    writes(cases[i].msr, cases[i].value) != (may >> 1))
				fail_msg("MSR %#x, value %#lx, AMD %u", cases[i].msr, cases[i].value, amd);
		}
	}
	features = (struct features){ .amd = true, .microcode = 0x0a001173 };
	assert_true(reads(0x8b, &value) && value == 0x0a001173);
	assert_true(reads(0xc0011029, &value) && value == 0);
	features.lfence_serialises = true;
	assert_true(reads(0xc0011029, &value) && value == 2);
	features.amd = false;
}

/* Reserved types, bits and addresses of memory types. */
static void test_memory_types(void **state)
{
	static const struct {
		uint32_t msr;
		uint64_t value;
		bool good;
	} cases[] = {
		{ 0x200, 0x80000006, true },
		{ 0x200, 0x80000002, false },
		{ 0x200, 0x80000007, false },
		{ 0x200, 0x80000106, false },
		{ 0x20e, UINT64_C(0xfffffff000), true },
		{ 0x20e, UINT64_C(0x10000000000), false }, /* 40 bits of address */
		{ 0x201, UINT64_C(0xff80000800), true },
		{ 0x201, UINT64_C(0xff80000400), false },
		{ 0x20f, UINT64_C(0x1ff80000800), false },
		{ 0x250, UINT64_C(0x0606060606060606), true },
		{ 0x26f, UINT64_C(0x0504010006060606), true },
		{ 0x258, UINT64_C(0x0606030606060606), false },
		{ 0x26f, UINT64_C(0x0706060606060606), false },
		{ 0x2ff, 0xc06, true },
		{ 0x2ff, 0xc02, false },
		{ 0x2ff, 0x1c06, false },
		{ 0x2ff, 0xe06, false },
		{ 0x277, UINT64_C(0x0007040600070406), true },
		{ 0x277, UINT64_C(0x0007040600070402), false },
		{ 0x277, UINT64_C(0x0807040600070406), false },
	};
	uint64_t value;

	for (unsigned i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
		if (writes(cases[i].msr, cases[i].value) != cases[i].good)
			fail_msg("MSR %#x, value %#lx", cases[i].msr, cases[i].value);
	set_up();
	msr_reset(&vcpu);
	h.gpr[GPR_RCX] = 0x2ff;
	assert_int_equal(exit_msr_read(&vcpu), ACTION_ENTER);
	assert_int_equal(h.gpr[GPR_RAX], 0xc06);
	assert_true(reads(0x200, &value));
}

/* Without memory it is done again, and goes through then; what else is wrong is #GP. */
static void test_pv_msrs(void **state)
{
	clocks_written = parked = 0;
	write_msr(0x3b, 100);
	write_msr(0x10, 100);
	assert_int_equal(clocks_written, 2);
	pv_status = NO_MEMORY;
	write_msr(0x4b564d01, 0x1001);
	write_msr(0x3b, 200);
	assert_int_equal(parked, 2);
	assert_int_equal(h.rip, 0x1000);
	assert_int_equal(h.inject.kind, EVENT_NONE);
	pv_status = DENIED;
	write_msr(0x4b564d01, 0x1003);
	assert_true(faulted(VECTOR_GP));
	pv_status = OK;
	write_msr(0x4b564dff, 0);
	assert_int_equal(h.rip, 0x1002);
	assert_int_equal(parked, 2);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_no_tsc_aux),        cmocka_unit_test(test_cr8_without_lock),
		cmocka_unit_test(test_tsc_write_is_told), cmocka_unit_test(test_general_detect),
		cmocka_unit_test(test_debug_registers),   cmocka_unit_test(test_step),
		cmocka_unit_test(test_apic_base),         cmocka_unit_test(test_long_mode_needs_its_tss),
		cmocka_unit_test(test_spec_ctrl),         cmocka_unit_test(test_which_msrs),
		cmocka_unit_test(test_memory_types),      cmocka_unit_test(test_pv_msrs),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
