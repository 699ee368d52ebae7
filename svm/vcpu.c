/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Birth, reset and end of a vcpu, and what it is asked to exit for. AMD APM vol. 2 sections 15.5, 15.9 - 15.14, 14.1.3.
 *
 * The VMCB and the MSR map come from the heap: page-aligned, in the direct map, charged to the host. All vcpus share
 * one I/O map that lets every port exit; it is made with the first of them and stays.
 */
#include "svm/svm.h"

#include "arch/x86_64/registers.h"
#include "lib/memory.h"
#include "mm/map.h"
#include "svm/codes.h"
#include "svm/quirks.h"

/* Spinning: an exit after this many PAUSEs closer together than the threshold, in cycles. 15.14.4. */
#define PAUSE_COUNT 3000u
#define PAUSE_THRESHOLD 128u

#define ALWAYS1                                                                                                        \
	(INTERCEPT1_CR0_SELECTIVE | INTERCEPT1_INTR | INTERCEPT1_NMI | INTERCEPT1_SMI | INTERCEPT1_INIT |              \
	 INTERCEPT1_RDPMC | INTERCEPT1_CPUID | INTERCEPT1_RSM | INTERCEPT1_INVD | INTERCEPT1_HLT |                     \
	 INTERCEPT1_INVLPGA | INTERCEPT1_IOIO | INTERCEPT1_MSR | INTERCEPT1_TASK_SWITCH | INTERCEPT1_SHUTDOWN)
#define ALWAYS2                                                                                                        \
	(INTERCEPT2_VMRUN | INTERCEPT2_VMMCALL | INTERCEPT2_VMLOAD | INTERCEPT2_VMSAVE | INTERCEPT2_STGI |             \
	 INTERCEPT2_CLGI | INTERCEPT2_SKINIT | INTERCEPT2_WBINVD | INTERCEPT2_MONITOR | INTERCEPT2_MWAIT |             \
	 INTERCEPT2_XSETBV)
#define CR8_BIT BIT(8)
#define CR4_BIT BIT(4)
#define DR_ALL BITS(7, 0)

static void *io_map;

/* NULL: no memory. */
static void *shared_io_map(void)
{
	void *map = __atomic_load_n(&io_map, __ATOMIC_ACQUIRE), *none = NULL;

	if (map)
		return map;
	map = heap_alloc(IO_MAP_SIZE);
	if (!map)
		return NULL;
	__builtin_memset(map, 0xff, IO_MAP_SIZE);
	if (__atomic_compare_exchange_n(&io_map, &none, map, false, __ATOMIC_ACQ_REL, __ATOMIC_ACQUIRE))
		return map;
	heap_free(map, IO_MAP_SIZE);
	return none;
}

/* Is CR8 the local APIC's? A guest's guest may have V_TPR for it, where its accesses while V_IRQ waits don't end the machine. */
static bool priority_exits(const struct svm_vcpu *svm)
{
	return !svm->own_priority || (svm_quirks.priority_aborts && (svm->vmcb->control.interrupt_control & V_IRQ));
}

/* In VMCBs VMRUN demands EFER.SVME; a guest that hasn't set it gets #UD. */
static uint32_t without_exit(const struct svm_vcpu *svm)
{
	const struct vmcb_control *control = &svm->vmcb->control;
	uint64_t bits = 0;

	if ((svm->hv.efer & EFER_SVME) && (control->interrupt_control & V_GIF_ENABLE))
		bits = INTERCEPT2_CLGI | (svm->awaits_gif ? 0 : INTERCEPT2_STGI);
	if ((svm->hv.efer & EFER_SVME) && (svm->hv.efer & EFER_LMA) && (control->lbr_control & VIRTUAL_LOAD_SAVE))
		bits |= INTERCEPT2_VMLOAD | INTERCEPT2_VMSAVE;
	return (uint32_t)bits;
}

void svm_set_intercepts(struct svm_vcpu *svm)
{
	struct vmcb_control *control = &svm->vmcb->control;

	control->cr_read = priority_exits(svm) ? CR8_BIT : 0;
	control->cr_write = control->cr_read | CR4_BIT;
	control->dr_read = 0;
	control->dr_write = svm_quirks.breakpoints_leak ? DR_ALL : 0;
	control->exceptions = svm->armed & ARMED_STEP ? SVM_STEP_EXCEPTIONS : SVM_EXCEPTIONS;
	control->intercept[0] = ALWAYS1 | (svm_features.pause_filter ? INTERCEPT1_PAUSE : 0) |
				(svm->armed & ARMED_WINDOW ? INTERCEPT1_VINTR : 0) |
				(svm->armed & ARMED_IRET ? INTERCEPT1_IRET : 0);
	control->intercept[1] = ALWAYS2 | (svm_features.rdpru ? INTERCEPT2_RDPRU : 0);
	control->intercept[1] &= ~without_exit(svm);
	control->intercept[2] = (svm_features.invlpgb ? INTERCEPT3_INVLPGB | INTERCEPT3_TLBSYNC : 0) |
				(svm_features.mcommit ? INTERCEPT3_MCOMMIT : 0);
	/* A guest that asks for exits at PAUSE has been told of no filter. */
	control->pause_filter_count = svm_features.pause_filter && !(svm->also[3] & INTERCEPT1_PAUSE) ? PAUSE_COUNT : 0;
	control->pause_filter_threshold = svm_features.pause_threshold ? PAUSE_THRESHOLD : 0;
	for (unsigned i = 0; i < INTERCEPT_WORDS; i++)
		control->intercepts[i] |= svm->also[i];
	svm_dirty(svm->vmcb, CLEAN_INTERCEPTS);
}

