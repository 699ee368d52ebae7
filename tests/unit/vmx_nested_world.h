/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A processor with two VMCSs that are arrays, an L1 with a little memory, and the whole of vmx/nested/ between them. run() of
 * either level isn't here: a test says what an exit left in the VMCS.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "arch/x86_64/hv_nested.h"
#include "arch/x86_64/registers.h"
#include "common/nested_parts.h"
#include "lib/bits.h"

/* The processor. */
#define ARCH_CPU_H
struct cpuid_result {
	uint32_t eax, ebx, ecx, edx;
};
static uint64_t test_tsc;
static uint64_t rdtsc(void)
{
	return test_tsc;
}
static uint64_t test_msr[0x1000];
static uint64_t rdmsr(uint32_t msr)
{
	return test_msr[msr & 0xfff];
}
static unsigned msr_writes, debug_writes;
static uint64_t test_dr[8];
static void wrmsr(uint32_t msr, uint64_t value)
{
	msr_writes++;
	test_msr[msr & 0xfff] = value;
}

#define VMX_INSTRUCTIONS_H
#include "vmx/vmcs.h"

static uint64_t vmcs_of[3][0x8000], *vmcs; /* VMCS01, VMCS02, the mirror; the current one */
static unsigned writes, flushes;
static uint64_t vmcs_read(enum vmcs_field field)
{
	return vmcs[field];
}
static void vmcs_write(enum vmcs_field field, uint64_t value)
{
	writes++;
	vmcs[field] = value;
}
#define vmcs_read_hot vmcs_read
#define vmcs_write_hot vmcs_write
#define INVALIDATE_SINGLE 1u
#define INVALIDATE_ALL 2u
static void debug_registers_read(uint64_t dr[8])
{
	memcpy(dr, test_dr, 7 * sizeof(*dr));
}
static void debug_registers_write(const uint64_t dr[8])
{
	debug_writes++;
	memcpy(test_dr, dr, 7 * sizeof(*dr));
}

/* Regions are at 1 and 2; the mirror is a page. */
static bool vmptrld(hpa_t region)
{
	vmcs = vmcs_of[region.v > 2 ? 2 : region.v - 1];
	return true;
}
static bool vmclear(hpa_t region)
{
	return true;
}

#include "vmx/control.c"
#include "vmx/lazy.c"
#include "vmx/registers.c"
#undef RFLAGS_FIXED
#define fields nested_field_table
#include "vmx/nested/clock.c"
#include "vmx/nested/enter.c"
#undef CR0_UNCHANGED
#define fixed fixed_at_exits
#include "vmx/nested/leave.c"
#include "vmx/nested/instruction.c"
#include "vmx/nested/apic_page.c"
#include "vmx/nested/judge.c"
#include "vmx/nested/mirror.c"
#include "vmx/nested/msr_list.c"
#include "vmx/nested/pending.c"
#include "vmx/nested/region.c"
#include "vmx/nested/wants.c"
#include "vmx/nested/nested.c"

struct features features = { .linear_bits = 48, .physical_bits = 40 };
uint8_t *direct_map = (uint8_t *)PAGE_SIZE; /* anywhere but at 0, from where a compiler counts no address */
struct vmx_capability vmx_capability;
struct vmx_cpu vmx_cpus[MAX_CPUS];
static const struct hv_ops processor = { .load = vmx_load };
const struct hv_ops *hv = &processor;
static struct vmx_vcpu *l1v, *l2v;

