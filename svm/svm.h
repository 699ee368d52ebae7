/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The room's own types: one vcpu's VMCB with what belongs to it, one CPU's host side, and what its files offer each
 * other. Nobody outside svm/ includes this; vm/ knows svm_ops.
 *
 * Where guest state is: RAX and RIP are copied at every exit and entry; the other general registers go straight
 * between the processor and hv_vcpu.gpr (enter.asm); all else stays in the VMCB and is copied group by group
 * (state.c). DR0-3 stay in the processor while the vcpu is the last one that ran there (svm_cpu.loaded).
 */
#pragma once

#include "arch/x86_64/hv.h"
#include "arch/x86_64/percpu.h"
#include "svm/asid.h"
#include "svm/vmcb.h"

/* What matters to this room of CPUID; the same on every CPU, which may run any vcpu. */
struct svm_features {
	bool next_rip, decode_assists, flush_asid, pause_filter, pause_threshold, virtual_gif, virtual_load_save;
	bool huge_pages, invlpgb, mcommit, rdpru;
	bool spec_ctrl;      /* exchanged by the processor itself, and the guest's works on top of the host's */
	uint32_t clean_mask; /* what control.clean is set to after a run: CLEAN_ALL or 0 */
	uint32_t asid_count; /* last: the one in which CPUs may differ */
};

extern struct svm_features svm_features;
/* XCR0 must be read back after each run: see quirks.h. */
extern bool svm_read_xcr0;

/* Armed for the run in progress; finish_special() takes care of each. */
#define ARMED_EVENT 0x01u       /* event_inject is filled */
#define ARMED_WINDOW 0x02u      /* V_IRQ and its intercept are on */
#define ARMED_IRET 0x04u        /* IRET exits: NMIs are blocked */
#define ARMED_UNBLOCK 0x08u     /* an IRET was about to run at iret_rip: NMIs are free once it has */
#define ARMED_FLUSH 0x10u       /* tlb_control is not TLB_KEEP */
#define ARMED_STEP 0x20u        /* RFLAGS.TF is ours, and all exceptions exit: that IRET is single-stepped */
#define ARMED_SHADOW 0x40u      /* the entry drops the interrupt shadow that there is (quirk) */
#define ARMED_BREAKPOINTS 0x80u /* DR7 of the processor is native_dr7 for the entry (quirk); stays from run to run */
#define ARMED_SPEC_CTRL 0x100u  /* for good: the guest uses SPEC_CTRL, and no processor exchanges it */

/* #DB and #AC: delivered by the processor itself, a guest can make them loop forever within one instruction. */
#define SVM_EXCEPTIONS (BIT(VECTOR_DB) | BIT(VECTOR_AC) | BIT(VECTOR_MC))
#define SVM_STEP_EXCEPTIONS (BITS(31, 0) & ~BIT(VECTOR_NMI)) /* under ARMED_STEP */

struct svm_vcpu {
	struct hv_vcpu hv; /* first */
	struct vmcb *vmcb;
	hpa_t vmcb_address;
	uint8_t *msr_map;
	struct asid asid;
	uint32_t armed; /* ARMED_* */
	bool nmi_blocked;
	bool rip_advanced;     /* rip in the VMCB stands behind the soft event's instruction */
	uint8_t shadow_tries;  /* to get an instruction run behind a dropped shadow that has been put back */
	uint32_t held_virtual; /* V_IRQ if it is kept from the processor behind such a shadow */
	uint64_t shadow_until; /* ns of host_now_ns(): when such a try is over */
	uint64_t entry_rip;
	uint64_t iret_rip;
	uint64_t dr6;              /* before the step over that IRET */
	uint64_t native_dr7;       /* ARMED_BREAKPOINTS: what of the guest's the processor may have */
	struct hv_event injected;  /* what event_inject was made from */
	uint64_t interrupts_below; /* ARMED_WINDOW: interrupt_control but for the window, and for V_TPR */
	/* Of a guest's guest, svm/nested/. */
	uint32_t also[INTERCEPT_WORDS]; /* intercepts beside Quire's own */
	bool own_priority;              /* CR8 is V_TPR */
	int16_t virtual_vector;         /* that V_IRQ was set for; -1: none */
	bool awaits_gif;                /* of a guest's hypervisor: its STGI exits, whatever the processor could do */
};

