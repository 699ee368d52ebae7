/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A vcpu's life, and which CPU holds its VMCS. The processor keeps an active VMCS's data to itself, so it is
 * touched only on the one CPU that has it, until VMCLEAR there (Intel SDM vol. 3 section 25.11.1).
 */
#include "arch/x86_64/log.h"
#include "lib/memory.h"
#include "mm/gather.h"
#include "mm/map.h"
#include "vmx/instructions.h"
#include "vmx/vmx.h"

void vmx_free_frame(hpa_t frame)
{
	if (hpa_is_none(frame))
		return;
	GATHER(gather, NULL, &host_account);
	gather_frame(&gather, frame, ACCOUNT_TABLE);
}

static void free_vcpu(struct vmx_vcpu *v)
{
	vmx_free_frame(v->vmcs);
	vmx_free_frame(v->msr_bitmap);
	vmx_free_frame(v->mirror);
	vmx_free_frame(v->pml.buffer);
	vmx_vpid_give(v->vpid);
	heap_free(v, sizeof(*v));
}

static enum status make_frames(struct vmx_vcpu *v)
{
	TRY(table_alloc(&host_account, &v->vmcs));
	TRY(table_alloc(&host_account, &v->msr_bitmap));
	return vmx_pml_create(&v->pml);
}

enum status vmx_create(struct hv_vcpu **vcpu)
{
	struct vmx_vcpu *v = heap_alloc(sizeof(*v));

	if (!v)
		return NO_MEMORY;
	v->vmcs = v->msr_bitmap = v->mirror = v->pml.buffer = HPA_NONE;
	v->cpu = v->last_cpu = v->host_cpu = NO_CPU;
	v->primary = vmx_capability.primary;
	vmx_not_ready(v);
	if (make_frames(v) != OK) {
		free_vcpu(v);
		return NO_MEMORY;
	}
	v->vpid = vmx_vpid_take();
	*(uint32_t *)direct_pointer(v->vmcs) = vmx_capability.revision;
	vmx_msr_bitmap_init(v);
	vmx_reset(&v->hv);
	*vcpu = &v->hv;
	return OK;
}

void vmx_destroy(struct hv_vcpu *vcpu)
{
	vmx_unload(vcpu);
	free_vcpu(vmx_of(vcpu));
}

void vmx_make_current(struct vmx_vcpu *v)
{
	unsigned self = cpu_index();
	struct vmx_cpu *cpu = &vmx_cpus[self];

	if (cpu->current == v)
		return;
	/* The scheduler pins a vcpu to its CPU; the VMCS address is a frame of ours. No guest has a say in either. */
	panic_unless(v->cpu == NO_CPU || v->cpu == self);
	if (cpu->current)
		vmx_not_ready(cpu->current);
	cpu->current = NULL;
	panic_unless(v->initialised || vmclear(v->vmcs));
	panic_unless(vmptrld(v->vmcs));
	cpu->current = v;
	v->cpu = self;
	if (v->initialised)
		return;
	vmx_write_controls(v);
	v->initialised = true;
}

void vmx_make_ready(struct vmx_vcpu *v)
{
	unsigned self = cpu_index();

	vmx_make_current(v);
	if (v->host_cpu != self)
		vmx_write_host_state();
	v->host_cpu = self;
	vmx_lazy_acquire(v);
	/* What this CPU cached when the vcpu was here before may have been flushed elsewhere only. */
	if (v->last_cpu != self)
		v->hv.flush_pending = true;
	v->last_cpu = self;
	v->ready = true;
}

void vmx_unload(struct hv_vcpu *vcpu)
{
	struct vmx_vcpu *v = vmx_of(vcpu);
	struct vmx_cpu *cpu = &vmx_cpus[cpu_index()];

	if (v->cpu == NO_CPU)
		return;
	panic_unless(v->cpu == cpu_index());
	vmx_lazy_release(v);
	/* An entry has made the other one active, too. */
	panic_unless(vmclear(v->vmcs) && (hpa_is_none(v->mirror) || vmclear(v->mirror)));
	if (cpu->current == v)
		cpu->current = NULL;
	v->cpu = NO_CPU;
	v->entry.launched = false;
	vmx_not_ready(v);
}
