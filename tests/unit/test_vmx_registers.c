/* SPDX-License-Identifier: Apache-2.0 */
// sources: vmx/exit.c vmx/convert.c vmx/failure.c
/*
 * Register groups from and to a VMCS that is an array here, over entries that do what the test says: which of the two
 * interrupt shadows an entry is given. Intel SDM vol. 3 section 25.4.2, table 25-3.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <string.h>

#include "arch/x86_64/cpu.h"
#include "arch/x86_64/host.h"
#include "arch/x86_64/registers.h"

#define VMX_INSTRUCTIONS_H
#include "vmx/vmcs.h"

static uint64_t vmcs[0x8000];
static uint64_t vmcs_read(enum vmcs_field field)
{
	return vmcs[field];
}
static void vmcs_write(enum vmcs_field field, uint64_t value)
{
	vmcs[field] = value;
}
#define vmcs_read_hot vmcs_read
#define vmcs_write_hot vmcs_write
#define read_cr2() 0
#define write_cr2(value) ((void)(value))
#include "vmx/registers.c"
#include "vmx/run.c"
#include "vmx/take.c"

struct features features;
uint8_t *direct_map;
struct vmx_capability vmx_capability;
struct vmx_cpu vmx_cpus[MAX_CPUS];
static struct vmx_vcpu v;
static struct {
	uint64_t blocking, rflags;
} exits_with;
static uint64_t entered_with;
static bool enters = true;

uint64_t vmx_enter(struct hv_vcpu *vcpu, struct vmx_entry *entry)
{
	entered_with = vmcs[VMCS_GUEST_INTERRUPTIBILITY];
	vmcs[VMCS_GUEST_INTERRUPTIBILITY] = exits_with.blocking;
	vmcs[VMCS_GUEST_RFLAGS] = exits_with.rflags;
	vmcs[VMCS_EXIT_INSTRUCTION_LENGTH] = 2;
	return enters ? REASON_CPUID : VMX_ABANDONED;
}
void vmx_load_control(struct hv_vcpu *vcpu)
{
}
void vmx_write_control(struct vmx_vcpu *vcpu)
{
}
void vmx_lazy_read_msrs(struct vmx_vcpu *vcpu)
{
}
void vmx_lazy_read_debug(struct vmx_vcpu *vcpu)
{
}
void vmx_lazy_write_msrs(struct vmx_vcpu *vcpu)
{
}
void vmx_lazy_write_debug(const struct vmx_vcpu *vcpu)
{
}
void vmx_make_current(struct vmx_vcpu *vcpu)
{
}
static uint32_t make_missing; /* what vmx_make_ready() fails on */
void vmx_make_ready(struct vmx_vcpu *vcpu)
{
	vcpu->ready = true;
	vcpu->missing = make_missing;
}
void vmx_unload(struct hv_vcpu *vcpu)
{
	fail();
}
void vmx_flush(struct hv_vcpu *vcpu)
{
}
void vmx_mirror_show(const struct vmx_vcpu *vcpu, bool shown)
{
	fail();
}
void vmx_pml_full(struct vmx_vcpu *vcpu)
{
	fail();
}
uint64_t vmx_ept_pointer(const struct vmx_vcpu *vcpu)
{
	return vcpu->hv.slat_root.v;
}
void host_take_nmi(void)
{
	fail();
}

static bool exited(struct hv_vcpu *vcpu)
{
	return false;
}

static void enter(void)
{
	v.hv.exited = exited;
	vmx_run(&v.hv);
	assert_int_equal(v.hv.exit.kind, EXIT_CPUID);
}

/* The emulator has carried out an STI (or a MOV SS: IF stays clear) for the guest. */
static void set_shadow(uint64_t rflags)
{
	vmx_load(&v.hv, REGS_RFLAGS | REGS_SHADOW);
	v.hv.rflags = rflags;
	v.hv.interrupt_shadow = true;
	hv_changed(&v.hv, REGS_RFLAGS | REGS_SHADOW);
}

