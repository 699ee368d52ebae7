/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the files of vmx/ share: a vcpu with its VMCS, the state of each CPU, and who does what.
 *
 *   cpu.c        probe, VMXON and VMXOFF; the capability all CPUs have in common
 *   vcpu.c       a vcpu's life, and which CPU holds its VMCS
 *   fields.c     what is written into a VMCS once: controls, host state, the state after reset
 *   registers.c  register groups from and to the VMCS
 *   control.c    CR0, CR3, CR4, EFER: the guest's view against the processor's
 *   lazy.c       registers that stay in the processor between exits; the MSR bitmap
 *   flush.c      EPT pointer, VPIDs, INVEPT, INVVPID
 *   run.c        entry and exit
 *   take.c       exits that take more than that
 *   pml.c        the list of written pages that the processor keeps
 *   capability.c convert.c exit.c failure.c   pure
 *   nested/      guests that are hypervisors
 *
 * Invariant of the three stages of a vcpu on a CPU: `cpu` names the one CPU on which its VMCS is active, or NO_CPU;
 * cpu->current says which VMCS VMREAD works on there; `ready` only if it is current, the host's state in
 * it is this CPU's, and its lazy registers are in the processor, so that run() may enter at once.
 */
#pragma once

#include "arch/x86_64/hv_nested.h"
#include "arch/x86_64/percpu.h"
#include "arch/x86_64/spinlock.h"
#include "arch/x86_64/traps.h"
#include "vmx/capability.h"

#define NO_CPU (~0u)

/* In hv_vcpu.changed, above the register groups: the EPT pointer is to be written; what is pending is to be dropped. */
#define CHANGED_SLAT 0x80000000u
#define CHANGED_RESET 0x40000000u
_Static_assert(((CHANGED_SLAT | CHANGED_RESET) & REGS_ALL) == 0, "our own marks are no register groups");

#define PML_ENTRIES 512u

/* Filled by the processor from the last entry down; `left` entries, from 0 up, haven't been taken out yet. See pml.c. */
struct vmx_pml {
	struct spinlock lock; /* RANK_LEAF: left, and who takes an entry */
	hpa_t buffer;         /* HPA_NONE: none */
	unsigned left;
};

/* Of the processor's lists of MSRs to load and to store, table 25-17. */
struct vmx_msr_entry {
	uint32_t msr, reserved;
	uint64_t value;
};

/* See registers.c. */
struct vmx_spec_ctrl {
	struct vmx_msr_entry guest __attribute__((aligned(16))), host;
	bool on; /* the guest's is in the processor while it runs */
};
_Static_assert(sizeof(struct vmx_msr_entry) == 16 && offsetof(struct vmx_spec_ctrl, host) == 16,
	       "lists are aligned by 16");

/* Of CR0 or CR4 of a guest's guest: the bits that its hypervisor owns, and what the guest reads there. All 0 for other vcpus. */
struct vmx_outer_bits {
	uint64_t mask, shadow;
};

struct vmx_vcpu {
	struct hv_vcpu hv; /* first */
	struct vmx_entry {
		uint64_t host_rsp; /* HOST_RSP in the VMCS */
		uint8_t launched;  /* VMRESUME, not VMLAUNCH */
	} entry;                   /* vmx/enter.asm knows its layout */
	uint64_t quiet;            /* what hv_agenda() gives when nothing but RIP may need writing; VMX_NEVER_QUIET */
	bool ready, initialised;
	uint32_t missing;  /* VMX_MISSING and a field that VMREAD or VMWRITE failed on: no entry any more; 0: none */
	uint16_t vpid;     /* 0: none, each entry and exit flushes */
	uint32_t primary;  /* controls, without the windows */
	bool leaves_marks; /* accessed and dirty bits of its second-level tables stay as they are */
	bool keep_linear;  /* once: no flush for control registers that are written */
	uint32_t blocking; /* interruptibility as the VMCS has it, while REGS_SHADOW is valid */
	unsigned cpu, last_cpu;
	unsigned host_cpu; /* whose host state the VMCS holds */
	struct vmx_outer_bits cr0, cr4;
	uint64_t rip_seen;      /* what the VMCS holds */
	uint64_t slice_written; /* the slice_deadline that the timer field was made from; 0: make it anew */
	hpa_t vmcs, msr_bitmap;
	hpa_t mirror; /* the VMCS that its own VMREAD and VMWRITE work on (nested/mirror.c); HPA_NONE: none */
	struct vmx_pml pml;
	struct vmx_spec_ctrl spec_ctrl;
};