_Static_assert(offsetof(struct svm_vcpu, hv) == 0, "a hv_vcpu pointer is a svm_vcpu pointer");

static inline struct svm_vcpu *svm_of(struct hv_vcpu *vcpu)
{
	return (struct svm_vcpu *)vcpu;
}

/* The host side of one CPU. */
struct svm_cpu {
	hpa_t host_vmcb_address;
	void *host_vmcb;         /* what VMLOAD brings back: FS, GS, TR, LDTR and the syscall MSRs */
	struct svm_vcpu *loaded; /* whose DR0-3 are in the processor and whose ASID is known to be good */
	struct asid_space asids;
};

extern struct svm_cpu svm_cpus[MAX_CPUS];

/* interrupt_control as it is without the window that Quire itself waits for. */
static inline uint64_t svm_interrupt_control(const struct svm_vcpu *svm)
{
	uint64_t now = svm->vmcb->control.interrupt_control;

	return svm->armed & ARMED_WINDOW ? (svm->interrupts_below & ~V_TPR_MASK) | (now & V_TPR_MASK) : now;
}

static inline void svm_dirty(struct vmcb *vmcb, uint64_t groups)
{
	vmcb->control.clean &= (uint32_t)~groups;
}

/* ---- cpu.c ---- */
enum status svm_probe(struct hv_caps *caps, struct hv_refusal *why) must_check;
enum status svm_enable_cpu(struct hv_refusal *why) must_check;
void svm_disable_cpu(void);

/* ---- vcpu.c ---- */
enum status svm_create(struct hv_vcpu **vcpu) must_check;
void svm_destroy(struct hv_vcpu *vcpu);
void svm_reset(struct hv_vcpu *vcpu);
/* All intercepts, by what is armed and what a guest's hypervisor asks for. */
void svm_set_intercepts(struct svm_vcpu *svm);
void svm_set_slat(struct hv_vcpu *vcpu, hpa_t root);
void svm_pass_msr(struct hv_vcpu *vcpu, uint32_t msr, bool read, bool write);

/* V_GIF as it is when no window of Quire's is in its place. */
void svm_set_gif(struct svm_vcpu *svm, bool on);

/* ---- state.c, pure: register groups between hv_vcpu and VMCB (not DR0-3) ---- */
void svm_fetch_groups(struct hv_vcpu *vcpu, const struct vmcb *vmcb, uint32_t groups);
void svm_store_groups(const struct hv_vcpu *vcpu, struct vmcb *vmcb, uint32_t groups);
/* HV_CODE_*, of what the save area holds. */
unsigned svm_code_of(const struct vmcb_save *save);
/* Everything in hv_vcpu as after power-on. APM vol. 2 table 14-1. */
void svm_power_on_state(struct hv_vcpu *vcpu);
uint16_t svm_attributes_to_vmcb(uint16_t attributes);
uint16_t svm_attributes_from_vmcb(uint16_t attributes);

/* ---- event.c, pure ---- */
/* The text says why the processor would refuse this event; NULL: it takes it. */
const char *svm_event_refused(const struct hv_event *event);
uint64_t svm_event_encode(const struct hv_event *event);
/* From exit_interrupt_info; *soft: it came from INT n, INT3 or INTO. */
void svm_event_decode(uint64_t info, struct hv_event *event, bool *soft);

