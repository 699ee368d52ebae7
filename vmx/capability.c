/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Judges the capability MSRs: which controls are needed, which are taken when offered, and in what
 * words a person is told that one is missing. See capability.h.
 */
#include "vmx/capability.h"

#include "lib/format.h"
#include "vmx/quirks.h"

/* Of ENTRY_LATER: needed only to be possible, the entry that turns it on is made per guest. EPT: features that are just there. */
enum word { PIN, PRIMARY, SECONDARY, EXIT, ENTRY, ENTRY_LATER, EPT, WORDS };

/* A control bit and what it is called in the manual; needed ones refuse the machine when missing. */
static const struct control {
	enum word word;
	uint64_t bit;
	bool needed;
	const char *name;
} controls[] = {
	{ PIN, PIN_EXTERNAL_INTERRUPT, true, "external-interrupt exiting" },
	{ PIN, PIN_NMI, true, "NMI exiting" },
	{ PIN, PIN_VIRTUAL_NMIS, true, "virtual NMIs" },
	{ PIN, PIN_PREEMPTION_TIMER, false, "VMX-preemption timer" },
	{ PRIMARY, PRIMARY_INTERRUPT_WINDOW, true, "interrupt-window exiting" },
	{ PRIMARY, PRIMARY_NMI_WINDOW, true, "NMI-window exiting" },
	{ PRIMARY, PRIMARY_TSC_OFFSET, true, "TSC offsetting" },
	{ PRIMARY, PRIMARY_HLT, true, "HLT exiting" },
	{ PRIMARY, PRIMARY_MWAIT, true, "MWAIT exiting" },
	{ PRIMARY, PRIMARY_MONITOR, true, "MONITOR exiting" },
	{ PRIMARY, PRIMARY_RDPMC, true, "RDPMC exiting" },
	{ PRIMARY, PRIMARY_CR8_LOAD, true, "CR8-load exiting" },
	{ PRIMARY, PRIMARY_CR8_STORE, true, "CR8-store exiting" },
	{ PRIMARY, PRIMARY_UNCONDITIONAL_IO, true, "unconditional I/O exiting" },
	{ PRIMARY, PRIMARY_MSR_BITMAP, true, "MSR bitmaps" },
	{ PRIMARY, PRIMARY_SECONDARY, true, "secondary controls" },
	{ SECONDARY, SECONDARY_EPT, true, "extended page tables (EPT)" },
	{ SECONDARY, SECONDARY_UNRESTRICTED, true, "unrestricted guest" },
	{ SECONDARY, SECONDARY_VPID, false, "VPID" },
	{ SECONDARY, SECONDARY_RDTSCP, false, "RDTSCP" },
	{ SECONDARY, SECONDARY_INVPCID, false, "INVPCID" },
	{ SECONDARY, SECONDARY_WBINVD, false, "WBINVD exiting" },
	{ SECONDARY, SECONDARY_PAUSE_LOOP, false, "PAUSE-loop exiting" },
	{ SECONDARY, SECONDARY_PML, false, "page-modification logging" },
	{ SECONDARY, SECONDARY_ENCLS, false, "ENCLS exiting" }, /* else a guest's would be carried out */
	{ EXIT, EXITC_SAVE_DEBUG, true, "saving of debug controls" },
	{ EXIT, EXITC_HOST_64, true, "64-bit host" },
	{ EXIT, EXITC_SAVE_EFER, true, "saving of EFER" },
	{ EXIT, EXITC_LOAD_EFER, true, "loading of EFER at exits" },
	{ EXIT, EXITC_SAVE_PAT, false, "saving of PAT" },
	{ EXIT, EXITC_LOAD_PAT, false, "loading of PAT at exits" },
	{ EXIT, EXITC_SAVE_TIMER, false, "saving of the VMX-preemption timer" },
	{ ENTRY, ENTRYC_LOAD_DEBUG, true, "loading of debug controls" },
	{ ENTRY, ENTRYC_LOAD_EFER, true, "loading of EFER at entries" },
	{ ENTRY, ENTRYC_LOAD_PAT, false, "loading of PAT at entries" },
	{ ENTRY_LATER, ENTRYC_IA32E, true, "64-bit guests" },
	{ EPT, EPT_4_LEVELS, true, "4-level EPT" },
	{ EPT, EPT_WB, true, "write-back EPT structures" },
	{ EPT, EPT_INVEPT, true, "INVEPT" },
};

/* What a hypervisor as a guest is offered where the processor has it, beside what Quire uses itself. */
#define MAY_PRIMARY                                                                                                    \
	(PRIMARY_HLT | PRIMARY_INVLPG | PRIMARY_MWAIT | PRIMARY_RDPMC | PRIMARY_RDTSC | PRIMARY_CR3_LOAD |             \
	 PRIMARY_CR3_STORE | PRIMARY_MOV_DR | PRIMARY_MONITOR | PRIMARY_PAUSE)
#define MAY_SECONDARY (SECONDARY_DESCRIPTOR_TABLES | SECONDARY_RDRAND | SECONDARY_RDSEED | SECONDARY_TSC_SCALING)