void svm_set_gif(struct svm_vcpu *svm, bool on)
{
	uint64_t *interrupts =
		svm->armed & ARMED_WINDOW ? &svm->interrupts_below : &svm->vmcb->control.interrupt_control;

	*interrupts = on ? *interrupts | V_GIF : *interrupts & ~V_GIF;
	svm_dirty(svm->vmcb, CLEAN_TPR);
}

enum status svm_create(struct hv_vcpu **vcpu)
{
	void *ports = shared_io_map();
	struct svm_vcpu *svm = ports ? heap_alloc(sizeof(*svm)) : NULL;

	if (!svm)
		return NO_MEMORY;
	svm->vmcb = heap_alloc(sizeof(struct vmcb));
	svm->msr_map = heap_alloc(MSR_MAP_SIZE);
	if (!svm->vmcb || !svm->msr_map) {
		if (svm->vmcb)
			heap_free(svm->vmcb, sizeof(struct vmcb));
		if (svm->msr_map)
			heap_free(svm->msr_map, MSR_MAP_SIZE);
		heap_free(svm, sizeof(*svm));
		return NO_MEMORY;
	}
	__builtin_memset(svm->msr_map, 0xff, MSR_MAP_SIZE);
	svm->vmcb_address = direct_address(svm->vmcb);
	svm->vmcb->control.iopm_base = direct_address(ports).v;
	svm->vmcb->control.msrpm_base = direct_address(svm->msr_map).v;
	svm->vmcb->control.nested_control = NESTED_PAGING;
	svm->hv.slat_root = HPA_NONE;
	svm_reset(&svm->hv);
	*vcpu = &svm->hv;
	return OK;
}

void svm_destroy(struct hv_vcpu *vcpu)
{
	struct svm_vcpu *svm = svm_of(vcpu);

	svm_unload(vcpu);
	heap_free(svm->vmcb, sizeof(struct vmcb));
	heap_free(svm->msr_map, MSR_MAP_SIZE);
	heap_free(svm, sizeof(*svm));
}

void svm_reset(struct hv_vcpu *vcpu)
{
	struct svm_vcpu *svm = svm_of(vcpu);
	struct vmcb_control *control = &svm->vmcb->control;

	svm_power_on_state(vcpu);
	control->interrupt_control = V_INTR_MASKING;
	control->interrupt_state = 0;
	control->event_inject = 0;
	control->clean = 0;
	svm->armed &= ARMED_FLUSH | ARMED_SPEC_CTRL;
	svm->nmi_blocked = svm->rip_advanced = svm->own_priority = false;
	svm->shadow_tries = 0;
	svm->virtual_vector = -1;
	__builtin_memset(svm->also, 0, sizeof(svm->also));
	svm_set_intercepts(svm);
}

void svm_set_slat(struct hv_vcpu *vcpu, hpa_t root)
{
	struct vmcb *vmcb = svm_of(vcpu)->vmcb;

	vcpu->slat_root = root;
	vmcb->control.nested_cr3 = root.v;
	svm_dirty(vmcb, CLEAN_NESTED);
	vcpu->flush_pending = true;
}

void svm_pass_msr(struct hv_vcpu *vcpu, uint32_t msr, bool read, bool write)
{
	struct svm_vcpu *svm = svm_of(vcpu);

	/* Any other would reach the host's own; it keeps its exit. */
	if (!svm_msr_passable(msr, read))
		return;
	if (msr == MSR_SPEC_CTRL && !svm_features.spec_ctrl)
		svm->armed = write ? svm->armed | ARMED_SPEC_CTRL : svm->armed & ~ARMED_SPEC_CTRL;
	if (svm_msr_map_set(svm->msr_map, msr, !read, !write))
		svm_dirty(svm->vmcb, CLEAN_PERMISSIONS);
}

const struct hv_ops svm_ops = {
	.name = "SVM",
	.probe = svm_probe,
	.enable_cpu = svm_enable_cpu,
	.disable_cpu = svm_disable_cpu,
	.create = svm_create,
	.destroy = svm_destroy,
	.reset = svm_reset,
	.run = svm_run,
	.unload = svm_unload,
	.load = svm_load,
	.code = svm_code,
	.set_slat = svm_set_slat,
	.pass_msr = svm_pass_msr,
	.nested = &svm_nested_ops,
};