_Static_assert(offsetof(struct vmx_vcpu, hv) == 0, "a vcpu is cast to and from its neutral part");

_Static_assert(offsetof(struct hv_vcpu, gpr) == 0, "as in vmx/enter.asm");
_Static_assert(offsetof(struct vmx_entry, host_rsp) == 0 && offsetof(struct vmx_entry, launched) == 8,
	       "as in vmx/enter.asm");

#define VMX_MISSING 0x80000000u
#define VMX_NEVER_QUIET (~UINT64_C(0))

#define VMX_LAZY_MSRS 5u

struct vmx_cpu {
	bool on;
	struct vmx_vcpu *current;    /* whose VMCS VMREAD works on */
	struct vmx_vcpu *lazy_owner; /* whose lazy registers the processor holds */
	/* Nobody's: what they hold still; of which groups (REGS_SYSTEM, REGS_DEBUG) that is known. */
	struct {
		uint32_t known;
		uint64_t msr[VMX_LAZY_MSRS], dr[8];
	} left;
};

extern const struct hv_nested_ops vmx_nested_ops; /* nested/ */
extern struct vmx_capability vmx_capability;      /* constant after the first probe */
extern struct vmx_cpu vmx_cpus[MAX_CPUS];

static inline struct vmx_vcpu *vmx_of(struct hv_vcpu *vcpu)
{
	return (struct vmx_vcpu *)vcpu;
}

/* cpu.c */
enum status vmx_probe(struct hv_caps *caps, struct hv_refusal *why) must_check;
enum status vmx_enable_cpu(struct hv_refusal *why) must_check;
void vmx_disable_cpu(void);

static inline void vmx_not_ready(struct vmx_vcpu *v)
{
	v->ready = false;
	v->quiet = VMX_NEVER_QUIET;
}

/* vcpu.c */
enum status vmx_create(struct hv_vcpu **vcpu) must_check;
void vmx_destroy(struct hv_vcpu *vcpu);
void vmx_unload(struct hv_vcpu *vcpu);
/* VMREAD and VMWRITE are this vcpu's from here on, on this CPU. */
void vmx_make_current(struct vmx_vcpu *v);
void vmx_make_ready(struct vmx_vcpu *v);

/*
 * Exceptions that must exit: #MC is the host's; #DB and #AC can be made to come again during their own
 * delivery, without end, and no interrupt would get in.
 */
#define VMX_EXCEPTIONS (BIT(VECTOR_DB) | BIT(VECTOR_AC) | BIT(VECTOR_MC))

/* fields.c */
void vmx_write_controls(const struct vmx_vcpu *v);
void vmx_write_host_state(void);
void vmx_reset(struct hv_vcpu *vcpu);

/* vcpu.c: a frame of the host's that vcpus are made of goes back; HPA_NONE is allowed. */
void vmx_free_frame(hpa_t frame);
/* nested/mirror.c: the vcpu, which is current, has no VMCS of its own, or that one. */
void vmx_mirror_show(const struct vmx_vcpu *v, bool shown);

/* registers.c */
void vmx_load(struct hv_vcpu *vcpu, uint32_t groups);
unsigned vmx_code(const struct hv_vcpu *vcpu);
/* Writes every changed group; the vcpu is current. */
void vmx_write_back(struct vmx_vcpu *v);
void vmx_write_spec_ctrl(struct vmx_vcpu *v);

