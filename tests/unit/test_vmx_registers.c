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

struct vmx_capability vmx_capability;
struct vmx_cpu vmx_cpus[MAX_CPUS];
static struct vmx_vcpu v;
static struct {
	uint64_t blocking, rflags;
} exits_with;
static uint64_t entered_with;

unsigned vmx_enter(uint64_t gpr[GPR_COUNT], struct vmx_entry *entry)
{
	entered_with = vmcs[VMCS_GUEST_INTERRUPTIBILITY];
	vmcs[VMCS_GUEST_INTERRUPTIBILITY] = exits_with.blocking;
	vmcs[VMCS_GUEST_RFLAGS] = exits_with.rflags;
	vmcs[VMCS_EXIT_REASON] = 10; /* CPUID */
	vmcs[VMCS_EXIT_INSTRUCTION_LENGTH] = 2;
	return 0;
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
void vmx_lazy_write_msrs(const struct vmx_vcpu *vcpu)
{
}
void vmx_lazy_write_debug(const struct vmx_vcpu *vcpu)
{
}
void vmx_make_current(struct vmx_vcpu *vcpu)
{
}
void vmx_make_ready(struct vmx_vcpu *vcpu)
{
	vcpu->ready = true;
}
void vmx_unload(struct hv_vcpu *vcpu)
{
	fail();
}
void vmx_flush(struct hv_vcpu *vcpu)
{
}
void vmx_pml_full(struct vmx_vcpu *vcpu)
{
	fail();
}
uint64_t vmx_ept_pointer(hpa_t root)
{
	return root.v;
}
void host_take_nmi(void)
{
	fail();
}

static void enter(void)
{
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

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_an_old_shadow_is_forgotten),
		cmocka_unit_test(test_a_shadow_keeps_its_kind),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
