/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The part of the vendor seam for hypervisors as guests. L0 is Quire, L1 the guest that is a hypervisor, L2 its guest.
 *
 * A vcpu of a machine with `nested = on` has two backend vcpus, l1 and l2, each made by hv->create(): so L1's registers stay
 * where they are while L2 runs, a switch of levels copies a few of them, and whoever handles an exit works on the one that
 * runs without asking which. A backend's own part (virtual GIF, the current VMCS12 ...) begins with struct hv_nested.
 *
 * One of the functions below may change the level: they say so in nested->in_l2, and vm/ makes the other one its hv_vcpu
 * before anything else. What a switch carries over, because no processor keeps it twice, is the backend's to copy: general
 * registers, CR2, DR0-3 and DR6, XCR0, and what VMX leaves in MSRs. FPU state and TSC_AUX stay where they are.
 *
 * The backend asks L1's memory and clock of vm/ by struct hv_nested_env, and knows neither machine nor page manager: which
 * host frame answers an address of L2 is nobody's business but vm/'s, by what the backend tells of L1's tables (slat).
 * A structure of L1's is read once into the backend's own memory, checked there, and used from there.
 *
 * On the vcpu's own CPU, interrupts off, no lock held; nothing here takes one, but for what env's functions do.
 */
#ifndef ARCH_HV_NESTED_H
#define ARCH_HV_NESTED_H

#include "arch/x86_64/hv.h"
#include "arch/x86_64/pt_format.h"

struct cpuid_result;

/* L1's second-level tables for the L2 that runs. */
struct hv_nested_slat {
	bool on; /* false: none, L2's physical addresses are L1's */
	gpa_t root;
	const struct pt_format *format; /* as L1 sees it: a bit that L1 wasn't offered is reserved in it */
	uint8_t physical_bits;          /* L1's MAXPHYADDR */
	bool large_1g;                  /* L1 may use 1 GiB leaves */
	bool accessed_dirty;            /* its accessed and dirty bits are set in its tables */
	bool no_execute;                /* NPT: L1's EFER.NXE as it was at VMRUN; clear: bit 63 is reserved */
	bool traps; /* what L2 reaches at L1's page `trapped` isn't memory: L1's APIC; format is there even if !on */
	gpa_t trapped;
};

/* L2 runs on tables composed of these and Quire's; false: on L1's own. */
static inline bool hv_nested_composed(const struct hv_nested_slat *slat)
{
	return slat->on || slat->traps;
}

/* What L1's own tables have against an access of L2; from their walk, never from what the processor saw in ours. */
struct hv_nested_fault {
	gpa_t where;                    /* in L2 */
	gva_t linear;                   /* with linear_valid */
	bool linear_valid, guest_table; /* guest_table: the access was to one of L2's own page tables */
	uint8_t access;                 /* ACCESS_*; more than one for a read-modify-write */
	uint8_t rights;                 /* ACCESS_* that all of L1's levels together grant; 0: not present */
	bool user;                      /* NPT: every level has U set */
	bool misconfigured;             /* EPT misconfiguration; NPT: a reserved bit is set */
	bool present;                   /* NPT: a present leaf was reached */
	bool trapped;                   /* L1's tables grant it, and it is to slat.trapped */
	uint8_t level;                  /* at which the walk ended */
};

/* Of a page of L1's: whole words, as they are in one (Intel SDM vol. 3 section 9.1.1). */
struct hv_nested_part {
	uint16_t at, size;
};

struct hv_nested_env {
	/*
	 * L1's physical memory, any length; no handler is called and devices aren't touched: BAD_ADDRESS or HANDLER where there is no
	 * plain memory. NO_MEMORY, OVER_QUOTA: try again later.
	 */
	enum status (*read)(void *context, gpa_t from, void *to, size_t size) must_check;
	enum status (*write)(void *context, gpa_t to, const void *from, size_t size) must_check;
	/* Parts of one page, to the same places of `copy` or, write, from there; otherwise as these two. */
	enum status (*parts)(void *context, gpa_t page, void *copy, const struct hv_nested_part *parts, unsigned count,
			     bool write) must_check;
	/* By linear address, as the instruction that exited does it. GUEST_FAULT: the exception stands in nested->fault, CR2 is set. */
	enum status (*read_linear)(void *context, gva_t from, void *to, unsigned size) must_check;
	enum status (*write_linear)(void *context, gva_t to, const void *from, unsigned size) must_check;
	/*
	 * What was derived from L1's tables at slat->root is looked at again; NULL: from all of L1's tables. The caller sees to the flush of
	 * what its own processor has cached for l2. Other vcpus that use it are made to flush before this returns.
	 */
	void (*invalidate)(void *context, const struct hv_nested_slat *slat);
	/*
	 * An entry of L1's lists of MSRs, read from or written to l1's or l2's registers, by the rules for RDMSR and WRMSR there:
	 * NOT_FOUND, DENIED.
	 */
	enum status (*msr)(void *context, struct hv_vcpu *level, uint32_t msr, bool write, uint64_t *value) must_check;
	/* L1's pending external interrupt is acknowledged: its vector; -1: it has gone. */
	int (*acknowledge)(void *context);
	/* Bits that L1 may set, by what its CPUID says; its MAXPHYADDR. */
	uint64_t cr4_valid, efer_valid;
	uint8_t physical_bits;
	/* CPUID of L1, as it would read it. */
	void (*cpuid)(void *context, uint32_t leaf, uint32_t subleaf, struct cpuid_result *out);
};