/* A hypervisor below may hide any field: the vcpu isn't entered, now or later, and the exit names it. */
static void test_a_missing_field_is_no_panic(void **state)
{
	memset(&v, 0, sizeof(v));
	v.hv.exited = exited;
	v.quiet = VMX_NEVER_QUIET;
	make_missing = VMX_MISSING | 0x4828;
	for (unsigned i = 0; i < 2; i++) {
		entered_with = 77;
		v.hv.exit.kind = EXIT_NOTHING;
		vmx_run(&v.hv);
		assert_int_equal(v.hv.exit.kind, EXIT_INVALID_STATE);
		assert_int_equal(v.hv.exit.failure.code, 0x4828);
		assert_int_equal(entered_with, 77);
	}
	make_missing = 0;
}

static void test_an_old_shadow_is_forgotten(void **state)
{
	memset(&v, 0, sizeof(v));
	exits_with.rflags = RFLAGS_IF | 2;
	exits_with.blocking = BLOCKING_MOV_SS;
	enter();
	vmx_load(&v.hv, REGS_SHADOW);
	assert_true(v.hv.interrupt_shadow);
	exits_with.blocking = 0;
	enter();
	set_shadow(RFLAGS_IF | 2);
	enter();
	assert_int_equal(entered_with, BLOCKING_STI);

	/* By way of what was written ourselves. */
	exits_with.rflags = 2;
	exits_with.blocking = BLOCKING_MOV_SS;
	enter();
	vmx_load(&v.hv, REGS_SHADOW);
	v.hv.interrupt_shadow = false;
	hv_changed(&v.hv, REGS_SHADOW);
	vmx_write_back(&v);
	set_shadow(RFLAGS_IF | 2);
	exits_with.blocking = 0;
	enter();
	assert_int_equal(entered_with, BLOCKING_STI);
}

/* One that lasts keeps its kind, and that of MOV SS needs no IF. */
static void test_a_shadow_keeps_its_kind(void **state)
{
	static const uint64_t kinds[] = { BLOCKING_STI, BLOCKING_MOV_SS };

	for (unsigned i = 0; i < 2; i++) {
		memset(&v, 0, sizeof(v));
		exits_with.rflags = RFLAGS_IF | 2;
		exits_with.blocking = kinds[i];
		enter();
		vmx_load(&v.hv, REGS_SHADOW);
		hv_changed(&v.hv, REGS_SHADOW);
		enter();
		assert_int_equal(entered_with, kinds[i]);
	}
	exits_with.blocking = 0;
	enter();
	set_shadow(2);
	enter();
	assert_int_equal(entered_with, BLOCKING_MOV_SS);
}

/* The short way at a CPUID: taken when stepping over it is no more than moving RIP and nobody wants anything of the vcpu. */
/* An NMI came before the entry: it is an exit for it, the event comes back, and what was known of the registers is forgotten. */
static void test_abandoned(void **state)
{
	const struct hv_event event = {
		.kind = EVENT_EXCEPTION, .vector = VECTOR_GP, .has_error_code = true, .error_code = 0x28
	};

	memset(&v, 0, sizeof(v));
	v.hv.exited = exited;
	v.hv.cr0 = CR0_PE;
	v.hv.inject = event;
	v.hv.valid = REGS_ALL;
	exits_with.rflags = RFLAGS_IF | RFLAGS_FIXED;
	enters = false;
	vmx_run(&v.hv);
	enters = true;
	assert_int_equal(v.hv.exit.kind, EXIT_HOST_INTERRUPT);
	assert_memory_equal(&v.hv.exit.interrupted, &event, sizeof(event));
	assert_int_equal(vmcs[VMCS_ENTRY_EVENT] & EVENT_VALID, 0);
	assert_int_equal(v.hv.valid & (REGS_RFLAGS | REGS_CODE), REGS_RFLAGS);
	assert_int_equal(v.hv.rflags, exits_with.rflags);
	v.hv.exit.interrupted.kind = EVENT_NONE;
}

