/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Nested SVM as vm/ has it: birth and end, the MSRs and CPUID leaves that tell of the extension. AMD APM vol. 2 section 15.30; vol. 3
 * appendix E, 8000_000A.
 */
#include "svm/nested/nested.h"

#include "arch/x86_64/cpu.h"
#include "arch/x86_64/registers.h"
#include "lib/memory.h"

#define SVM_REVISION 1u

static void reset(struct hv_nested *nested)
{
	struct svm_nested *n = nested_of(nested);
	struct vmcb_control *l1 = &nested_l1(n)->vmcb->control;

	nested->in_l2 = false;
	nested->slat.on = false;
	nested->slat_changed = true;
	nested->deadline = nested->timer = UINT64_MAX;
	l1->interrupt_control |= svm_features.virtual_gif ? V_GIF_ENABLE : 0;
	l1->lbr_control = svm_features.virtual_load_save ? VIRTUAL_LOAD_SAVE : 0;
	nested_set_gif(n, true);
	n->host_save = n->asid = 0;
}

static void destroy(struct hv_nested *nested)
{
	struct svm_nested *n = nested_of(nested);

	if (nested->l2)
		svm_destroy(nested->l2);
	if (n->vmcb12)
		heap_free(n->vmcb12, sizeof(*n->vmcb12));
	heap_free(n, sizeof(*n));
}

static enum status create(struct hv_vcpu *l1, const struct hv_nested_env *env, void *context, struct hv_nested **out)
{
	struct svm_nested *n = heap_alloc(sizeof(*n));

	if (!n)
		return NO_MEMORY;
	n->common.l1 = l1;
	n->common.env = env;
	n->common.context = context;
	n->vmcb12 = heap_alloc(sizeof(*n->vmcb12));
	if (!n->vmcb12 || svm_create(&n->common.l2) != OK) {
		destroy(&n->common);
		return NO_MEMORY;
	}
	reset(&n->common);
	*out = &n->common;
	return OK;
}

/* VM_CR: SVM can't be switched off, and the lock on that ignores writes. */
static enum status msr(struct hv_nested *nested, uint32_t number, bool write, uint64_t *value)
{
	struct svm_nested *n = nested_of(nested);

	if (number == MSR_VM_CR) {
		if (write)
			return *value & ~VM_CR_ALL ? DENIED : OK;
		*value = VM_CR_LOCK;
		return OK;
	}
	if (number != MSR_VM_HSAVE_PA)
		return NOT_FOUND;
	if (!write)
		*value = n->host_save;
	else if (!is_aligned(*value, PAGE_SIZE) || *value >> nested->env->physical_bits)
		return DENIED;
	else
		n->host_save = *value;
	return OK;
}

/* EFER.SVME is among efer_valid, and a guest that takes it away from under itself gets what it asked for. */
static bool control(const struct hv_nested *nested, uint64_t cr0, uint64_t cr4, uint64_t efer)
{
	return true;
}

static uint64_t control_value(const struct hv_nested *nested, unsigned number, uint64_t value)
{
	return value;
}

/* Flushes by ASID are Quire's to interpret; what else is told, the processor does for l2 as it does for l1. */
static void tell(uint32_t leaf, struct cpuid_result *result)
{
	if (leaf == CPUID_EXTENDED_FEATURES)
		result->ecx |= CPUID_ECX_SVM;
	if (leaf != CPUID_SVM)
		return;
	*result = (struct cpuid_result){ .eax = SVM_REVISION,
					 .ebx = NESTED_ASIDS,
					 .edx = CPUID_SVM_NPT | CPUID_SVM_FLUSH_ASID |
						(svm_features.virtual_gif ? CPUID_SVM_VIRTUAL_GIF : 0) |
						(svm_features.next_rip ? CPUID_SVM_NEXT_RIP : 0) |
						(svm_features.decode_assists ? CPUID_SVM_DECODE : 0) };
}

const struct hv_nested_ops svm_nested_ops = {
	.create = create,
	.destroy = destroy,
	.reset = reset,
	.instruction = nested_instruction,
	.exit = nested_exit,
	.reflect_slat = nested_reflect_slat,
	.exception = nested_exception,
	.pending = nested_pending,
	.msr = msr,
	.control = control,
	.control_value = control_value,
	.tell = tell,
};
