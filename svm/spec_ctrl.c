/* SPDX-License-Identifier: Apache-2.0 */
/*
 * SPEC_CTRL of a guest that uses it (ARMED_SPEC_CTRL), on processors that don't exchange it themselves. Its value is kept where
 * the others have it, in the VMCB. A guest that never wrote it costs nothing and runs with the host's. AMD APM vol. 2 sections
 * 3.2.9, 15.36.
 */
#include "svm/svm.h"

#include "arch/x86_64/features.h"
#include "arch/x86_64/registers.h"
#include "arch/x86_64/traps.h"

void svm_give_spec_ctrl(const struct svm_vcpu *svm)
{
	uint64_t guest = svm->vmcb->save.spec_ctrl;

	/* It is a value that the processor has taken from the guest itself, or that vm/ has checked. */
	if ((svm->armed & ARMED_SPEC_CTRL) && guest != features.host_spec_ctrl)
		(void)wrmsr_safe(MSR_SPEC_CTRL, guest);
}

void svm_take_spec_ctrl(struct svm_vcpu *svm)
{
	uint64_t *guest = &svm->vmcb->save.spec_ctrl;

	if ((svm->armed & ARMED_SPEC_CTRL) && rdmsr_safe(MSR_SPEC_CTRL, guest) && *guest != features.host_spec_ctrl)
		(void)wrmsr_safe(MSR_SPEC_CTRL, features.host_spec_ctrl);
}
