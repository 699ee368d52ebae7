/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A guest that is a hypervisor, on VMX: what the files of vmx/nested/ share (arch/x86_64/hv_nested.h is the seam above them).
 *
 *   fields.c vmcs12.h          VMCS12: its fields by one table
 *   offer.c                    the capability MSRs that L1 sees
 *   check*.c                   the checks of an entry
 *   operand.c                  memory operands of L1's instructions
 *   wants.c                    which exits of L2 are L1's
 *   instruction.c region.c     VMXON to INVVPID
 *   judge.c                    an entry's checks, once per change
 *   enter.c leave.c clock.c    L1 to L2 and back
 *   mirror.c                   VMREAD and VMWRITE without an exit
 *   apic_page.c                L2's accesses to the page that stands for its APIC
 *   msr_list.c                 the lists of MSRs that L1 has loaded and stored
 *   nested.c                   the table of functions, exits, MSRs
 *   pending.c                  interrupts, NMIs, INIT
 *
 * VMCS01 and VMCS02 are the VMCSs of the vcpus l1 and l2. VMCS12 is L1's: while it is current its fields are in vmcs12, and in L1's
 * memory once it isn't. A guest-state field that the processor changes is fetched from VMCS02 at each exit, or (FIELD_KEPT) when L1
 * asks for it: `kept_in_02` says that VMCS02's are the newer ones, but for those in `dirty`, which L1 has written since.
 *
 * On the vcpu's CPU, interrupts off; VMCS01 or VMCS02 may be the processor's current one, and may not: whoever uses one makes it so.
 */
#pragma once

#include "arch/x86_64/hv_nested.h"
#include "vmx/nested/check.h"
#include "vmx/vmx.h"

#define NO_VMCS gpa(~UINT64_C(0))
#define VPID_UNKNOWN (~0u)

struct vmx_nested {
	struct hv_nested base; /* first */
	bool on;               /* in VMX operation */
	bool kept_in_02;
	bool in_mirror;       /* L1 may have written fields in the mirror */
	bool below;           /* VTPR is below its threshold: an exit as soon as L2 has got the event of this entry */
	bool lowered;         /* an instruction of L2's has written VTPR */
	bool halted;          /* L2 sleeps behind a HLT that L1 doesn't intercept, while that is its last exit */
	bool launched_before; /* the entry that is under way */
	uint8_t judged;       /* JUDGED_*: what of VMCS12 has passed its checks, and is as it was */
	gpa_t vmxon, current; /* the region; NO_VMCS: none */
	unsigned vpid;        /* of L1's with which L2's translations are cached under l2's */
	/* What VMCS02 holds of these; not ours to know at first. */
	uint32_t secondary, exceptions;
	bool masks_written;
	struct vmcs12_set dirty;                         /* COPIED fields that VMCS02 doesn't have yet */
	struct vmcs12_set copied, kept;                  /* constant, and those below, too */
	struct vmcs12_list hot, exit, mirrored, written; /* written: of the mirrored ones those that L1 may write */
	hpa_t read_bitmap, write_bitmap;                 /* of VMREADs and VMWRITEs that exit; HPA_NONE */
	struct vmx_offer offer;
	union vmcs12 vmcs12;
	uint8_t msr_bitmap[PAGE_SIZE]; /* L1's, as it was at the entry; but where it is looked at in an exit */
};

_Static_assert(offsetof(struct vmx_nested, base) == 0, "cast from its common beginning");

static inline struct vmx_nested *nested_of(const struct hv_nested *nested)
{
	return (struct vmx_nested *)nested;
}

static inline bool gpa_is(gpa_t a, gpa_t b)
{
	return a.v == b.v;
}

/* Each slot of a set, by its number in `slot`; `i` and `rest` are the loop's own. */
#define FOR_SLOTS(slot, set)                                                                                           \
	for (unsigned i = 0; i < VMCS12_WORDS; i++)                                                                    \
		for (uint64_t rest = (set).word[i], slot;                                                              \
		     rest && (slot = i * 64 + (unsigned)__builtin_ctzll(rest), 1); rest &= rest - 1)

/* enter.c: what an EPT pointer of L1's says; false: it isn't one that an entry takes. */
bool vmx_nested_slat(const struct vmx_nested *n, uint64_t pointer, struct hv_nested_slat *slat);

