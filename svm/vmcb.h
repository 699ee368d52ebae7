/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The virtual machine control block, as the processor reads it: one 4 KiB page, the control area in its first
 * kilobyte and the guest's saved state from 0x400 on. AMD APM vol. 2 appendix B, tables B-1 and B-2.
 *
 * Nothing but layout and bits; every offset that this room uses is proven below. Fields of features that are never
 * turned on (AVIC, SEV, CET) are left as reserved space: they stay zero.
 */
#pragma once

#include <stddef.h>

#include "lib/bits.h"

struct vmcb_segment {
	uint16_t selector;
	uint16_t attributes; /* 7:0 descriptor bits 47:40, 11:8 descriptor bits 55:52 */
	uint32_t limit;      /* in bytes */
	uint64_t base;
};

#define INTERCEPT_WORDS 6u

struct vmcb_control {
	union {
		struct {
			uint16_t cr_read, cr_write; /* bit n: access to CRn exits */
			uint16_t dr_read, dr_write;
			uint32_t exceptions;   /* bit n: vector n exits */
			uint32_t intercept[3]; /* INTERCEPT1_*, INTERCEPT2_*, INTERCEPT3_* */
		};
		uint32_t intercepts[INTERCEPT_WORDS]; /* all of them */
	};
	uint8_t reserved_018[0x24];
	uint16_t pause_filter_threshold, pause_filter_count;
	uint64_t iopm_base, msrpm_base; /* host-physical */
	uint64_t tsc_offset;
	uint32_t asid;
	uint8_t tlb_control; /* TLB_* */
	uint8_t reserved_05d[3];
	uint64_t interrupt_control; /* V_* */
	uint64_t interrupt_state;   /* bit 0: interrupt shadow */
	uint64_t exit_code, exit_info1, exit_info2;
	uint64_t exit_interrupt_info; /* EVENT_* layout as event_inject */
	uint64_t nested_control;      /* bit 0: nested paging */
	uint8_t reserved_098[0x10];
	uint64_t event_inject;
	uint64_t nested_cr3; /* host-physical */
	uint64_t lbr_control;
	uint32_t clean; /* CLEAN_* */
	uint32_t reserved_0c4;
	uint64_t next_rip;
	uint8_t fetched_count;
	uint8_t fetched[15];
	uint8_t reserved_0e0[0x320];
};

struct vmcb_save {
	struct vmcb_segment es, cs, ss, ds, fs, gs, gdtr, ldtr, idtr, tr;
	uint8_t reserved_0a0[0x2b];
	uint8_t cpl;
	uint32_t reserved_0cc;
	uint64_t efer;
	uint8_t reserved_0d8[0x70];
	uint64_t cr4, cr3, cr0, dr7, dr6, rflags, rip;
	uint8_t reserved_180[0x58];
	uint64_t rsp;
	uint8_t reserved_1e0[0x18];
	uint64_t rax;
	uint64_t star, lstar, cstar, sfmask, kernel_gs_base;
	uint64_t sysenter_cs, sysenter_esp, sysenter_eip;
	uint64_t cr2;
	uint8_t reserved_248[0x20];
	uint64_t pat;
	uint64_t debugctl; /* the processor looks at it only with LBR virtualisation */
	uint8_t reserved_278[0x68];
	uint64_t spec_ctrl; /* the processor looks at it only with VIRT_SPEC_CTRL of CPUID */
	uint8_t reserved_2e8[0x918];
};

struct vmcb {
	struct vmcb_control control;
	struct vmcb_save save;
};

