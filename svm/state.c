/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Register groups between hv_vcpu and the VMCB's save area, both ways, and the state after power-on. Pure: whoever
 * calls decides when. A store marks exactly the VMCB groups that it touched as not clean. EFER.SVME is always set in
 * the VMCB (VMRUN demands it); the guest's own is hv_vcpu's alone, since each write of EFER exits. AMD APM vol. 2 sections 15.5.1, 15.15, 14.1.3.
 */
#include "svm/svm.h"

#include "arch/x86_64/hv_power_on.h"
#include "arch/x86_64/registers.h"

#define ATTRIBUTES_LOW 0x00ffu  /* type, S, DPL, P: the same place on both sides */
#define ATTRIBUTES_HIGH 0xf000u /* AVL, L, D/B, G: bits 11:8 in the VMCB */
#define ATTRIBUTES_SHIFT 4

_Static_assert((SEG_ATTR_L | SEG_ATTR_DB | SEG_ATTR_G | ATTRIBUTES_HIGH) == ATTRIBUTES_HIGH, "attribute places");
_Static_assert((SEG_ATTR_PRESENT | SEG_ATTR_S | ATTRIBUTES_LOW) == ATTRIBUTES_LOW, "attribute places");

/*
 * The guest's view of these is hv_vcpu's alone: every write that changes them exits. In the VMCB they would have the processor
 * run uncached (section 15.25), for which nothing that is mapped for a guest leaves a reason.
 */
#define CR0_CACHE (CR0_CD | CR0_NW)
#define TSS_BUSY 0x02u

uint16_t svm_attributes_to_vmcb(uint16_t attributes)
{
	return (uint16_t)((attributes & ATTRIBUTES_LOW) | (attributes & ATTRIBUTES_HIGH) >> ATTRIBUTES_SHIFT);
}

uint16_t svm_attributes_from_vmcb(uint16_t attributes)
{
	return (uint16_t)((attributes & ATTRIBUTES_LOW) | (attributes << ATTRIBUTES_SHIFT & ATTRIBUTES_HIGH));
}

/* Where each segment of enum segment_name stands in the save area, in units of one segment. */
static const uint8_t places[SEG_COUNT] = {
	[SEG_ES] = 0, [SEG_CS] = 1, [SEG_SS] = 2,   [SEG_DS] = 3,
	[SEG_FS] = 4, [SEG_GS] = 5, [SEG_LDTR] = 7, [SEG_TR] = 9,
};
_Static_assert(offsetof(struct vmcb_save, tr) == 9 * sizeof(struct vmcb_segment), "places[]");
_Static_assert(offsetof(struct vmcb_save, ldtr) == 7 * sizeof(struct vmcb_segment), "places[]");

static inline void fetch_segment(struct hv_vcpu *vcpu, const struct vmcb_save *save, unsigned i)
{
	const struct vmcb_segment *from = &save->es + places[i];

	vcpu->segment[i] = (struct segment){
		.base = from->base,
		.limit = from->limit,
		.selector = from->selector,
		.attributes = svm_attributes_from_vmcb(from->attributes),
	};
}

static inline void fetch_code(struct hv_vcpu *vcpu, const struct vmcb_save *save)
{
	uint16_t *stack = &vcpu->segment[SEG_SS].attributes;

	fetch_segment(vcpu, save, SEG_CS);
	fetch_segment(vcpu, save, SEG_SS);
	/* The privilege level proper is CPL's; a SYSRET or a null SS leaves another DPL behind (15.5.1). */
	*stack = (uint16_t)((*stack & ~0x60u) | (save->cpl & 3u) << 5);
}

static void fetch_others(struct hv_vcpu *vcpu, const struct vmcb_save *save)
{
	for (unsigned i = SEG_FS; i < SEG_COUNT; i++)
		fetch_segment(vcpu, save, i);
	/* Some processors don't show the busy bit of the task that runs, which by definition is set. */
	vcpu->segment[SEG_TR].attributes |= TSS_BUSY;
	vcpu->gdtr = (struct table_register){ .base = save->gdtr.base, .limit = (uint16_t)save->gdtr.limit };
	vcpu->idtr = (struct table_register){ .base = save->idtr.base, .limit = (uint16_t)save->idtr.limit };
}

_Static_assert(REGS_SEGMENTS == (REGS_CODE | REGS_DATA | REGS_OTHERS), "all segments are fetched");
_Static_assert(SEG_FS == SEG_DS + 1, "the others begin behind the first four");

static void store_segment(const struct hv_vcpu *vcpu, struct vmcb_save *save, unsigned i)
{
	const struct segment *from = &vcpu->segment[i];

	(&save->es)[places[i]] = (struct vmcb_segment){
		.selector = from->selector,
		.attributes = svm_attributes_to_vmcb(from->attributes),
		.limit = from->limit,
		.base = from->base,
	};
}

static void store_segments(const struct hv_vcpu *vcpu, struct vmcb_save *save, uint32_t groups)
{
	for (unsigned i = 0; i < SEG_COUNT; i++)
		if (groups & REGS_OF_SEGMENT(i))
			store_segment(vcpu, save, i);
	if (groups & REGS_CODE)
		save->cpl = SEG_ATTR_DPL(vcpu->segment[SEG_SS].attributes);
	if (!(groups & REGS_OTHERS))
		return;
	save->gdtr = (struct vmcb_segment){ .base = vcpu->gdtr.base, .limit = vcpu->gdtr.limit };
	save->idtr = (struct vmcb_segment){ .base = vcpu->idtr.base, .limit = vcpu->idtr.limit };
}