/* nested.c: what of v's registers waits in memory is written to its VMCS; v's VMCS is current then. */
void vmx_nested_settle(struct hv_vcpu *v);
/* Registers that no VMCS holds go from one level to the other; both are settled. */
void vmx_nested_carry(struct hv_vcpu *from, struct hv_vcpu *to);
/* All of VMCS12 is in vmcs12; VMCS02 may be the processor's current one now. */
void vmx_nested_fetch_kept(struct vmx_nested *n);

/* A field has another value, by L1's will. */
void vmx_nested_store_field(struct vmx_nested *n, unsigned slot, uint64_t value);

/* mirror.c. Without VMCS shadowing they do nothing. */
enum status vmx_mirror_create(struct vmx_nested *n) must_check; /* NO_MEMORY: destroy it all the same */
void vmx_mirror_destroy(struct vmx_nested *n);
void vmx_mirror_push(struct vmx_nested *n, bool anew); /* anew: VMCS12 has become current */
void vmx_mirror_pull(struct vmx_nested *n);
void vmx_mirror_hide(struct vmx_nested *n);

/* instruction.c: hv_nested_ops.instruction */
enum hv_nested_step vmx_nested_instruction(struct hv_nested *nested);

/* judge.c: 0, or the number of the error by which the instruction fails. */
unsigned vmx_nested_judge(struct vmx_nested *n);
/* GUEST_FINE, with the PDPTEs that L2 begins with, or the qualification. NO_MEMORY, OVER_QUOTA: L1's memory can't be read now. */
enum status vmx_nested_judge_guest(struct vmx_nested *n, uint64_t pdpte[4], unsigned *verdict) must_check;

/* enter.c: VMLAUNCH or VMRESUME. What stops it short of the guest's state is the number of an error, and nothing has changed. */
enum hv_nested_step vmx_nested_enter(struct vmx_nested *n, bool launch, unsigned *error);

/* An exit to L1. */
struct vmx_leave {
	uint64_t reason; /* basic; or with REASON_ENTRY_FAILED */
	bool processor;  /* VMCS02 tells the rest; otherwise it is what follows, and the guest's addresses */
	uint64_t qualification, gpa, linear, length;
	uint32_t event, event_error;
	struct hv_event vectoring; /* an event that the exit comes before the end of */
	bool by_nmi, undoes_iret;
};
/* clock.c: at an entry; and what L1 finds of its timer at an exit. */
void vmx_nested_set_clock(struct vmx_nested *n);
void vmx_nested_save_timer(struct vmx_nested *n);
/* leave.c: L1 runs in its host state. */
void vmx_nested_leave(struct vmx_nested *n, const struct vmx_leave *leave);

/* wants.c: the exit of l2, as VMCS02 and l2->exit have it. */
bool vmx_nested_wants(struct vmx_nested *n);
/* CR8 of an L2 with a TPR shadow. true: carried out, or not possible now: l2->exit.kind is right for vm/; *below: the exit that follows. */
bool vmx_nested_priority(struct vmx_nested *n, bool *below);
/* VTPR; 0 without a shadow. */
uint8_t vmx_nested_read_priority(const struct vmx_nested *n);
/* apic_page.c: hv_nested_ops.redirect and .redirected; the exit for an access to the APIC's page; is VTPR below, of an L2 with that page? */
bool vmx_nested_redirect(struct hv_nested *nested, const struct hv_nested_fault *fault, gpa_t *where);
bool vmx_nested_redirected(struct hv_nested *nested);
void vmx_nested_apic_exit(const struct hv_exit *exit, const struct hv_nested_fault *fault, struct vmx_leave *leave);
bool vmx_nested_below(const struct vmx_nested *n);

/* msr_list.c: loads a list into a level's registers, or stores them; 0, or the entry, counted from 1, that can't be. */
unsigned vmx_nested_msr_list(struct vmx_nested *n, struct hv_vcpu *level, uint64_t address, uint64_t count, bool store);

/* pending.c: hv_nested_ops.pending and .startup */
enum hv_nested_verdict vmx_nested_pending(struct hv_nested *nested, enum hv_nested_event what);
void vmx_nested_startup(struct hv_nested *nested, uint8_t vector);
