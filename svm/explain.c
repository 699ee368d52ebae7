/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What is wrong with a VMCB: the rules of AMD APM vol. 2 section 15.5.1 one by one. For the message when the processor has refused
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
	uint64_t pat = v->save.pat, ones = ~UINT64_C(0) / 0xff;

	return (v->control.nested_control & NESTED_PAGING) && (pat & (ones * 0xf8 | (ones * 2 & ~(pat >> 1))));
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

/* Each VMRUN of a guest hypervisor pays for all of them: as calls by a table they'd cost three times as much. */
const char *svm_explain_refusal(const struct vmcb *vmcb, const struct svm_limits *limits, bool save_area_is_guest)
{
#define RULE(broken, text)                                                                                             \
	if (broken(vmcb, limits))                                                                                      \
	return text
	RULE(no_vmrun_intercept, "VMRUN is not intercepted");
	RULE(asid_zero, "ASID 0 is the host's");
	RULE(asid_high, "ASID above what the processor has");
	RULE(bad_flush, "no such TLB_CONTROL");
	RULE(bad_maps, "a permission map above the processor's addresses");
	RULE(bad_root, "the second-level table root is not set, or no table address");
	RULE(bad_event, "the injected event has a type or vector that VMRUN refuses");
	if (!save_area_is_guest)
		return NULL;
	RULE(efer_svme, "EFER.SVME is clear");
	RULE(efer_reserved, "EFER has reserved bits");
	RULE(bad_pat, "PAT has a reserved type");
	RULE(cr0_caching, "CR0: NW without CD");
	RULE(cr0_high, "CR0 has bits above 31");
	RULE(cr3_reserved, "CR3 has reserved bits");
	RULE(cr4_reserved, "CR4 has reserved bits");
	RULE(dr_high, "DR6 or DR7 has bits above 31");
	RULE(long_no_pae, "long mode without CR4.PAE");
	RULE(long_no_protection, "long mode without CR0.PE");
	RULE(long_and_32, "long mode with CS.L and CS.D both set");
#undef RULE
	return NULL;
}