/* REGS_SYSTEM: a name for both sides. */
#define SYSTEM_FIELDS(X)                                                                                               \
	X(sysenter_cs)                                                                                                 \
	X(sysenter_esp) X(sysenter_eip) X(pat) X(star) X(lstar) X(cstar) X(sfmask) X(kernel_gs_base) X(spec_ctrl)

static void fetch_system(struct hv_vcpu *vcpu, const struct vmcb_save *save)
{
#define FETCH(name) vcpu->name = save->name;
	SYSTEM_FIELDS(FETCH)
}

static void store_system(const struct hv_vcpu *vcpu, struct vmcb_save *save)
{
#define STORE(name) save->name = vcpu->name;
	SYSTEM_FIELDS(STORE)
}

void svm_fetch_groups(struct hv_vcpu *vcpu, const struct vmcb *vmcb, uint32_t groups)
{
	const struct vmcb_save *save = &vmcb->save;

	if (groups & REGS_RFLAGS)
		vcpu->rflags = save->rflags;
	if (groups & REGS_RSP)
		vcpu->gpr[GPR_RSP] = save->rsp;
	if (groups & REGS_CONTROL) {
		vcpu->cr0 = (save->cr0 & ~CR0_CACHE) | (vcpu->cr0 & CR0_CACHE);
		vcpu->cr3 = save->cr3;
		vcpu->cr4 = save->cr4;
		vcpu->efer = (save->efer & ~(EFER_SVME | EFER_LMA)) | (vcpu->efer & EFER_SVME);
		if ((save->efer & EFER_LME) && (save->cr0 & CR0_PG)) /* see quirks.h */
			vcpu->efer |= EFER_LMA;
	}
	if (groups & REGS_CODE)
		fetch_code(vcpu, save);
	if (groups & REGS_DATA) {
		fetch_segment(vcpu, save, SEG_DS);
		fetch_segment(vcpu, save, SEG_ES);
	}
	if (groups & REGS_OTHERS)
		fetch_others(vcpu, save);
	if (groups & REGS_DEBUG) {
		vcpu->dr[6] = save->dr6;
		vcpu->dr[7] = save->dr7;
	}
	if (groups & REGS_SYSTEM)
		fetch_system(vcpu, save);
	if (groups & REGS_SHADOW)
		vcpu->interrupt_shadow = vmcb->control.interrupt_state & INTERRUPT_SHADOW;
}

void svm_store_groups(const struct hv_vcpu *vcpu, struct vmcb *vmcb, uint32_t groups)
{
	struct vmcb_save *save = &vmcb->save;
	uint64_t dirty = 0;

	if (groups & REGS_RFLAGS)
		save->rflags = vcpu->rflags;
	if (groups & REGS_RSP)
		save->rsp = vcpu->gpr[GPR_RSP];
	if (groups & REGS_CONTROL) {
		save->cr0 = vcpu->cr0 & ~CR0_CACHE;
		save->cr3 = vcpu->cr3;
		save->cr4 = vcpu->cr4;
		save->efer = vcpu->efer | EFER_SVME;
		dirty |= CLEAN_CONTROL;
	}
	if (groups & REGS_SEGMENTS) {
		store_segments(vcpu, save, groups);
		dirty |= CLEAN_SEGMENTS | CLEAN_TABLES;
	}
	if (groups & REGS_DEBUG) {
		save->dr6 = vcpu->dr[6];
		save->dr7 = vcpu->dr[7];
		dirty |= CLEAN_DEBUG;
	}
	if (groups & REGS_SYSTEM) {
		store_system(vcpu, save);
		dirty |= CLEAN_NESTED; /* holds PAT */
	}
	if (groups & REGS_SHADOW)
		vmcb->control.interrupt_state = vcpu->interrupt_shadow ? INTERRUPT_SHADOW : 0;
	svm_dirty(vmcb, dirty);
}

static bool flat(const struct vmcb_segment *s)
{
	return !s->base && s->limit == HV_FLAT_LIMIT;
}

unsigned svm_code_of(const struct vmcb_save *save)
{
	uint16_t attributes = svm_attributes_from_vmcb(save->cs.attributes);
	unsigned paged = save->cr0 & CR0_PG ? HV_CODE_PAGED : 0;

	if (!(save->cr0 & CR0_PE))
		return 0;
	if ((save->efer & EFER_LMA) && (attributes & SEG_ATTR_L))
		return HV_CODE_64 | paged;
	return (attributes & SEG_ATTR_DB) && flat(&save->cs) && flat(&save->ds) &&
			       (save->ds.attributes & HV_FLAT_MASK) == HV_FLAT_DATA
		       ? HV_CODE_FLAT | paged
		       : 0;
}

void svm_power_on_state(struct hv_vcpu *vcpu)
{
	hv_power_on(vcpu);
	vcpu->segment[SEG_CS].attributes = 0x9b;
	vcpu->exit = (struct hv_exit){ .kind = EXIT_NOTHING };
}