void vmx_make_current(struct vmx_vcpu *v)
{
	struct vmx_vcpu **current = &vmx_cpus[0].current;

	if (*current && *current != v)
		vmx_not_ready(*current);
	*current = v;
	vmcs = vmcs_of[v == l2v];
}
void vmx_make_ready(struct vmx_vcpu *v)
{
	vmx_make_current(v);
	vmx_lazy_acquire(v);
	v->ready = true;
}
void vmx_flush_linear(const struct vmx_vcpu *v)
{
	flushes |= 1u << (v == l2v);
}
uint64_t vmx_ept_pointer(const struct vmx_vcpu *vcpu)
{
	return vcpu->hv.slat_root.v;
}
struct account host_account;
enum status table_alloc(struct account *account, hpa_t *frame)
{
	*frame = direct_address(aligned_alloc(PAGE_SIZE, PAGE_SIZE));
	return OK;
}
void vmx_free_frame(hpa_t frame)
{
	if (!hpa_is_none(frame))
		free(direct_pointer(frame));
}
enum status vmx_create(struct hv_vcpu **vcpu)
{
	struct vmx_vcpu *v = calloc(1, sizeof(*v));

	v->msr_bitmap = direct_address(aligned_alloc(PAGE_SIZE, PAGE_SIZE));
	vmx_msr_bitmap_init(v);
	v->mirror = HPA_NONE;
	v->hv.dr[6] = DR6_RESET;
	*vcpu = &v->hv;
	return OK;
}
void vmx_destroy(struct hv_vcpu *vcpu)
{
	free(direct_pointer(vmx_of(vcpu)->msr_bitmap));
	vmx_free_frame(vmx_of(vcpu)->mirror);
	free(vmx_of(vcpu));
}

/* L1's machine. */
#define L1_SIZE 0x20000u
#define REGION_VMXON 0x1000u
#define REGION_A 0x2000u
#define REGION_B 0x3000u
#define MSR_BITMAP_PAGE 0x4000u
#define IO_BITMAP_PAGE 0x5000u /* two */
#define VIRTUAL_APIC_PAGE 0x7000u
#define MSR_LIST 0x8000u
#define EPT_ROOT 0x9000u
#define OPERAND 0xa000u
static uint8_t l1_memory[L1_SIZE];
static bool flips;                /* another vcpu of L1's changes what has just been read */
static enum status memory_status; /* not OK: what each access gives */
static unsigned invalidations;
static gpa_t invalidated;
static int waiting_vector;

void host_kick(unsigned cpu, bool nmi)
{
	fail();
}

static enum status l1_read(void *context, gpa_t from, void *to, size_t size)
{
	if (memory_status != OK || from.v >= L1_SIZE || size > L1_SIZE - from.v)
		return memory_status != OK ? memory_status : BAD_ADDRESS;
	memcpy(to, l1_memory + from.v, size);
	for (size_t i = 0; flips && i < size; i++)
		l1_memory[from.v + i] ^= 0xff;
	return OK;
}
static enum status l1_write(void *context, gpa_t to, const void *from, size_t size)
{
	if (memory_status != OK || to.v >= L1_SIZE || size > L1_SIZE - to.v)
		return memory_status != OK ? memory_status : BAD_ADDRESS;
	memcpy(l1_memory + to.v, from, size);
	return OK;
}
static struct hv_nested_env env;
static enum status l1_parts(void *context, gpa_t page, void *copy, const struct hv_nested_part *parts, unsigned count,
			    bool write)
{
	return parts_by(&env, context, page, copy, parts, count, write);
}
static enum status l1_read_linear(void *context, gva_t from, void *to, unsigned size)
{
	return l1_read(context, gpa(from.v), to, size);
}
static enum status l1_write_linear(void *context, gva_t to, const void *from, unsigned size)
{
	return l1_write(context, gpa(to.v), from, size);
}
static void l1_invalidate(void *context, const struct hv_nested_slat *slat)
{
	invalidations++;
	invalidated = slat ? slat->root : NO_VMCS;
}
static int l1_acknowledge(void *context)
{
	return waiting_vector;
}

/* As vm/ has it, for four of them. */
static enum status l1_msr(void *context, struct hv_vcpu *level, uint32_t msr, bool write, uint64_t *value)
{
	uint64_t *at = msr == MSR_KERNEL_GS_BASE ? &level->kernel_gs_base
		       : msr == MSR_LSTAR        ? &level->lstar
		       : msr == MSR_SYSENTER_CS  ? &level->sysenter_cs
						 : &test_msr[0];