static void test_answers(void **state)
{
	static const struct cpuid_result table[3] = { [2] = { 0x11111111, 0x22222222, 0x33333333, 0x44444444 } };
	static const struct {
		uint64_t rflags, blocking, rip, length, rax, deadline, leaves;
		uint32_t requests;
		bool answered;
	} cases[] = {
		{ 2, 0, 0x1000, 2, 2, UINT64_MAX, BIT(2), 0, true },
		{ 2 | RFLAGS_IF, 0, 0x1000, 2, 0x900000002, UINT64_MAX, BIT(2), 0, true },
		{ 2 | RFLAGS_TF, 0, 0x1000, 2, 2, UINT64_MAX, BIT(2), 0, false },
		{ 2 | RFLAGS_RF, 0, 0x1000, 2, 2, UINT64_MAX, BIT(2), 0, false },
		{ 2 | RFLAGS_IF, BLOCKING_STI, 0x1000, 2, 2, UINT64_MAX, BIT(2), 0, false },
		{ 2, BLOCKING_MOV_SS, 0x1000, 2, 2, UINT64_MAX, BIT(2), 0, false },
		{ 2, 0, 0xfffffffe, 2, 2, UINT64_MAX, BIT(2), 0, false },
		{ 2, 0, 0x1000, 2, 2, UINT64_MAX, BIT(2), 1, false },
		{ 2, 0, 0x1000, 2, 2, 0, BIT(2), 0, false },
		{ 2, 0, 0x1000, 2, 2, UINT64_MAX, BIT(0) | BIT(1), 0, false },
		{ 2, 0, 0x1000, 2, 0x80000002, UINT64_MAX, BIT(2), 0, false },
		{ 2, 0, 0x1000, 2, 66, UINT64_MAX, BIT(2), 0, false },
	};

	for (unsigned i = 0; i < ARRAY_SIZE(cases); i++) {
		uint64_t count = 0;
		struct hv_answers answers = { table, cases[i].leaves, &cases[i].requests, &count, NULL };

		memset(&v, 0, sizeof(v));
		v.hv.slice_deadline = cases[i].deadline;
		v.hv.gpr[GPR_RAX] = cases[i].rax;
		v.hv.gpr[GPR_RDX] = ~UINT64_C(0);
		vmcs[VMCS_GUEST_RFLAGS] = cases[i].rflags;
		vmcs[VMCS_GUEST_INTERRUPTIBILITY] = cases[i].blocking;
		vmcs[VMCS_GUEST_RIP] = cases[i].rip;
		vmcs[VMCS_EXIT_INSTRUCTION_LENGTH] = cases[i].length;
		assert_int_equal(vmx_answer_cpuid(&v.hv), REASON_CPUID);
		v.hv.answers = &answers;
		assert_int_equal(vmx_answer_cpuid(&v.hv), cases[i].answered ? 0 : REASON_CPUID);
		assert_int_equal(count, cases[i].answered);
		assert_int_equal(vmcs[VMCS_GUEST_RIP], cases[i].rip + (cases[i].answered ? cases[i].length : 0));
		assert_int_equal(v.hv.gpr[GPR_RAX], cases[i].answered ? 0x11111111 : cases[i].rax);
		assert_true(v.hv.gpr[GPR_RDX] == (cases[i].answered ? 0x44444444 : ~UINT64_C(0)));
	}
}

static struct {
	unsigned calls, size;
	uint16_t port;
	bool in, go_on, wants_window;
} device;
static bool device_port(struct hv_vcpu *vcpu, uint16_t port, unsigned size, bool in)
{
	assert_true(vcpu->rip == 0x1002 && (vcpu->valid & REGS_RFLAGS) && vcpu->rflags == vmcs[VMCS_GUEST_RFLAGS]);
	device.calls++;
	device.port = port;
	device.size = size;
	device.in = in;
	vcpu->want_interrupt_window = device.wants_window;
	return device.go_on;
}