#define VMCB_CONTROL_AT(field, offset)                                                                                 \
	_Static_assert(offsetof(struct vmcb_control, field) == (offset), "VMCB control " #field)
#define VMCB_SAVE_AT(field, offset) _Static_assert(offsetof(struct vmcb_save, field) == (offset), "VMCB save " #field)

VMCB_CONTROL_AT(cr_read, 0x000);
VMCB_CONTROL_AT(cr_write, 0x002);
VMCB_CONTROL_AT(dr_read, 0x004);
VMCB_CONTROL_AT(dr_write, 0x006);
VMCB_CONTROL_AT(exceptions, 0x008);
VMCB_CONTROL_AT(intercept, 0x00c);
VMCB_CONTROL_AT(pause_filter_threshold, 0x03c);
VMCB_CONTROL_AT(pause_filter_count, 0x03e);
VMCB_CONTROL_AT(iopm_base, 0x040);
VMCB_CONTROL_AT(msrpm_base, 0x048);
VMCB_CONTROL_AT(tsc_offset, 0x050);
VMCB_CONTROL_AT(asid, 0x058);
VMCB_CONTROL_AT(tlb_control, 0x05c);
VMCB_CONTROL_AT(interrupt_control, 0x060);
VMCB_CONTROL_AT(interrupt_state, 0x068);
VMCB_CONTROL_AT(exit_code, 0x070);
VMCB_CONTROL_AT(exit_info1, 0x078);
VMCB_CONTROL_AT(exit_info2, 0x080);
VMCB_CONTROL_AT(exit_interrupt_info, 0x088);
VMCB_CONTROL_AT(nested_control, 0x090);
VMCB_CONTROL_AT(event_inject, 0x0a8);
VMCB_CONTROL_AT(nested_cr3, 0x0b0);
VMCB_CONTROL_AT(lbr_control, 0x0b8);
VMCB_CONTROL_AT(clean, 0x0c0);
VMCB_CONTROL_AT(next_rip, 0x0c8);
VMCB_CONTROL_AT(fetched_count, 0x0d0);
VMCB_CONTROL_AT(fetched, 0x0d1);
_Static_assert(sizeof(struct vmcb_control) == 0x400, "VMCB control area");

_Static_assert(sizeof(struct vmcb_segment) == 16, "VMCB segment");
VMCB_SAVE_AT(es, 0x000);
VMCB_SAVE_AT(cs, 0x010);
VMCB_SAVE_AT(ss, 0x020);
VMCB_SAVE_AT(ds, 0x030);
VMCB_SAVE_AT(fs, 0x040);
VMCB_SAVE_AT(gs, 0x050);
VMCB_SAVE_AT(gdtr, 0x060);
VMCB_SAVE_AT(ldtr, 0x070);
VMCB_SAVE_AT(idtr, 0x080);
VMCB_SAVE_AT(tr, 0x090);
VMCB_SAVE_AT(cpl, 0x0cb);
VMCB_SAVE_AT(efer, 0x0d0);
VMCB_SAVE_AT(cr4, 0x148);
VMCB_SAVE_AT(cr3, 0x150);
VMCB_SAVE_AT(cr0, 0x158);
VMCB_SAVE_AT(dr7, 0x160);
VMCB_SAVE_AT(dr6, 0x168);
VMCB_SAVE_AT(rflags, 0x170);
VMCB_SAVE_AT(rip, 0x178);
VMCB_SAVE_AT(rsp, 0x1d8);
VMCB_SAVE_AT(rax, 0x1f8);
VMCB_SAVE_AT(star, 0x200);
VMCB_SAVE_AT(lstar, 0x208);
VMCB_SAVE_AT(cstar, 0x210);
VMCB_SAVE_AT(sfmask, 0x218);
VMCB_SAVE_AT(kernel_gs_base, 0x220);
VMCB_SAVE_AT(sysenter_cs, 0x228);
VMCB_SAVE_AT(sysenter_esp, 0x230);
VMCB_SAVE_AT(sysenter_eip, 0x238);
VMCB_SAVE_AT(cr2, 0x240);
VMCB_SAVE_AT(pat, 0x268);
VMCB_SAVE_AT(debugctl, 0x270);
VMCB_SAVE_AT(spec_ctrl, 0x2e0);
_Static_assert(offsetof(struct vmcb, save) == 0x400 && sizeof(struct vmcb) == 0x1000, "VMCB is one page");

/* interrupt_control, 15.21.1 */
#define V_TPR_MASK BITS(7, 0)
#define V_IRQ BIT(8)
#define V_GIF BIT(9) /* and its enable, 15.33.2: only where CPUID tells of it */
#define V_PRIORITY_HIGHEST BITS(19, 16)
#define V_IGNORE_TPR BIT(20)
#define V_INTR_MASKING BIT(24)
#define V_GIF_ENABLE BIT(25)
#define V_VECTOR_SHIFT 32
#define V_VECTOR_MASK BITS(39, 32)

#define INTERRUPT_SHADOW BIT(0) /* interrupt_state */
#define VIRTUAL_LOAD_SAVE                                                                                              \
	BIT(1)               /* lbr_control: VMLOAD and VMSAVE by guest-physical address, 15.33.1; as V_GIF_ENABLE */
#define NESTED_PAGING BIT(0) /* nested_control */

/* tlb_control, 15.16.1 */
#define TLB_KEEP 0u
#define TLB_FLUSH_ALL 1u
#define TLB_FLUSH_ASID 3u /* with flush-by-ASID only, and the next */
#define TLB_FLUSH_ASID_LOCAL 7u

/* event_inject and exit_interrupt_info, 15.20 */
#define INJECT_TYPE_SHIFT 8
#define INJECT_TYPE_MASK BITS(10, 8)
#define INJECT_ERROR_VALID BIT(11)
#define INJECT_VALID BIT(31)
#define INJECT_ERROR_SHIFT 32
#define INJECT_INTERRUPT 0u
#define INJECT_NMI 2u
#define INJECT_EXCEPTION 3u
#define INJECT_SOFT_INTERRUPT 4u

/* clean, 15.15.3: a set bit says that the group is as this CPU last saw it. */
#define CLEAN_INTERCEPTS BIT(0)  /* intercepts, TSC offset, pause filter */
#define CLEAN_PERMISSIONS BIT(1) /* where the I/O and MSR maps are */
#define CLEAN_TPR BIT(3)         /* interrupt_control */
#define CLEAN_NESTED BIT(4)      /* nested CR3, PAT */
#define CLEAN_CONTROL BIT(5)     /* CR0, CR3, CR4, EFER */
#define CLEAN_DEBUG BIT(6)       /* DR6, DR7 */
#define CLEAN_TABLES BIT(7)      /* GDTR, IDTR */
#define CLEAN_SEGMENTS BIT(8)    /* CS, DS, SS, ES, CPL */
#define CLEAN_CR2 BIT(9)
#define CLEAN_ALL BITS(10, 0)