/* What of the EPT and VPID capabilities is ever asked for: CPUs may differ in the rest. */
#define EPT_USED                                                                                                       \
	(EPT_EXECUTE_ONLY | EPT_4_LEVELS | EPT_WB | EPT_2M | EPT_1G | EPT_INVEPT | EPT_ACCESSED_DIRTY |                \
	 EPT_INVEPT_SINGLE | EPT_INVEPT_ALL | EPT_INVVPID | EPT_INVVPID_SINGLE | EPT_INVVPID_ALL)
/* CR4 up to PKE, with what VMX itself needs: neither the host nor a guest has more. */
#define CR4_USED BITS(22, 0)

/*
 * CPUID.1:EAX without its reserved bits, of processors whose preemption timer counts wrongly: Nehalem (errata AAJ124, AAK139,
 * AAM126, AAN92, AAO95, AAP86), Nehalem-EX (BA86), Westmere (AAT59, AAU65, AAX65), and Ivy Bridge E3-1200 v2 of stepping 8.
 */
static const uint32_t timer_errata[] = {
	0x106a0, 0x106a1, 0x106a4, 0x106a5, 0x106e5, 0x206e6, 0x20652, 0x20655, 0x306a8,
};
#define SIGNATURE (BITS(27, 16) | BITS(13, 0))

static const char locked_off[] =
	"Intel VT-x is switched off and locked by the firmware. In its setup enable \"Intel Virtualization "
	"Technology\" (VMX), then turn the machine off and on";

uint32_t vmx_adjust_controls(uint64_t msr, uint64_t required, uint64_t wanted, uint32_t *value)
{
	uint32_t must = (uint32_t)msr, may = (uint32_t)(msr >> 32);

	*value = ((uint32_t)(required | wanted) & may) | must;
	return (uint32_t)required & ~may;
}

static enum status refuse(struct hv_refusal *why, const char *name)
{
	return EXPLAIN(NOT_SUPPORTED, why->text, sizeof(why->text), "this processor's VT-x lacks what Quire needs: %s",
		       name);
}

/* Builds one control word out of its controls. */
static enum status choose(enum word word, uint64_t msr, uint32_t *value, struct hv_refusal *why)
{
	uint64_t required = 0, wanted = 0;
	uint32_t missing;

	for (const struct control *c = controls; c < controls + ARRAY_SIZE(controls); c++)
		if (c->word == word)
			*(c->needed ? &required : &wanted) |= c->bit;
	missing = vmx_adjust_controls(msr, required, wanted, value);
	for (const struct control *c = controls; c < controls + ARRAY_SIZE(controls); c++)
		if (c->word == word && (missing & c->bit))
			return refuse(why, c->name);
	return OK;
}

static enum status choose_all(const struct vmx_msrs *msrs, struct vmx_capability *out, struct hv_refusal *why)
{
	uint32_t unused;
	const struct {
		uint64_t msr;
		uint32_t *value;
	} words[WORDS] = {
		[PIN] = { msrs->pin, &out->pin },
		[PRIMARY] = { msrs->primary, &out->primary },
		[SECONDARY] = { msrs->secondary, &out->secondary },
		[EXIT] = { msrs->exit, &out->exit },
		[ENTRY] = { msrs->entry, &out->entry },
		[ENTRY_LATER] = { msrs->entry & ~BITS(31, 0), &unused },
		[EPT] = { msrs->ept_vpid << 32, &unused },
	};

	for (enum word i = 0; i < WORDS; i++)
		TRY(choose(i, words[i].msr, words[i].value, why));
	return msrs->ept_vpid & (EPT_INVEPT_SINGLE | EPT_INVEPT_ALL) ? OK : refuse(why, "an INVEPT type");
}

static bool timer_counts_rightly(const struct vmx_msrs *msrs)
{
	for (unsigned i = 0; i < ARRAY_SIZE(timer_errata); i++)
		if ((msrs->signature & SIGNATURE) == timer_errata[i])
			return false;
	return true;
}

/* What only a hypervisor as a guest asks for. */
static void settle_offer(const struct vmx_msrs *msrs, struct vmx_capability *out)
{
	out->misc = msrs->misc & (MISC_TIMER_SHIFT | MISC_NO_LENGTH);
	out->string_info = msrs->basic & BASIC_STRING_INFO;
	out->shadowing = (msrs->secondary >> 32 & SECONDARY_SHADOWING) && (msrs->misc & MISC_WRITES_ALL);
	out->may_primary = (uint32_t)(msrs->primary >> 32 & MAY_PRIMARY);
	out->may_secondary = (uint32_t)(msrs->secondary >> 32 & MAY_SECONDARY) | out->secondary;
}