/* A port's access by the short way is done once, whatever comes of it; where stepping over it is more, it has its exit. */
static void test_ports(void **state)
{
	static const struct {
		uint64_t rflags, blocking, qualification;
		bool go_on, wants_window;
		uint64_t result;
	} cases[] = {
		{ 2, 0, UINT64_C(0x43) << 16, true, false, 0 },
		{ 2, 0, UINT64_C(0x1234) << 16 | IO_IN | 3, true, false, 0 },
		{ 2, 0, UINT64_C(0x43) << 16, false, false, VMX_DONE },
		{ 2, 0, UINT64_C(0x43) << 16, true, true, VMX_DONE },
		{ 2 | RFLAGS_TF, 0, UINT64_C(0x43) << 16, true, false, REASON_IO },
		{ 2 | RFLAGS_IF, BLOCKING_STI, UINT64_C(0x43) << 16, true, false, REASON_IO },
		{ 2, 0, UINT64_C(0x43) << 16 | IO_STRING, true, false, REASON_IO },
		{ 2, 0, UINT64_C(0x43) << 16 | IO_STRING | IO_REP, true, false, REASON_IO },
	};
	static const struct hv_answers answers = { .port = device_port };

	for (unsigned i = 0; i < ARRAY_SIZE(cases); i++) {
		bool done = cases[i].result != REASON_IO;

		memset(&v, 0, sizeof(v));
		memset(&device, 0, sizeof(device));
		v.hv.answers = &answers;
		v.hv.exit.kind = EXIT_HLT;
		device.go_on = cases[i].go_on;
		device.wants_window = cases[i].wants_window;
		vmcs[VMCS_GUEST_RFLAGS] = cases[i].rflags;
		vmcs[VMCS_GUEST_INTERRUPTIBILITY] = cases[i].blocking;
		vmcs[VMCS_EXIT_QUALIFICATION] = cases[i].qualification;
		vmcs[VMCS_GUEST_RIP] = 0x1000;
		vmcs[VMCS_EXIT_INSTRUCTION_LENGTH] = 2;
		assert_true(vmx_answer_port(&v.hv) == cases[i].result);
		assert_int_equal(device.calls, done);
		assert_int_equal(vmcs[VMCS_GUEST_RIP], done ? 0x1002 : 0x1000);
		assert_true(!done || (device.port == cases[i].qualification >> 16 &&
				      device.size == (cases[i].qualification & IO_SIZE) + 1 &&
				      device.in == !!(cases[i].qualification & IO_IN)));
		assert_true(cases[i].result != VMX_DONE || v.hv.exit.kind == EXIT_NOTHING);
	}
}

/* What vmx_code() takes for plain, each case one step away from the plain one. */
static void test_code(void **state)
{
	enum { NOTHING = -1 };
	static const struct {
		int field;
		uint64_t value, cr0, efer;
		unsigned code;
	} cases[] = {
		{ NOTHING, 0, CR0_PE, 0, HV_CODE_FLAT },
		{ NOTHING, 0, CR0_PE | CR0_PG, 0, HV_CODE_FLAT | HV_CODE_PAGED },
		{ NOTHING, 0, CR0_PE | CR0_PG, EFER_LMA, HV_CODE_FLAT | HV_CODE_PAGED },
		{ NOTHING, 0, 0, 0, 0 },
		{ VMCS_SEGMENT(VMCS_GUEST_ES_RIGHTS, SEG_CS), 0xa09b, CR0_PE | CR0_PG, EFER_LMA,
		  HV_CODE_64 | HV_CODE_PAGED },
		{ VMCS_SEGMENT(VMCS_GUEST_ES_RIGHTS, SEG_CS), 0xa09b, CR0_PE | CR0_PG, 0, 0 },
		{ VMCS_SEGMENT(VMCS_GUEST_ES_RIGHTS, SEG_CS), 0x809b, CR0_PE, 0, 0 },
		{ VMCS_SEGMENT(VMCS_GUEST_ES_BASE, SEG_CS), 16, CR0_PE, 0, 0 },
		{ VMCS_SEGMENT(VMCS_GUEST_ES_LIMIT, SEG_CS), 0xfffff, CR0_PE, 0, 0 },
		{ VMCS_SEGMENT(VMCS_GUEST_ES_BASE, SEG_DS), 16, CR0_PE, 0, 0 },
		{ VMCS_SEGMENT(VMCS_GUEST_ES_LIMIT, SEG_DS), 0xfffff, CR0_PE, 0, 0 },
		{ VMCS_SEGMENT(VMCS_GUEST_ES_RIGHTS, SEG_DS), 0xc091, CR0_PE, 0, 0 },  /* read-only */
		{ VMCS_SEGMENT(VMCS_GUEST_ES_RIGHTS, SEG_DS), 0xc097, CR0_PE, 0, 0 },  /* expand-down */
		{ VMCS_SEGMENT(VMCS_GUEST_ES_RIGHTS, SEG_DS), 0xc09b, CR0_PE, 0, 0 },  /* code */
		{ VMCS_SEGMENT(VMCS_GUEST_ES_RIGHTS, SEG_DS), 0x1c093, CR0_PE, 0, 0 }, /* unusable */
	};

	for (unsigned i = 0; i < ARRAY_SIZE(cases); i++) {
		for (unsigned s = SEG_CS; s <= SEG_DS; s++) {
			vmcs[VMCS_SEGMENT(VMCS_GUEST_ES_BASE, s)] = 0;
			vmcs[VMCS_SEGMENT(VMCS_GUEST_ES_LIMIT, s)] = HV_FLAT_LIMIT;
			vmcs[VMCS_SEGMENT(VMCS_GUEST_ES_RIGHTS, s)] = s == SEG_CS ? 0xc09b : 0xc093;
		}
		if (cases[i].field != NOTHING)
			vmcs[cases[i].field] = cases[i].value;
		memset(&v, 0, sizeof(v));
		v.hv.cr0 = cases[i].cr0;
		v.hv.efer = cases[i].efer;
		assert_int_equal(vmx_code(&v.hv), cases[i].code);
		v.hv.changed = REGS_CODE;
		assert_int_equal(vmx_code(&v.hv), 0);
	}
}

