/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Nested SVM: what L1, a guest that is a hypervisor, sees of AMD-V, and its guest L2. The room's own types; outside it is known
 * as svm_nested_ops (arch/x86_64/hv_nested.h).
 *
 * L1's host state needs no place of its own: it stays in l1's VMCB while L2 runs on l2's. What L1 has in its memory, VMCB12, is
 * copied at VMRUN, checked and used as copied, and written back at #VMEXIT where a processor writes. L2 exits for what Quire wants
 * and for what L1 wants (svm_vcpu.also); who gets the exit is decided here. Of L1's MSR map only the parts count in which Quire
 * itself lets something pass: they are read at each VMRUN, since no clean bit tells of the map's content (APM vol. 2 section
 * 15.15.2); for all other MSRs, and for ports, L1's maps are looked at when such an exit has come, as a processor would.
 *
 * The global interrupt flag of L1: VMRUN sets it, #VMEXIT and CLGI clear it, and while it is clear nothing pending reaches L1. INIT,
 * NMI and interrupts that L1 intercepts stay pending over the exit (section 15.13): L1 gets them at STGI. Where the processor has a
 * virtual one (V_GIF, section 15.33.2), STGI and CLGI are its; STGI exits when something has been found to be held up.
 *
 * L2 has it, too, where L1 asks. It holds V_IRQ alone. While Quire waits for a window of its own, which V_IRQ stands for, it must not:
 * then it is off, STGI and CLGI exit, and what they do is done to svm_vcpu.interrupts_below.
 *
 * AMD APM vol. 2 chapter 15; on the vcpu's own CPU.
 */
#pragma once

#include "arch/x86_64/hv_nested.h"
#include "svm/codes.h"
#include "svm/svm.h"

/* Of the MSR map, by byte: all that svm_msr_passable() names is there. */
#define MSR_WINDOW_LOW 0x10u
#define MSR_WINDOW_LOW_SIZE 0x50u
#define MSR_WINDOW_HIGH 0x820u
#define MSR_WINDOW_HIGH_SIZE 0x28u

struct svm_nested {
	struct hv_nested common; /* first */
	struct vmcb *vmcb12;     /* as copied at VMRUN, and as it is to be written back */
	gpa_t address;           /* of it in L1 */
	uint64_t host_save;      /* VM_HSAVE_PA: L1's to set, of no use here */
	uint8_t maps[MSR_WINDOW_HIGH + MSR_WINDOW_HIGH_SIZE] __attribute__((aligned(8))); /* as copied at VMRUN */
	uint32_t asid; /* L1's, at its last VMRUN; 0: none yet */
	bool gif;      /* where the processor has no virtual one */
	bool step;     /* RFLAGS.TF was set at VMRUN: the trap comes behind #VMEXIT */
};

_Static_assert(offsetof(struct svm_nested, common) == 0, "a hv_nested pointer is a svm_nested pointer");

static inline struct svm_nested *nested_of(struct hv_nested *nested)
{
	return (struct svm_nested *)nested;
}

static inline struct svm_vcpu *nested_l1(const struct svm_nested *n)
{
	return svm_of(n->common.l1);
}

static inline struct svm_vcpu *nested_l2(const struct svm_nested *n)
{
	return svm_of(n->common.l2);
}

/* The global interrupt flag of L1. */
static inline bool nested_gif(const struct svm_nested *n)
{
	uint64_t interrupts = svm_interrupt_control(nested_l1(n));

	return interrupts & V_GIF_ENABLE ? interrupts & V_GIF : n->gif;
}

/* What L1's ASIDs are, by what its CPUID says. */
#define NESTED_ASIDS 0x8000u

/* ---- merge.c, pure: VMCB12 and l2's VMCB ---- */
/* Of the save area what VMRUN loads and #VMEXIT stores; PAT apart. Section 15.5.1. */
void nested_copy_state(struct vmcb_save *to, const struct vmcb_save *from);
/* What VMRUN and #VMEXIT leave in the processor, and VMLOAD and VMSAVE exchange. Section 15.5.2. */
void nested_copy_loaded(struct vmcb_save *to, const struct vmcb_save *from);
/* Both levels' MSR maps; L1's: NULL, it asks for no MSR. */
void nested_merge_maps(uint8_t *map, const uint8_t *l0, const uint8_t *l1);
/* interrupt_control for L2, by L1's; virtual_gif: L1 has been told of V_GIF. */
uint64_t nested_interrupt_control(uint64_t control12, bool virtual_gif);
/* Is V_IRQ set, its priority high enough, and no V_GIF clear before it? Sections 15.21.4, 15.33.2. */
bool nested_virtual_due(uint64_t interrupts);
/* Is it taken at once at VMRUN? interrupts: L2's interrupt_control. */
bool nested_takes_virtual(const struct vmcb *vmcb12, uint64_t interrupts);
/* The event that VMRUN is to inject. next_rip: L1 has been told of it, and it is where a soft event leads. */
struct hv_event nested_event(const struct vmcb *vmcb12, bool next_rip);

/* ---- wants.c, pure ---- */
/* Does L1 intercept this? Ports and MSRs: as far as the intercept itself goes; nested page faults: never. Appendix C. */
bool nested_wants(const struct vmcb_control *control12, uint64_t code);
/* EXITINFO1 of a nested page fault, by what L1's tables have against it. Section 15.25.6. */
uint64_t nested_fault_info(const struct hv_nested_fault *fault, bool no_execute);

/* ---- enter.c ---- */
enum hv_nested_step nested_vmrun(struct svm_nested *n, gpa_t where);

/* ---- leave.c ---- */
/* #VMEXIT from L2 to L1; met: an event whose delivery it breaks off. */
void nested_leave(struct svm_nested *n, uint64_t code, uint64_t info1, uint64_t info2, const struct hv_event *met);
/* VMCB12 is refused: L1 reads VMEXIT_INVALID, and nothing else of it has changed. */
void nested_refuse(struct svm_nested *n);
/* The same when the processor has refused what Quire let pass. */
void nested_give_up(struct svm_nested *n);
/* Registers that both levels share, from the one that ran to the other; all of `from` is in its VMCB. */
void nested_hand_over(struct svm_vcpu *from, struct svm_vcpu *to);

/* ---- instruction.c ---- */
enum hv_nested_step nested_instruction(struct hv_nested *nested);
enum hv_nested_step nested_fault(struct svm_nested *n, uint8_t vector);
/* L1's memory couldn't be had: for want of Quire's, or because there's none. */
enum hv_nested_step nested_refused(struct svm_nested *n, enum status status);

/* ---- events.c ---- */
void nested_set_gif(struct svm_nested *n, bool on);
bool nested_exit(struct hv_nested *nested);
void nested_reflect_slat(struct hv_nested *nested, const struct hv_nested_fault *fault);
bool nested_exception(struct hv_nested *nested, const struct hv_event *event, uint64_t detail);
enum hv_nested_verdict nested_pending(struct hv_nested *nested, enum hv_nested_event what);
