/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The vendor seam. vm/ drives a virtual CPU through struct hv_ops and nothing else;
 * vmx/ and svm/ each provide one table. What both sides share stands here, in hv_registers.h and in hv_exit.h: the guest's
 * registers, the neutral exit, the event to inject, the capabilities.
 *
 * Registers are fetched lazily. After run(): gpr[] but RSP, rip and exit are always
 * there. Everything else belongs to a register group: read it only after
 * hv_need(vcpu, groups), and after changing it call hv_changed(vcpu, groups), so that
 * the backend writes it back at the next entry. hv_need costs two instructions when the
 * group is already there. A group must be needed before it is changed, unless every
 * member of it is set.
 *
 * A vcpu belongs to one host CPU at a time; none of this takes a lock. Interrupts of the
 * host are off on every call, and off again when run() returns.
 */
#pragma once

#include "arch/x86_64/hv_exit.h"
#include "arch/x86_64/hv_registers.h"
#include "arch/x86_64/registers.h"
#include "lib/status.h"

struct cpuid_result;
struct hv_nested_ops;
struct hv_vcpu;

/*
 * Exits that a backend ends by a short way: the guest goes on at once, and the rest of its state is as the last entry had it. CPUID,
 * where nothing but the leaf decides, is answered without vm/, if nobody asks for the vcpu; a port's access is vm's. See hv_answer.h.
 */
struct hv_answers {
	const struct cpuid_result *cpuid; /* by leaf */
	uint64_t leaves;                  /* bit n: cpuid[n] is leaf n's answer */
	const uint32_t *requests;         /* atomic; not 0: somebody wants something of this vcpu */
	uint64_t *count;                  /* of exits answered */
	/* IN or OUT of size 1, 2 or 4 bytes, RAX included; RIP is the backend's to move. True: go on; false: call exited(). */
	bool (*port)(struct hv_vcpu *vcpu, uint16_t port, unsigned size, bool in);
};

/* One virtual CPU as both sides see it; each backend embeds it as its first member. */
struct hv_vcpu {
	uint64_t gpr[GPR_COUNT]; /* first: the world switches know it there */
	uint64_t rip;
	/* What makes an entry more than a bare one stands together, so that a backend can tell by one comparison. */
	uint32_t changed; /* REGS_* */
	bool want_interrupt_window, want_nmi_window;
	bool tsc_changed;
	bool flush_pending; /* everything cached for this vcpu is flushed before the next entry */
	uint32_t valid;     /* REGS_* */
	uint64_t rflags;
	uint64_t cr0, cr2, cr3, cr4, efer;
	uint64_t pdpte[4]; /* PAE: what the processor holds */
	uint64_t xcr0;     /* the host's is exchanged for it around the run by vm/ */
	uint64_t dr[8];
	uint64_t debugctl;
	struct segment segment[SEG_COUNT];
	struct table_register gdtr, idtr;
	uint64_t sysenter_cs, sysenter_esp, sysenter_eip, pat;
	uint64_t star, lstar, cstar, sfmask, kernel_gs_base;
	uint64_t spec_ctrl; /* in the processor while the guest runs, once its MSR is passed */
	bool interrupt_shadow, nmi_blocked;

	struct hv_event inject;  /* taken at the next entry, then EVENT_NONE again */
	uint64_t tsc_offset;     /* guest TSC = hv_tsc(); after changing it or the scale set tsc_changed */
	uint64_t tsc_scale;      /* in units of 2^-48, an L2's alone; 0: 1 */
	uint64_t slice_deadline; /* host TSC at which EXIT_SLICE comes where the backend can; UINT64_MAX: no limit */
	hpa_t slat_root;

	const struct hv_answers *answers; /* NULL: each exit goes to exited() */

	struct hv_exit exit;
	/* vm/ looks at an exit, all of it filled; true: the guest goes on, false: run() returns. Interrupts are off. */
	bool (*exited)(struct hv_vcpu *vcpu);
	void *owner; /* vm's struct vcpu */

