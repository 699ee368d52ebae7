/* SPDX-License-Identifier: Apache-2.0 */
/* L1 with a small memory, in 64-bit code at CPL 0 with EFER.SVME, and a VMCB12 that is fit to run; the processor is test_svm_world.h's. */
#pragma once

#include "test_svm_world.h"

#include "common/nested_parts.h"
#include "svm/nested/nested.h"

#define L1_MEMORY 0x40000u
#define VMCB12_AT 0x3000u
#define IO_MAP_AT 0x8000u
#define MSR_MAP_AT 0xc000u
#define L1_RIP 0x401000u

const struct hv_ops *hv = &svm_ops;

static _Alignas(4096) uint8_t l1_memory[L1_MEMORY];
static struct hv_nested *nested;
static enum status memory_status; /* of L1's memory, when not OK */
static bool flips;                /* another vcpu of L1's changes what has just been read */
static unsigned reads, writes, flushed_all, flushed_one;

static enum status env_read(void *context, gpa_t from, void *to, size_t size)
{
	reads++;
	if (memory_status != OK)
		return memory_status;
	if (from.v >= L1_MEMORY || from.v + size > L1_MEMORY)
		return BAD_ADDRESS;
	memcpy(to, l1_memory + from.v, size);
	for (size_t i = 0; flips && i < size; i++)
		l1_memory[from.v + i] ^= 0xff;
	return OK;
}

static enum status env_write(void *context, gpa_t to, const void *from, size_t size)
{
	writes++;
	if (memory_status != OK)
		return memory_status;
	if (to.v >= L1_MEMORY || to.v + size > L1_MEMORY)
		return BAD_ADDRESS;
	memcpy(l1_memory + to.v, from, size);
	return OK;
}

static const struct hv_nested_env env;
static enum status env_parts(void *context, gpa_t page, void *copy, const struct hv_nested_part *parts, unsigned count,
			     bool write)
{
	return parts_by(&env, context, page, copy, parts, count, write);
}

static void env_invalidate(void *context, const struct hv_nested_slat *slat)
{
	flushed_all += !slat;
	flushed_one += slat != NULL;
}

static void env_cpuid(void *context, uint32_t leaf, uint32_t subleaf, struct cpuid_result *out)
{
	*out = (struct cpuid_result){ .edx = CPUID_EDX_1G_PAGES };
}

static const struct hv_nested_env env = { .read = env_read,
					  .write = env_write,
					  .parts = env_parts,
					  .invalidate = env_invalidate,
					  .cpuid = env_cpuid,
					  .cr4_valid = CR4_PAE | CR4_PGE | CR4_OSFXSR | CR4_LA57,
					  .efer_valid = EFER_SCE | EFER_LME | EFER_LMA | EFER_NXE | EFER_SVME,
					  .physical_bits = 40 };

static struct vmcb *vmcb12(void)
{
	return (struct vmcb *)(l1_memory + VMCB12_AT);
}

static struct svm_nested *state_of_l1(void)
{
	return nested_of(nested);
}

static void make_vmcb12(void)
{
	static const struct vmcb_segment code = { .selector = 8, .attributes = 0xa9b, .limit = 0xffffffff };
	static const struct vmcb_segment data = { .selector = 16, .attributes = 0xc93, .limit = 0xffffffff };
	struct vmcb *v = vmcb12();

	v->control.intercept[0] = INTERCEPT1_CPUID | INTERCEPT1_IOIO | INTERCEPT1_MSR | INTERCEPT1_INTR;
	v->control.intercept[1] = INTERCEPT2_VMRUN | INTERCEPT2_VMMCALL;
	v->control.iopm_base = IO_MAP_AT;
	v->control.msrpm_base = MSR_MAP_AT;
	v->control.asid = 1;
	v->save.es = v->save.ss = v->save.ds = data;
	v->save.cs = code;
	v->save.gdtr = (struct vmcb_segment){ .base = 0x5000, .limit = 0x27 };
	v->save.idtr = (struct vmcb_segment){ .base = 0x6000, .limit = 0xfff };
	v->save.efer = EFER_SVME | EFER_LME | EFER_LMA | EFER_NXE;
	v->save.cr0 = CR0_PE | CR0_PG | CR0_ET | CR0_NE;
	v->save.cr3 = 0x9000;
	v->save.cr4 = CR4_PAE;
	v->save.dr6 = DR6_RESET;
	v->save.dr7 = DR7_RESET;
	v->save.rflags = BIT(1);
	v->save.rip = 0x7000;
	v->save.rsp = 0x7ff0;
	v->save.rax = 0x1234;
	v->save.pat = UINT64_C(0x0007040600070406);
}

static void make_l1(void)
{
	svm_ops.load(vcpu, REGS_ALL);
	vcpu->cr0 = CR0_PE | CR0_PG | CR0_ET;
	vcpu->cr4 = CR4_PAE;
	vcpu->cr3 = 0x1000;
	vcpu->efer = EFER_LME | EFER_LMA | EFER_SVME;
	vcpu->segment[SEG_CS] = (struct segment){ .selector = 8, .attributes = 0xa09b, .limit = 0xffffffff };
	vcpu->segment[SEG_SS] = (struct segment){ .selector = 16, .attributes = 0xc093, .limit = 0xffffffff };
	vcpu->segment[SEG_FS].base = 0xf5;
	vcpu->lstar = 0x1157a2;
	vcpu->rip = L1_RIP;
	vcpu->rflags = BIT(1) | RFLAGS_IF;
	hv_changed(vcpu, REGS_ALL);
}

static int begin(void **state)
{
	svm_world_begin();
	memset(l1_memory, 0, sizeof(l1_memory));
	memory_status = OK;
	flips = false;
	reads = writes = flushed_all = flushed_one = 0;
	assert_int_equal(svm_nested_ops.create(vcpu, &env, NULL, &nested), OK);
	svm_ops.set_slat(nested->l2, hpa(0x456000));
	make_l1();
	make_vmcb12();
	return 0;
}

static int end(void **state)
{
	test_cpu = 0;
	svm_nested_ops.destroy(nested);
	svm_ops.destroy(vcpu);
	return 0;
}

/* L1 comes to an instruction of the extension. */
static enum hv_nested_step l1_executes(uint64_t code, uint64_t rax)
{
	vcpu->gpr[GPR_RAX] = rax;
	run_until(vcpu, code, 0);
	vcpu->exit.length = 3;
	return svm_nested_ops.instruction(nested);
}

static void vmrun(void)
{
	assert_int_equal(l1_executes(SVM_EXIT_VMRUN, VMCB12_AT), NESTED_ENTERED);
}

/* L2 runs until the processor exits so; true: it was L1's exit. */
static bool l2_exits(uint64_t code, uint64_t info1, uint64_t info2)
{
	script.info1 = info1;
	script.info2 = info2;
	run_until(nested->l2, code, 0);
	return svm_nested_ops.exit(nested);
}