	if (msr == 0x9999)
		return NOT_FOUND;
	if (write && msr == MSR_LSTAR && sign_extend(*value, 48) != *value)
		return DENIED;
	hv_need(level, REGS_SYSTEM);
	if (!write) {
		*value = *at;
		return OK;
	}
	*at = *value;
	hv_changed(level, REGS_SYSTEM);
	return OK;
}

#define CR4_L1 (BITS(10, 0) | CR4_VMXE | CR4_PCIDE | CR4_OSXSAVE)
static struct hv_nested_env env = { .read = l1_read,
				    .write = l1_write,
				    .parts = l1_parts,
				    .read_linear = l1_read_linear,
				    .write_linear = l1_write_linear,
				    .invalidate = l1_invalidate,
				    .acknowledge = l1_acknowledge,
				    .msr = l1_msr,
				    .cr4_valid = CR4_L1,
				    .efer_valid = EFER_SCE | EFER_LME | EFER_LMA | EFER_NXE,
				    .physical_bits = 40 };
static struct vmx_nested *n;
static struct hv_vcpu *l1, *l2;

static void set_flat(uint64_t *at, uint64_t code)
{
	for (unsigned i = 0; i < SEG_LDTR; i++) {
		at[VMCS_SEGMENT(VMCS_GUEST_ES_RIGHTS, i)] = i == SEG_CS ? code : 0xc093;
		at[VMCS_SEGMENT(VMCS_GUEST_ES_LIMIT, i)] = 0xffffffff;
	}
}

static bool host_shadows;

/* A 64-bit L1 of ring 0, VMX not yet on. */
static void open_world(void)
{
	struct hv_nested *made;

	memset(vmcs_of, 0, sizeof(vmcs_of));
	memset(vmx_cpus, 0, sizeof(vmx_cpus));
	memset(l1_memory, 0, sizeof(l1_memory));
	memory_status = OK;
	waiting_vector = -1;
	test_tsc = 1000000;
	vmx_capability = (struct vmx_capability){
		.primary = PRIMARY_HLT | PRIMARY_TSC_OFFSET | PRIMARY_MSR_BITMAP | PRIMARY_SECONDARY |
			   PRIMARY_UNCONDITIONAL_IO,
		.secondary = SECONDARY_EPT | SECONDARY_UNRESTRICTED | SECONDARY_VPID | SECONDARY_RDTSCP | SECONDARY_PML,
		.may_primary = PRIMARY_HLT | PRIMARY_INVLPG | PRIMARY_MWAIT | PRIMARY_RDPMC | PRIMARY_RDTSC |
			       PRIMARY_CR3_LOAD | PRIMARY_CR3_STORE | PRIMARY_MOV_DR | PRIMARY_MONITOR | PRIMARY_PAUSE,
		.may_secondary = SECONDARY_RDTSCP | SECONDARY_DESCRIPTOR_TABLES | SECONDARY_TSC_SCALING,
		.cr0_fixed0 = 0x80000021,
		.cr0_fixed1 = 0xffffffff,
		.cr4_fixed0 = CR4_VMXE,
		.cr4_fixed1 = BITS(22, 0),
		.ept_vpid = EPT_ACCESSED_DIRTY | EPT_1G,
		.misc = 5,
		.pat = true,
		.timer = true,
		.shadowing = host_shadows
	};
	assert_int_equal(vmx_create(&l1), OK);
	l1v = vmx_of(l1);
	assert_int_equal(vmx_nested_ops.create(l1, &env, NULL, &made), OK);
	n = nested_of(made);
	l2 = made->l2;
	l2v = vmx_of(l2);
	l1v->vmcs = hpa(1);
	l2v->vmcs = hpa(2);
	l1v->vpid = 1;
	l2v->vpid = 2;
	vmx_make_ready(l1v);
	l1->cr0 = CR0_PE | CR0_PG | CR0_NE | CR0_ET;
	l1->cr4 = CR4_PAE | CR4_VMXE;
	l1->efer = EFER_LME | EFER_LMA | EFER_NXE;
	set_flat(vmcs, 0xa09b);
	vmcs[VMCS_GUEST_RFLAGS] = 2;
	vmcs[VMCS_GUEST_CR0] = l1->cr0;
	vmcs[VMCS_GUEST_CR4] = l1->cr4;
	vmcs[VMCS_GUEST_PAT] = 0x0007040600070406;
	vmcs[VMCS_GUEST_DR7] = 0x455;
}

