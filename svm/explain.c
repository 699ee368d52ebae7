/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What is wrong with a VMCB: the rules of AMD APM vol. 2 section 15.5.1 as a table. For the message when the processor has refused
 * one, and to refuse a guest hypervisor's before it comes to that. Pure.
 */
#include "svm/svm.h"

#include "arch/x86_64/registers.h"
#include "svm/codes.h"

#define HIGH_HALF BITS(63, 32)

static bool cr0_caching(const struct vmcb *v, const struct svm_limits *l)
{
	return !(v->save.cr0 & CR0_CD) && (v->save.cr0 & CR0_NW);
}
static bool cr0_high(const struct vmcb *v, const struct svm_limits *l)
{
	return v->save.cr0 & HIGH_HALF;
}
static bool cr4_reserved(const struct vmcb *v, const struct svm_limits *l)
{
	return v->save.cr4 & ~l->cr4;
}
static bool dr_high(const struct vmcb *v, const struct svm_limits *l)
{
	return (v->save.dr6 | v->save.dr7) & HIGH_HALF;
}
static bool efer_reserved(const struct vmcb *v, const struct svm_limits *l)
{
	return v->save.efer & ~l->efer;
}
static bool efer_svme(const struct vmcb *v, const struct svm_limits *l)
{
	return !(v->save.efer & EFER_SVME);
}

static bool long_mode(const struct vmcb *v, const struct svm_limits *l)
{
	return (v->save.efer & EFER_LME) && (v->save.cr0 & CR0_PG);
}

/* Bits that are above a processor's addresses, 63:52 among them. */
static uint64_t beyond(const struct svm_limits *l)
{
	return ~(BIT(l->physical_bits) - 1);
}

static bool cr3_reserved(const struct vmcb *v, const struct svm_limits *l)
{
	return v->save.cr3 & (long_mode(v, l) ? beyond(l) : BITS(63, 52));
}

static bool long_no_pae(const struct vmcb *v, const struct svm_limits *l)
{
	return long_mode(v, l) && !(v->save.cr4 & CR4_PAE);
}
static bool long_no_protection(const struct vmcb *v, const struct svm_limits *l)
{
	return long_mode(v, l) && !(v->save.cr0 & CR0_PE);
}

static bool long_and_32(const struct vmcb *v, const struct svm_limits *l)
{
	uint16_t both = svm_attributes_to_vmcb(SEG_ATTR_L | SEG_ATTR_DB);

	return long_mode(v, l) && (v->save.cr4 & CR4_PAE) && (v->save.cs.attributes & both) == both;
}

static bool no_vmrun_intercept(const struct vmcb *v, const struct svm_limits *l)
{
	return !(v->control.intercept[1] & INTERCEPT2_VMRUN);
}
static bool asid_zero(const struct vmcb *v, const struct svm_limits *l)
{
	return v->control.asid == 0;
}
static bool asid_high(const struct vmcb *v, const struct svm_limits *l)
{
	return v->control.asid >= l->asid_count;
}
static bool bad_flush(const struct vmcb *v, const struct svm_limits *l)
{
	return !(BIT(v->control.tlb_control & 7u) &
		 (BIT(TLB_KEEP) | BIT(TLB_FLUSH_ALL) | BIT(TLB_FLUSH_ASID) | BIT(TLB_FLUSH_ASID_LOCAL))) ||
	       v->control.tlb_control > TLB_FLUSH_ASID_LOCAL;
}
static bool bad_maps(const struct vmcb *v, const struct svm_limits *l)
{
	uint64_t io = v->control.iopm_base, msr = v->control.msrpm_base;

	return (io | (io + IO_MAP_SIZE - 1) | msr | (msr + MSR_MAP_SIZE - 1)) & beyond(l);
}

static bool bad_root(const struct vmcb *v, const struct svm_limits *l)
{
	return (v->control.nested_control & NESTED_PAGING) && (v->control.nested_cr3 & beyond(l));
}

/* Types 2 and 3, and all above 7, are reserved. */
static bool bad_pat(const struct vmcb *v, const struct svm_limits *l)
{
	for (unsigned i = 0; i < 64 && (v->control.nested_control & NESTED_PAGING); i += 8) {
		unsigned type = v->save.pat >> i & 0xff;

		if (type > 7 || type == 2 || type == 3)
			return true;
	}
	return false;
}

static bool bad_event(const struct vmcb *v, const struct svm_limits *l)
{
	uint64_t info = v->control.event_inject;
	unsigned type = (info & INJECT_TYPE_MASK) >> INJECT_TYPE_SHIFT, vector = info & 0xff;

	if (!(info & INJECT_VALID))
		return false;
	if (type == 1 || type > INJECT_SOFT_INTERRUPT)
		return true;
	return type == INJECT_EXCEPTION && (vector == VECTOR_NMI || vector >= 31);
}

static const struct {
	bool (*broken)(const struct vmcb *vmcb, const struct svm_limits *limits);
	bool looks_at_state;
	const char *text;
} rules[] = {
	{ no_vmrun_intercept, false, "VMRUN is not intercepted" },
	{ asid_zero, false, "ASID 0 is the host's" },
	{ asid_high, false, "ASID above what the processor has" },
	{ bad_flush, false, "no such TLB_CONTROL" },
	{ bad_maps, false, "a permission map above the processor's addresses" },
	{ bad_root, false, "the second-level table root is not set, or no table address" },
	{ bad_event, false, "the injected event has a type or vector that VMRUN refuses" },
	{ efer_svme, true, "EFER.SVME is clear" },
	{ efer_reserved, true, "EFER has reserved bits" },
	{ bad_pat, true, "PAT has a reserved type" },
	{ cr0_caching, true, "CR0: NW without CD" },
	{ cr0_high, true, "CR0 has bits above 31" },
	{ cr3_reserved, true, "CR3 has reserved bits" },
	{ cr4_reserved, true, "CR4 has reserved bits" },
	{ dr_high, true, "DR6 or DR7 has bits above 31" },
	{ long_no_pae, true, "long mode without CR4.PAE" },
	{ long_no_protection, true, "long mode without CR0.PE" },
	{ long_and_32, true, "long mode with CS.L and CS.D both set" },
};

const char *svm_explain_refusal(const struct vmcb *vmcb, const struct svm_limits *limits, bool save_area_is_guest)
{
	for (unsigned i = 0; i < ARRAY_SIZE(rules); i++)
		if ((save_area_is_guest || !rules[i].looks_at_state) && rules[i].broken(vmcb, limits))
			return rules[i].text;
	return NULL;
}