	/* Where caps.pml is: takes each page whose dirty bit the processor has set; set before the first run. Any CPU. */
	void (*page_written)(void *context, gpa_t page);
	void *page_context;
};

/* So many ticks of L1, a difference too, in those of this guest (section 26.3, RDTSC). */
static inline uint64_t hv_tsc_scaled(const struct hv_vcpu *v, uint64_t ticks)
{
	return v->tsc_scale ? (uint64_t)((__int128)(int64_t)ticks * (__int128)v->tsc_scale >> 48) : ticks;
}

/* What the guest's counter shows when the host's shows `host`. */
static inline uint64_t hv_tsc(const struct hv_vcpu *v, uint64_t host)
{
	return hv_tsc_scaled(v, host) + v->tsc_offset;
}

enum slat_kind { SLAT_EPT, SLAT_NPT };

/* What the processor offers; the same on every CPU, or the start fails. */
struct hv_caps {
	enum slat_kind slat;
	uint8_t slat_levels; /* 4 or 5 */
	bool slat_2m, slat_1g, slat_execute_only, slat_accessed_dirty;
	bool slat_large_execute; /* large leaves may hold code: no iTLB multihit, or the operator says so */
	bool pml, tsc_scaling, next_rip, decode_assists, slice_timer, vpid, flush_by_asid;
	bool rdtscp, invpcid; /* a guest may execute RDTSCP and RDPID, INVPCID, where the processor has them */
	bool kick_by_nmi;     /* an interrupt may not get a guest out: use NMI (vmx/quirks.h) */
	bool pdpte_marked;   /* it sets the accessed bit in PDPTEs of PAE paging, and so doesn't hold it against them */
	bool misconfig_exit; /* a reserved pattern in a leaf exits fast (EPT) */
	uint32_t asid_count;
};

/* Why a machine can't be virtualised: what is missing and what to change, for a person. */
struct hv_refusal {
	char text[200];
};

/* How plain addresses are, for short ways. */
#define HV_CODE_64 1u    /* 64-bit mode */
#define HV_CODE_FLAT 2u  /* 32-bit code; code and data segment, DS, are all of 4 GiB, and DS is writable */
#define HV_CODE_PAGED 4u /* beside these: there's paging */
/* Data, not expand-down, writable, present; and what says so. */
#define HV_FLAT_MASK (SEG_ATTR_PRESENT | 0xeu)
#define HV_FLAT_DATA (SEG_ATTR_PRESENT | 0x2u)
#define HV_FLAT_LIMIT 0xffffffffu

struct hv_ops {
	const char *name; /* "VMX" or "SVM" */

	/* Can this CPU do it? Looks at CPUID and MSRs only, changes nothing. Fills caps, or why. Runs on each CPU. */
	enum status (*probe)(struct hv_caps *caps, struct hv_refusal *why) must_check;
	/* Turns it on and off on the calling CPU. */
	enum status (*enable_cpu)(struct hv_refusal *why) must_check;
	void (*disable_cpu)(void);

	/*
	 * A vcpu in the state after power-on (manual: Intel vol. 3 table 9-1, AMD vol. 2 table 14-1), SLAT root
	 * unset. NO_MEMORY. destroy() must run on a CPU where the vcpu isn't loaded elsewhere; it gives all back.
	 */
	enum status (*create)(struct hv_vcpu **vcpu) must_check;
	void (*destroy)(struct hv_vcpu *vcpu);
	/* Registers as after INIT (or power-on) again. */
	void (*reset)(struct hv_vcpu *vcpu);

	/*
	 * Enters the guest on this CPU; calls vcpu->exited() at each exit, and enters again until that says no. Moves the vcpu
	 * here first if it last ran on another CPU (which must have let go of it with unload()). exited() may call run().
	 */
	void (*run)(struct hv_vcpu *vcpu);
	/* Makes the CPU that holds the vcpu's state let go (VMCLEAR); call there, before it runs elsewhere. */
	void (*unload)(struct hv_vcpu *vcpu);