static void close_world(void)
{
	vmx_nested_ops.destroy(&n->base);
	vmx_destroy(l1);
}

#define INFO_MEMORY (2u << 7 | (unsigned)SEG_DS << 15 | INFO_NO_INDEX | INFO_NO_BASE)
#define INFO_REGISTERS (1u << 10)

/* L1 executes one. The operand, if in memory, is at OPERAND; registers by `info`. */
static enum hv_nested_step execute(unsigned reason, uint64_t info)
{
	vmx_make_ready(l1v);
	l1->exit = (struct hv_exit){ .kind = EXIT_NESTED, .length = 3, .raw_reason = reason };
	l1->valid = 0;
	if (l1->changed)
		vmx_write_back(l1v);
	vmcs[VMCS_EXIT_INSTRUCTION_INFO] = info;
	vmcs[VMCS_EXIT_QUALIFICATION] = OPERAND;
	return vmx_nested_ops.instruction(&n->base);
}

#define FLAGS_OF(r) ((r) & (RFLAGS_CF | RFLAGS_ZF))
/* NESTED_DONE with these flags. */
static void assert_flags(enum hv_nested_step step, uint64_t flags)
{
	assert_int_equal(step, NESTED_DONE);
	assert_int_equal(FLAGS_OF(l1->rflags), flags);
}

static void set_operand(uint64_t first, uint64_t second)
{
	const uint64_t both[2] = { first, second };

	memcpy(l1_memory + OPERAND, both, sizeof(both));
}

static enum hv_nested_step with_pointer(unsigned reason, uint64_t pointer)
{
	set_operand(pointer, 0);
	return execute(reason, INFO_MEMORY);
}

/* RAX is the value, RBX the field. */
static enum hv_nested_step vm_write(uint64_t field, uint64_t value)
{
	l1->gpr[GPR_RAX] = value;
	l1->gpr[GPR_RBX] = field;
	return execute(REASON_VMWRITE, INFO_REGISTERS | GPR_RAX << 3 | (uint64_t)GPR_RBX << 28);
}

static enum hv_nested_step vm_read(uint64_t field)
{
	l1->gpr[GPR_RBX] = field;
	return execute(REASON_VMREAD, INFO_REGISTERS | GPR_RAX << 3 | (uint64_t)GPR_RBX << 28);
}

static void must_write(uint64_t field, uint64_t value)
{
	assert_flags(vm_write(field, value), 0);
}

static uint64_t must_read(uint64_t field)
{
	assert_flags(vm_read(field), 0);
	return l1->gpr[GPR_RAX];
}

static void set_region(uint32_t at)
{
	const uint32_t revision = VMCS12_REVISION;

	memcpy(l1_memory + at, &revision, sizeof(revision));
}

/* VMX on, region A current. */
static void switch_on(void)
{
	set_region(REGION_VMXON);
	set_region(REGION_A);
	set_region(REGION_B);
	assert_flags(with_pointer(REASON_VMXON, REGION_VMXON), 0);
	assert_flags(with_pointer(REASON_VMCLEAR, REGION_A), 0);
	assert_flags(with_pointer(REASON_VMPTRLD, REGION_A), 0);
}

#define PIN_LEAST 0x16u
#define PRIMARY_LEAST 0x04006172u
#define EXIT_LEAST (0x36dfbu | EXITC_HOST_64)
#define ENTRY_LEAST (0x11fbu | ENTRYC_IA32E)