/* ---- exit.c, pure ---- */
#define LONGEST_INSTRUCTION 15u
/* Bytes from RIP to next; 0 when next isn't one, so that it is decoded instead. */
static inline uint8_t instruction_length(uint64_t rip, uint64_t next)
{
	return next - rip <= LONGEST_INSTRUCTION ? (uint8_t)(next - rip) : 0;
}
/* Fills all of exit but `interrupted`. Not for VMEXIT_INVALID. */
void svm_decode_exit(const struct vmcb *vmcb, const struct svm_features *features, struct hv_exit *exit);

/* ---- msr_map.c, pure ---- */
#define MSR_MAP_SIZE 8192u
#define IO_MAP_SIZE 12288u
/*
 * May a guest have it without an exit? Those that VMLOAD and VMSAVE exchange, SPEC_CTRL, and writes of commands, which leave
 * nothing behind.
 */
bool svm_msr_passable(uint32_t msr, bool read);
/* Where its two bits are: the byte, and the shift of the bit for reads. False: the map doesn't cover this MSR, it always exits. */
bool svm_msr_map_place(uint32_t msr, unsigned *byte, unsigned *shift);
bool svm_msr_map_set(uint8_t *map, uint32_t msr, bool exit_on_read, bool exit_on_write);

/* ---- explain.c, pure ---- */
/* What a processor has, so that the rest is refused. */
struct svm_limits {
	uint64_t cr4, efer; /* bits that are not reserved */
	uint32_t asid_count;
	uint8_t physical_bits;
};
/* Why VMRUN refuses: the first rule of APM vol. 2 section 15.5.1 that is broken; NULL when none is found. */
const char *svm_explain_refusal(const struct vmcb *vmcb, const struct svm_limits *limits, bool save_area_is_guest);

/* ---- run.c ---- */
void svm_run(struct hv_vcpu *vcpu);
bool svm_answer(struct hv_vcpu *vcpu);
void svm_unload(struct hv_vcpu *vcpu);
/* What hv_vcpu has changed goes into the VMCB. On the vcpu's CPU. */
void svm_store_changed(struct svm_vcpu *svm);
unsigned svm_code(const struct hv_vcpu *vcpu);
void svm_load(struct hv_vcpu *vcpu, uint32_t groups);

/* ---- nested/ ---- */
extern const struct hv_nested_ops svm_nested_ops;

/* ---- special.c ---- */
/* Before an entry with anything out of the ordinary. False: no entry, vcpu->exit says why. */
bool svm_prepare_special(struct svm_vcpu *svm);
/* Behind an exit with anything armed, or that broke off an event. */
void svm_finish_special(struct svm_vcpu *svm);
/* VMEXIT_INVALID. hv_vcpu keeps what it knew before: the save area may be the host's. */
void svm_finish_refused(struct svm_vcpu *svm);
/* DR0-3 or DR7 in hv_vcpu are new: what of it the processor must be given by hand (quirk). */
void svm_arm_breakpoints(struct svm_vcpu *svm);
/* ---- shadow.c: of a shadow that the entry drops ---- */
void svm_hold_shadow(struct svm_vcpu *svm);
void svm_give_back_virtual(struct svm_vcpu *svm);
void svm_finish_shadow(struct svm_vcpu *svm);

/* ---- spec_ctrl.c: the guest's SPEC_CTRL into the processor, right before an entry; and the host's again, first after it ---- */
void svm_give_spec_ctrl(const struct svm_vcpu *svm);
void svm_take_spec_ctrl(struct svm_vcpu *svm);

/* ---- enter.asm ---- */
/* One entry and exit: general registers from and to vcpu->gpr, RAX and RSP excepted (VMCB). Interrupts stay off. */
void svm_enter(struct hv_vcpu *vcpu, uint64_t guest_vmcb, uint64_t host_vmcb);
extern const uint8_t svm_left[]; /* the instruction behind VMRUN */
void svm_vmsave(uint64_t vmcb);
/* CR2 and DR0-3 of the processor. */
void svm_write_cr2(uint64_t value);
void svm_read_breakpoints(uint64_t *dr);
void svm_write_breakpoints(const uint64_t *dr);
void svm_write_dr7(uint64_t value);