	/* Fetches the groups that aren't valid yet. Use hv_need(). */
	void (*load)(struct hv_vcpu *vcpu, uint32_t groups);

	/* What of HV_CODE_* holds just now, read from as few places as it takes; 0 when in doubt. Loads no group. */
	unsigned (*code)(const struct hv_vcpu *vcpu);

	/* Second-level table root, a table frame; levels as in caps. Flushes. */
	void (*set_slat)(struct hv_vcpu *vcpu, hpa_t root);

	/*
	 * Hands over to page_written() what has been logged until now and wasn't handed over yet. Any CPU, the vcpu running or
	 * not; what a running one logs meanwhile may or may not come along. NULL without caps.pml.
	 */
	void (*collect_written)(struct hv_vcpu *vcpu);

	/*
	 * Guest reads (and writes) of this MSR need no exit from now on, or do again. Only MSRs that the entry switches, and
	 * commands that leave nothing behind; others keep their exits. SPEC_CTRL is switched from its first passing on: until
	 * then the guest runs with the host's. The vcpu's REGS_SYSTEM are marked as changed by the caller.
	 */
	void (*pass_msr)(struct hv_vcpu *vcpu, uint32_t msr, bool read, bool write);

	/* Hypervisors as guests; NULL: not offered. */
	const struct hv_nested_ops *nested;
};

extern const struct hv_ops vmx_ops;
extern const struct hv_ops svm_ops;
/* The one chosen at boot. */
extern const struct hv_ops *hv;
extern struct hv_caps hv_capabilities;

/* Does it run 64-bit code? REGS_CONTROL and REGS_CODE are there. */
static inline bool hv_in_64_bit(const struct hv_vcpu *vcpu)
{
	return (vcpu->efer & EFER_LMA) && (vcpu->segment[SEG_CS].attributes & SEG_ATTR_L);
}

static inline void hv_need(struct hv_vcpu *vcpu, uint32_t groups)
{
	if ((vcpu->valid & groups) != groups)
		hv->load(vcpu, groups);
}

/* All of hv_vcpu that asks for work before an entry, but the event, the slice and RIP, as one number; 0: nothing does. */
static inline uint64_t hv_agenda(const struct hv_vcpu *vcpu)
{
	uint64_t agenda;

	_Static_assert(offsetof(struct hv_vcpu, flush_pending) + 1 ==
			       offsetof(struct hv_vcpu, changed) + sizeof(agenda),
		       "the fields stand together");
	__builtin_memcpy(&agenda, &vcpu->changed, sizeof(agenda));
	return agenda;
}

static inline void hv_changed(struct hv_vcpu *vcpu, uint32_t groups)
{
	vcpu->valid |= groups;
	vcpu->changed |= groups;
}

/*
 * What the processor notes in the debug registers on its way into a #DB handler, for the conditions in `bits` of DR6: the
 * breakpoints of an earlier one go, all else gathers, and GD is off. Intel SDM vol. 3 sections 18.2.3, 18.2.4.
 */
static inline void hv_note_debug(struct hv_vcpu *vcpu, uint64_t bits)
{
	hv_need(vcpu, REGS_DEBUG);
	vcpu->dr[6] = (vcpu->dr[6] & ~DR6_BREAKPOINTS) | bits;
	vcpu->dr[7] &= ~(uint64_t)DR7_GENERAL_DETECT;
	hv_changed(vcpu, REGS_DEBUG);
}

/* A fault is to be injected. Its handler finds RF set, as behind every fault but an instruction breakpoint's (section 18.3.1.1). */
static inline void hv_inject_fault(struct hv_vcpu *vcpu, struct hv_event fault)
{
	vcpu->inject = fault;
	hv_need(vcpu, REGS_RFLAGS);
	vcpu->rflags |= RFLAGS_RF;
	hv_changed(vcpu, REGS_RFLAGS);
}