/* All that a 64-bit L2 needs. */
static const struct {
	uint16_t field;
	uint64_t value;
} plain[] = {
	{ VMCS_PIN_CONTROLS, PIN_LEAST },
	{ VMCS_PRIMARY_CONTROLS, PRIMARY_LEAST | PRIMARY_SECONDARY },
	{ VMCS_SECONDARY_CONTROLS, SECONDARY_EPT | SECONDARY_VPID },
	{ VMCS_EXIT_CONTROLS, EXIT_LEAST },
	{ VMCS_ENTRY_CONTROLS, ENTRY_LEAST },
	{ VMCS_VPID, 7 },
	{ VMCS_EPT_POINTER, EPT_ROOT | EPT_POINTER_WB | EPT_POINTER_LEVELS(4) },
	{ VMCS_LINK_POINTER, ~UINT64_C(0) },
	{ VMCS_HOST_CR0, CR0_PE | CR0_PG | CR0_NE },
	{ VMCS_HOST_CR3, 0x11000 },
	{ VMCS_HOST_CR4, CR4_PAE | CR4_VMXE },
	{ VMCS_HOST_CS_SELECTOR, 8 },
	{ VMCS_HOST_SS_SELECTOR, 16 },
	{ VMCS_HOST_TR_SELECTOR, 24 },
	{ VMCS_HOST_TR_BASE, 0x1234000 },
	{ VMCS_HOST_RIP, 0xffff800000001000 },
	{ VMCS_HOST_RSP, 0xffff800000002000 },
	{ VMCS_GUEST_CR0, CR0_PE | CR0_PG | CR0_NE },
	{ VMCS_GUEST_CR3, 0x22000 },
	{ VMCS_GUEST_CR4, CR4_PAE | CR4_VMXE },
	{ VMCS_GUEST_RFLAGS, 2 },
	{ VMCS_GUEST_RIP, 0x5000 },
	{ VMCS_GUEST_RSP, 0x6000 },
	{ VMCS_GUEST_DR7, 0x400 },
	{ VMCS_SEGMENT(VMCS_GUEST_ES_RIGHTS, SEG_TR), 0x8b },
	{ VMCS_SEGMENT(VMCS_GUEST_ES_LIMIT, SEG_TR), 0x67 },
	{ VMCS_SEGMENT(VMCS_GUEST_ES_RIGHTS, SEG_LDTR), RIGHTS_UNUSABLE },
};

static void write_plain(void)
{
	for (unsigned i = 0; i < SEG_LDTR; i++) {
		must_write(VMCS_SEGMENT(VMCS_GUEST_ES_RIGHTS, i), i == SEG_CS ? 0xa09b : 0xc093);
		must_write(VMCS_SEGMENT(VMCS_GUEST_ES_LIMIT, i), 0xffffffff);
	}
	for (unsigned i = 0; i < ARRAY_SIZE(plain); i++)
		must_write(plain[i].field, plain[i].value);
}

/* The processor has run L2 and comes out with this. */
static void l2_exits(unsigned reason, enum hv_exit_kind kind)
{
	assert_true(n->base.in_l2);
	vmx_make_ready(l2v);
	if (l2->changed)
		vmx_write_back(l2v);
	l2->inject.kind = EVENT_NONE;
	l2->exit = (struct hv_exit){ .kind = kind, .length = 2, .raw_reason = reason };
	vmcs[VMCS_EXIT_REASON] = reason;
	vmcs[VMCS_EXIT_INSTRUCTION_LENGTH] = 2;
	l2->valid = REGS_RFLAGS;
	l2->rflags = vmcs[VMCS_GUEST_RFLAGS];
}

static void launch(void)
{
	assert_int_equal(execute(REASON_VMLAUNCH, 0), NESTED_ENTERED);
	assert_true(n->base.in_l2);
}

static void resume(void)
{
	assert_int_equal(execute(REASON_VMRESUME, 0), NESTED_ENTERED);
	assert_true(n->base.in_l2);
}

/* L2's exit by VMCALL, which L1 always gets. */
static void leave_l2(void)
{
	l2_exits(REASON_VMCALL, EXIT_HYPERCALL);
	assert_true(vmx_nested_ops.exit(&n->base));
	assert_false(n->base.in_l2);
}