/* SPEC_CTRL goes by the processor's lists, of one entry each, and only of a guest that uses it. */
static void test_spec_ctrl_goes_by_lists(void **state)
{
	const struct vmx_msr_entry *guest, *host;

	memset(&v, 0, sizeof(v));
	exits_with.rflags = 2;
	features.host_spec_ctrl = 1;
	hv_changed(&v.hv, REGS_SYSTEM);
	enter();
	assert_true(!vmcs[VMCS_ENTRY_MSR_LOAD_COUNT] && !vmcs[VMCS_EXIT_MSR_STORE_COUNT] &&
		    !vmcs[VMCS_EXIT_MSR_LOAD_COUNT]);
	vmx_load(&v.hv, REGS_SYSTEM);
	v.hv.spec_ctrl = 5;
	hv_changed(&v.hv, REGS_SYSTEM);
	v.spec_ctrl.on = true; /* as vmx_pass_msr() has it */
	enter();
	assert_true(vmcs[VMCS_ENTRY_MSR_LOAD_COUNT] == 1 && vmcs[VMCS_EXIT_MSR_STORE_COUNT] == 1 &&
		    vmcs[VMCS_EXIT_MSR_LOAD_COUNT] == 1);
	assert_int_equal(vmcs[VMCS_ENTRY_MSR_LOAD_ADDRESS], vmcs[VMCS_EXIT_MSR_STORE_ADDRESS]);
	assert_int_equal(vmcs[VMCS_EXIT_MSR_LOAD_ADDRESS] % 16, 0);
	guest = direct_pointer(hpa(vmcs[VMCS_ENTRY_MSR_LOAD_ADDRESS]));
	host = direct_pointer(hpa(vmcs[VMCS_EXIT_MSR_LOAD_ADDRESS]));
	assert_true(guest->msr == 0x48 && guest->value == 5 && host->msr == 0x48 && host->value == 1);
	v.spec_ctrl.guest.value = 7; /* what the next exit stored */
	enter();
	vmx_load(&v.hv, REGS_SYSTEM);
	assert_int_equal(v.hv.spec_ctrl, 7);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_abandoned),
		cmocka_unit_test(test_answers),
		cmocka_unit_test(test_ports),
		cmocka_unit_test(test_code),
		cmocka_unit_test(test_a_missing_field_is_no_panic),
		cmocka_unit_test(test_an_old_shadow_is_forgotten),
		cmocka_unit_test(test_spec_ctrl_goes_by_lists),
		cmocka_unit_test(test_a_shadow_keeps_its_kind),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
