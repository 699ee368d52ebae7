/* SPDX-License-Identifier: Apache-2.0 */
/* Birth, reset and end of a virtual CPU. */
#include "arch/x86_64/host.h"
#include "pgm/shadow/a20.h"
#include "vm/vcpu/vcpu.h"

void vcpu_set_a20(struct vcpu *vcpu, bool open)
{
	__atomic_store_n(&vcpu->a20_mask, a20_mask(open), __ATOMIC_RELEASE);
	vcpu->a20_changes++;
	vcpu_request(vcpu, REQUEST_A20);
}

void vcpu_apply_a20(struct vcpu *vcpu)
{
	struct pgm *pgm = vcpu->machine->pgm;
	hpa_t root = pgm_slat_root(pgm);
	enum status status = OK;

	if (__atomic_load_n(&vcpu->a20_mask, __ATOMIC_ACQUIRE))
		status = pgm_a20_root(pgm, &root);
	if (status != OK)
		machine_end(vcpu->machine, END_ERROR, 0, "the A20 gate is closed: %s", status_text(status));
	else if (root.v != vcpu->hv->slat_root.v)
		hv->set_slat(vcpu->hv, root);
}

void vcpu_reset(struct vcpu *vcpu)
{
	hv->reset(vcpu->hv);
	vcpu->hv->xcr0 = 1;
	vcpu->hv->inject = (struct hv_event){ 0 };
	vcpu->hv->tsc_offset = 0 - vcpu->machine->tsc_base;
	vcpu->hv->tsc_changed = true;
	vcpu->hv->flush_pending = true;
	vcpu->a20_mask = a20_mask(true);
	vcpu_apply_a20(vcpu);
	pgm_fetch_init(&vcpu->fetch, vcpu->machine->pgm);
	vcpu->nmi_pending = false;
	vcpu->park_text[0] = 0;
	vcpu->park_told = false;
	vcpu->activity = vcpu->id == 0 ? VCPU_RUNNABLE : VCPU_WAIT_SIPI;
	host_fpu_init(vcpu->fpu);
	msr_reset(vcpu);
}

enum status vcpu_create(struct machine *machine, unsigned id, unsigned cpu, struct vcpu **out)
{
	struct vcpu *vcpu = heap_alloc(sizeof(*vcpu));
	enum status status;

	if (!vcpu)
		return NO_MEMORY;
	vcpu->machine = machine;
	vcpu->id = id;
	vcpu->cpu = cpu;
	vcpu->weight = (unsigned)machine->config->weight;
	vcpu->fpu = heap_alloc(align_up(host_fpu_size(), 4096));
	status = vcpu->fpu ? hv->create(&vcpu->hv) : NO_MEMORY;
	if (status != OK) {
		if (vcpu->fpu)
			heap_free(vcpu->fpu, align_up(host_fpu_size(), 4096));
		heap_free(vcpu, sizeof(*vcpu));
		return status;
	}
	vcpu->hv->owner = vcpu;
	vcpu->hv->exited = vcpu_exited;
	cpuid_answers(machine->cpuid, &vcpu->answers);
	vcpu->answers.requests = &vcpu->requests;
	vcpu->answers.port = vcpu_port;
	vcpu->answers.count = &vcpu->exits[EXIT_CPUID];
	hv->set_slat(vcpu->hv, pgm_slat_root(machine->pgm));
	msr_pass_through(vcpu);
	*out = vcpu;
	return OK;
}

void vcpu_destroy(struct vcpu *vcpu)
{
	if (!vcpu)
		return;
	hv->destroy(vcpu->hv);
	heap_free(vcpu->fpu, align_up(host_fpu_size(), 4096));
	heap_free(vcpu, sizeof(*vcpu));
}