/* What must be there or not at all: half of a feature is none. What CPUID hides from guests must be off, so that it is #UD. */
static void settle(const struct vmx_msrs *msrs, struct vmx_capability *out)
{
	const uint32_t exit_pat = EXITC_SAVE_PAT | EXITC_LOAD_PAT;

	out->pat = (out->exit & exit_pat) == exit_pat && (out->entry & ENTRYC_LOAD_PAT);
	if (!out->pat) {
		out->exit &= ~exit_pat;
		out->entry &= ~(uint32_t)ENTRYC_LOAD_PAT;
	}
	out->vpid = (out->secondary & SECONDARY_VPID) && (msrs->ept_vpid & EPT_INVVPID) &&
		    (msrs->ept_vpid & (EPT_INVVPID_SINGLE | EPT_INVVPID_ALL));
	if (!out->vpid)
		out->secondary &= ~(uint32_t)(SECONDARY_VPID | SECONDARY_INVPCID);
	if (!(msrs->ept_vpid & EPT_ACCESSED_DIRTY))
		out->secondary &= ~(uint32_t)SECONDARY_PML;
	out->pml = out->secondary & SECONDARY_PML;
	if (!timer_counts_rightly(msrs))
		out->pin &= ~(uint32_t)PIN_PREEMPTION_TIMER;
	out->timer = out->pin & PIN_PREEMPTION_TIMER;
	if (!out->timer)
		out->exit &= ~(uint32_t)EXITC_SAVE_TIMER;
	out->timer_saved = out->exit & EXITC_SAVE_TIMER;
	out->timer_shift = msrs->misc & 0x1f;
	out->longest_slice = (uint64_t)UINT32_MAX << out->timer_shift;
	/* Windows are opened entry by entry, in vmx/run.c; long mode in vmx/control.c. */
	out->primary &= ~(uint32_t)(PRIMARY_INTERRUPT_WINDOW | PRIMARY_NMI_WINDOW);
	out->revision = msrs->basic & BASIC_REVISION;
	out->cr0_fixed0 = msrs->cr0_fixed0;
	out->cr0_fixed1 = msrs->cr0_fixed1;
	out->cr4_fixed0 = msrs->cr4_fixed0;
	out->cr4_fixed1 = msrs->cr4_fixed1 & CR4_USED;
	out->ept_vpid = msrs->ept_vpid & EPT_USED;
	settle_offer(msrs, out);
	out->kick_by_nmi = quirk_kick_by_nmi(msrs->basic);
}

static void describe(const struct vmx_msrs *msrs, const struct vmx_capability *in, struct hv_caps *caps)
{
	uint32_t secondary = (uint32_t)(msrs->secondary >> 32);

	*caps = (struct hv_caps){
		.slat = SLAT_EPT,
		.slat_levels = 4,
		.slat_2m = in->ept_vpid & EPT_2M,
		.slat_1g = in->ept_vpid & EPT_1G,
		.slat_large_execute =
			(msrs->arch_capabilities & ARCH_CAPABILITIES_PSCHANGE_MC_NO) || quirk_no_real_tlb(msrs->basic),
		.slat_execute_only = in->ept_vpid & EPT_EXECUTE_ONLY,
		.slat_accessed_dirty = in->ept_vpid & EPT_ACCESSED_DIRTY,
		.pml = in->pml,
		.tsc_scaling = secondary & SECONDARY_TSC_SCALING,
		.next_rip = true,
		.decode_assists = true,
		.rdtscp = in->secondary & SECONDARY_RDTSCP,
		.invpcid = in->secondary & SECONDARY_INVPCID,
		.slice_timer = in->timer,
		.vpid = in->vpid,
		.flush_by_asid = true,
		.misconfig_exit = true,
		.kick_by_nmi = in->kick_by_nmi,
		.asid_count = in->vpid ? 65536 : 0,
	};
}

enum status vmx_capability_parse(const struct vmx_msrs *msrs, struct vmx_capability *capability, struct hv_caps *caps,
				 struct hv_refusal *why)
{
	*capability = (struct vmx_capability){ 0 };
	if (!msrs->cpuid_vmx)
		return EXPLAIN(NOT_SUPPORTED, why->text, sizeof(why->text),
			       "this processor has no Intel VT-x (CPUID leaf 1, ECX bit 5 is clear)");
	if ((msrs->feature_control & FEATURE_CONTROL_LOCK) && !(msrs->feature_control & FEATURE_CONTROL_VMX))
		return EXPLAIN(DENIED, why->text, sizeof(why->text), "%s", locked_off);
	TRY(choose_all(msrs, capability, why));
	settle(msrs, capability);
	describe(msrs, capability, caps);
	return OK;
}

bool vmx_capability_equal(const struct vmx_capability *a, const struct vmx_capability *b)
{
	return a->revision == b->revision && a->pin == b->pin && a->primary == b->primary &&
	       a->secondary == b->secondary && a->exit == b->exit && a->entry == b->entry &&
	       a->timer_shift == b->timer_shift && a->cr0_fixed0 == b->cr0_fixed0 && a->cr0_fixed1 == b->cr0_fixed1 &&
	       a->cr4_fixed0 == b->cr4_fixed0 && a->cr4_fixed1 == b->cr4_fixed1 && a->ept_vpid == b->ept_vpid &&
	       a->misc == b->misc && a->may_primary == b->may_primary && a->may_secondary == b->may_secondary &&
	       a->shadowing == b->shadowing;
}