/* control.c */
uint64_t vmx_cr0_mask(void); /* bits that the host owns */
uint64_t vmx_cr4_mask(void);
void vmx_load_control(struct hv_vcpu *vcpu);
void vmx_write_control(struct vmx_vcpu *v);

/* lazy.c */
void vmx_lazy_acquire(struct vmx_vcpu *v);   /* on the calling CPU; the former owner's are saved */
void vmx_lazy_release(struct vmx_vcpu *v);   /* if they are here */
void vmx_lazy_read_msrs(struct vmx_vcpu *v); /* into hv, if they are in this processor */
void vmx_lazy_read_debug(struct vmx_vcpu *v);
void vmx_lazy_write_msrs(struct vmx_vcpu *v);
void vmx_lazy_write_debug(const struct vmx_vcpu *v);
/* The one's lazy registers, and SPEC_CTRL, are the other's from here on: both are levels of one guest, and no exit lies between. */
void vmx_lazy_hand_over(struct vmx_vcpu *from, struct vmx_vcpu *to);
void vmx_msr_bitmap_init(const struct vmx_vcpu *v);
/* v's bitmap lets pass what `outer`'s and the page `wanted` both do; wanted NULL: nothing. */
void vmx_msr_bitmap_merge(const struct vmx_vcpu *v, const struct vmx_vcpu *outer, const uint8_t *wanted);
/* All of that page that it looks at. */
#define VMX_MSR_BITMAP_PARTS 4u
extern const struct hv_nested_part vmx_msr_bitmap_parts[VMX_MSR_BITMAP_PARTS];
/* Does a bitmap ask for an exit? Any MSR; and where in it that stands. */
unsigned vmx_msr_bitmap_byte(uint32_t msr, bool write);
bool vmx_msr_bitmap_exits(const uint8_t *bitmap, uint32_t msr, bool write);
void vmx_pass_msr(struct hv_vcpu *vcpu, uint32_t msr, bool read, bool write);

/* flush.c */
void vmx_set_slat(struct hv_vcpu *vcpu, hpa_t root);
uint64_t vmx_ept_pointer(const struct vmx_vcpu *v);
void vmx_flush(struct hv_vcpu *vcpu);            /* all that is cached for it on this CPU */
void vmx_flush_linear(const struct vmx_vcpu *v); /* what depends on the guest's own tables */
void vmx_flush_everything(void);                 /* of every vcpu, on this CPU */
uint16_t vmx_vpid_take(void);                    /* 0: none left, which is no error */
void vmx_vpid_give(uint16_t vpid);

/* pml.c */
enum status vmx_pml_create(struct vmx_pml *pml) must_check;
void vmx_collect_written(struct hv_vcpu *vcpu);
/* The processor says it is full; the vcpu is current. */
void vmx_pml_full(struct vmx_vcpu *v);

/* take.c: the exit record, whatever it takes; the vcpu is current, RIP and RFLAGS are there. */
void vmx_take_rest(struct hv_vcpu *vcpu, uint64_t reason);

/* run.c */
void vmx_run(struct hv_vcpu *vcpu);
uint64_t vmx_answer_cpuid(struct hv_vcpu *vcpu);
uint64_t vmx_answer_port(struct hv_vcpu *vcpu);

/* enter.asm. Beside an exit's reason, vmx_enter() returns one of these: there was no entry, or there's nothing left of the exit. */
#define VMX_FAILED_PLAINLY (UINT64_C(1) << 32)
#define VMX_FAILED_NUMBER (UINT64_C(2) << 32)
#define VMX_DONE (UINT64_C(4) << 32)
#define VMX_ABANDONED (UINT64_C(8) << 32) /* an NMI came after its sender had looked whether this CPU is in a guest */
uint64_t vmx_enter(struct hv_vcpu *vcpu, struct vmx_entry *entry);
void vmx_exit_point(void);
extern const struct nmi_detour vmx_detours[2];