/* The common beginning of a backend's own state. */
struct hv_nested {
	struct hv_vcpu *l1, *l2;
	bool in_l2;
	bool awaits_startup;        /* L2 sleeps until startup(), whatever else comes: vm/ doesn't enter it */
	struct hv_nested_slat slat; /* for l2; vm/ looks at it again whenever the level has changed to L2 */
	bool slat_changed;          /* set by the backend when slat is another; cleared by vm/ */
	struct hv_event fault;      /* NESTED_FAULT: what to inject into L1 */
	uint64_t deadline;          /* host TSC at which exit() wants to be asked while L2 runs; UINT64_MAX: never */
	uint64_t timer;             /* the same, of L1's own timer for L2 alone */
	const struct hv_nested_env *env;
	void *context;
};

enum hv_nested_step {
	NESTED_DONE,    /* carried out: vm/ steps over the instruction */
	NESTED_FAULT,   /* nested->fault goes to L1 */
	NESTED_AGAIN,   /* nothing has changed: no memory just now, L1 comes again */
	NESTED_ENTERED, /* L2 is to run; or it was to run and the entry failed as an exit: RIP is right as it is */
};

enum hv_nested_event { NESTED_INTERRUPT, NESTED_NMI, NESTED_INIT };

enum hv_nested_verdict {
	NESTED_INJECT, /* it goes to the level that runs, by its own rules; nested or not makes no difference */
	NESTED_REFLECTED, /* L1 has got an exit for it, and finds it pending still, but an interrupt that was acknowledged */
	NESTED_TAKEN, /* L1 has got an exit that is the NMI's or INIT's delivery, too: it is pending no more (VMX) */
	NESTED_WINDOW, /* L1 is to get an exit for it as soon as the level that runs could take one: ask for the window */
	NESTED_HELD,   /* not now; an instruction or exit that ends that will make vm/ ask again */
};

/* hv_ops.nested; NULL: no guest is offered the extension. */
struct hv_nested_ops {
	/*
	 * l1 is there; makes l2 and its own. NO_MEMORY. env and context stay. NOT_SUPPORTED: this host's processor lacks what it needs.
	 */
	enum status (*create)(struct hv_vcpu *l1, const struct hv_nested_env *env, void *context,
			      struct hv_nested **out) must_check;
	void (*destroy)(struct hv_nested *nested); /* l2 with it; l1 stays */
	/* Power-on or INIT of L1: L1 runs, the extension is off. l1's registers are vm's to reset. */
	void (*reset)(struct hv_nested *nested);

	/* l1 exited with EXIT_NESTED, its exit.length is right. CPL and mode are not checked yet. */
	enum hv_nested_step (*instruction)(struct hv_nested *nested);
	/*
	 * An exit of l2, before anybody else sees it; also when the deadline has come (EXIT_SLICE, or any other). true: L1 had asked for
	 * it, and runs now. false: it is L0's; the ordinary handlers do it on l2. Not asked for EXIT_SLAT_FAULT and _MISCONFIG with
	 * slat.on: see reflect_slat.
	 */
	bool (*exit)(struct hv_nested *nested);
	/* L1 gets the exit for a fault in its own tables. l2->exit is as the processor filled it (the event broken off, too). */
	void (*reflect_slat)(struct hv_nested *nested, const struct hv_nested_fault *fault);
	/* May an instruction's access of up to 4 bytes to slat.trapped go to *where in L1's memory? false: L1 gets its exit. NULL: never. */
	bool (*redirect)(struct hv_nested *nested, const struct hv_nested_fault *fault, gpa_t *where);
	/* Behind an instruction that did so: has L1 got an exit? */
	bool (*redirected)(struct hv_nested *nested);
	/*
	 * L0 is about to inject this exception into the level that runs; detail is CR2's value for #PF, DR6's bits for #DB.
	 * true: L1 intercepts it and has got an exit. An event that it would meet stands in l2->inject; if that is a
	 * double fault already, what happens is a shutdown, which L1 may intercept as well.
	 */
	bool (*exception)(struct hv_nested *nested, const struct hv_event *event, uint64_t detail);
	/* Something for L1 is pending: what becomes of it? Asked before each entry while it is so, at either level. */
	enum hv_nested_verdict (*pending)(struct hv_nested *nested, enum hv_nested_event what);

	/* A SIPI has come while awaits_startup: L1 has got an exit for it. NULL: that is never set. */
	void (*startup)(struct hv_nested *nested, uint8_t vector);

	/* RDMSR and WRMSR of l1. NOT_FOUND: not one of the extension's; DENIED: #GP. */
	enum status (*msr)(struct hv_nested *nested, uint32_t msr, bool write, uint64_t *value) must_check;
	/* May L1 load these? false: #GP (VMX: fixed bits while it is on). cr4's own bit (VMXE) is among cr4_valid. */
	bool (*control)(const struct hv_nested *nested, uint64_t cr0, uint64_t cr4, uint64_t efer);
	/*
	 * L2 moves value to CR0 or CR4, and L1 doesn't intercept that: what the register really gets, since bits that are L1's stay. VMX: SDM
	 * vol. 3 section 26.3.
	 */
	uint64_t (*control_value)(const struct hv_nested *nested, unsigned number, uint64_t value);
	/* Adds to a leaf of the machine's CPUID what tells of the extension. Without a vcpu. */
	void (*tell)(uint32_t leaf, struct cpuid_result *result);
};

#endif
