/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What was wrong with a VMCB that VMRUN refused: the rules of AMD APM vol. 2 section 15.5.1 as a table, in its order.
 * Only for the message; a guest gets here by its own deeds at worst. Pure.
 */
#include "svm/svm.h"

#include "arch/x86_64/registers.h"
#include "svm/codes.h"

#define HIGH_HALF BITS(63, 32)

static bool cr0_caching(const struct vmcb *v)
{
	return !(v->save.cr0 & CR0_CD) && (v->save.cr0 & CR0_NW);
}
static bool cr0_high(const struct vmcb *v)
{
	return v->save.cr0 & HIGH_HALF;
}
static bool cr4_high(const struct vmcb *v)
{
	return v->save.cr4 & HIGH_HALF;
}
static bool cr3_high(const struct vmcb *v)
{
	return v->save.cr3 & BITS(63, 52);
}
static bool dr_high(const struct vmcb *v)
{
	return (v->save.dr6 | v->save.dr7) & HIGH_HALF;
}
static bool efer_svme(const struct vmcb *v)
{
	return !(v->save.efer & EFER_SVME);
}

static bool long_mode(const struct vmcb *v)
{
	return (v->save.efer & EFER_LME) && (v->save.cr0 & CR0_PG);
}

static bool long_no_pae(const struct vmcb *v)
{
	return long_mode(v) && !(v->save.cr4 & CR4_PAE);
}
static bool long_no_protection(const struct vmcb *v)
{
	return long_mode(v) && !(v->save.cr0 & CR0_PE);
}

static bool long_and_32(const struct vmcb *v)
{
	uint16_t both = svm_attributes_to_vmcb(SEG_ATTR_L | SEG_ATTR_DB);

	return long_mode(v) && (v->save.cr4 & CR4_PAE) && (v->save.cs.attributes & both) == both;
}

static bool no_vmrun_intercept(const struct vmcb *v)
{
	return !(v->control.intercept[1] & INTERCEPT2_VMRUN);
}
static bool asid_zero(const struct vmcb *v)
{
	return v->control.asid == 0;
}
static bool no_root(const struct vmcb *v)
{
	return v->control.nested_cr3 & (BITS(63, 52) | (PAGE_SIZE - 1));
}

static bool bad_event(const struct vmcb *v)
{
	uint64_t info = v->control.event_inject;
	unsigned type = (info & INJECT_TYPE_MASK) >> INJECT_TYPE_SHIFT, vector = info & 0xff;

	if (!(info & INJECT_VALID))
		return false;
	if (type == 1 || type > INJECT_SOFT_INTERRUPT)
		return true;
	return type == INJECT_EXCEPTION && (vector == VECTOR_NMI || vector > 31);
}

static const struct {
	bool (*broken)(const struct vmcb *vmcb);
	bool looks_at_state;
	const char *text;
} rules[] = {
	{ no_vmrun_intercept, false, "VMRUN is not intercepted" },
	{ asid_zero, false, "ASID 0 is the host's" },
	{ no_root, false, "the second-level table root is not set, or no table address" },
	{ bad_event, false, "the injected event has a type or vector that VMRUN refuses" },
	{ efer_svme, true, "EFER.SVME is clear" },
	{ cr0_caching, true, "CR0: NW without CD" },
	{ cr0_high, true, "CR0 has bits above 31" },
	{ cr3_high, true, "CR3 has reserved bits" },
	{ cr4_high, true, "CR4 has reserved bits" },
	{ dr_high, true, "DR6 or DR7 has bits above 31" },
	{ long_no_pae, true, "long mode without CR4.PAE" },
	{ long_no_protection, true, "long mode without CR0.PE" },
	{ long_and_32, true, "long mode with CS.L and CS.D both set" },
};

const char *svm_explain_refusal(const struct vmcb *vmcb, uint32_t asid_count, bool save_area_is_guest)
{
	for (unsigned i = 0; i < ARRAY_SIZE(rules); i++)
		if ((save_area_is_guest || !rules[i].looks_at_state) && rules[i].broken(vmcb))
			return rules[i].text;
	return vmcb->control.asid >= asid_count ? "ASID above what the processor has" : NULL;
}
