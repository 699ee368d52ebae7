/* SPDX-License-Identifier: Apache-2.0 */
/* Birth, reset and end of a virtual CPU. */
#include "arch/x86_64/host.h"
#include "dev/apic/lapic.h"
#include "pgm/shadow/a20.h"
#include "vm/vcpu/nested.h"
#include "vm/vcpu/pv.h"

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
	else if (root.v != vcpu->l1->slat_root.v)
		hv->set_slat(vcpu->l1, root);
	if (status == OK && vcpu->nested)
		vcpu_nested_root(vcpu);
}

void vcpu_move_tsc(struct vcpu *vcpu, uint64_t by)
{
	vcpu->l1->tsc_offset += by;
	vcpu->l1->tsc_changed = true;
	if (!vcpu->nested)
		return;
	vcpu->nested->state->l2->tsc_offset += hv_tsc_scaled(vcpu->nested->state->l2, by);
	vcpu->nested->state->l2->tsc_changed = true;
}

/* What power-on and INIT have in common. */
static void start_anew(struct vcpu *vcpu)
{
	vcpu->hv = vcpu->l1;
	hv->reset(vcpu->hv);
	if (vcpu->nested)
		vcpu_nested_reset(vcpu);
	vcpu->hv->inject = (struct hv_event){ 0 };
	vcpu->park_text[0] = 0;
	vcpu->activity = vcpu->id == 0 ? VCPU_RUNNABLE : VCPU_WAIT_SIPI;
	pv_reset(vcpu);
}

/* Memory types, whether caches are on, the time stamp counter, the FPU's registers: none of them knows of it. */
void vcpu_init(struct vcpu *vcpu)
{
	struct hv_vcpu *l1 = vcpu->l1;
	uint64_t xcr0 = l1->xcr0, pat, caching;

	hv_need(l1, REGS_CONTROL | REGS_SYSTEM);
	pat = l1->pat;
	caching = l1->cr0 & (CR0_CD | CR0_NW);
	start_anew(vcpu);
	l1->xcr0 = xcr0;
	l1->pat = pat;
	l1->cr0 = (l1->cr0 & ~(uint64_t)(CR0_CD | CR0_NW)) | caching;
	lapic_init(vcpu->lapic);
}

void vcpu_reset(struct vcpu *vcpu)
{
	start_anew(vcpu);
	vcpu->hv->xcr0 = 1;
	vcpu->hv->tsc_offset = 0 - vcpu->machine->tsc_base;
	vcpu->tsc_ahead = 0;
	vcpu->hv->tsc_changed = true;
	vcpu->hv->flush_pending = true;
	vcpu->a20_mask = a20_mask(true);
	vcpu_apply_a20(vcpu);
	pgm_fetch_init(&vcpu->fetch, vcpu->machine->pgm);
	vcpu->nmi_pending = vcpu->init_pending = false;
	vcpu->signals = 0;
	vcpu->empty_looks = 0;
	host_fpu_init(vcpu->fpu);
	msr_reset(vcpu);
}

static unsigned open_cpus(const struct cpu_set *set)
{
	unsigned count = 0;

	for (unsigned i = 0; i < cpu_count(); i++)
		count += cpu_is_open(i) && cpu_set_has(set, i);
	return count;
}

enum status vcpu_create(struct machine *machine, unsigned id, struct vcpu **out)
{
	struct vcpu *vcpu = heap_alloc(sizeof(*vcpu));
	enum status status;

	if (!vcpu)
		return NO_MEMORY;
	vcpu->machine = machine;
	vcpu->id = id;
	vcpu->allowed = &machine->config->cpu;
	vcpu->movable = open_cpus(vcpu->allowed) > 1;
	vcpu->weight = (unsigned)machine->config->weight;
	vcpu->fpu = heap_alloc(align_up(host_fpu_size(), 4096));
	status = vcpu->fpu ? hv->create(&vcpu->l1) : NO_MEMORY;
	if (status != OK) {
		if (vcpu->fpu)
			heap_free(vcpu->fpu, align_up(host_fpu_size(), 4096));
		heap_free(vcpu, sizeof(*vcpu));
		return status;
	}
	vcpu->hv = vcpu->l1;
	vcpu->hv->owner = vcpu;
	vcpu->hv->exited = vcpu_exited;
	cpuid_answers(machine->cpuid, &vcpu->answers);
	vcpu->answers.requests = &vcpu->requests;
	vcpu->answers.port = vcpu_port;
	vcpu->answers.count = &vcpu->exits[EXIT_CPUID];
	hv->set_slat(vcpu->hv, pgm_slat_root(machine->pgm));
	msr_pass_through(vcpu);
	status = machine->config->nested ? vcpu_nested_create(vcpu) : OK;
	if (status != OK) {
		vcpu_destroy(vcpu);
		return status;
	}
	*out = vcpu;
	return OK;
}

void vcpu_destroy(struct vcpu *vcpu)
{
	if (!vcpu)
		return;
	if (vcpu->nested)
		vcpu_nested_destroy(vcpu);
	hv->destroy(vcpu->l1);
	heap_free(vcpu->fpu, align_up(host_fpu_size(), 4096));
	heap_free(vcpu, sizeof(*vcpu));
}
