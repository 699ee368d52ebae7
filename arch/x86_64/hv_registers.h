/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A guest's registers as both vendors' sides name them, and the groups that they are fetched and written back in. Part of the
 * vendor seam, hv.h, which says how the groups are used.
 */
#pragma once

#include <stdint.h>

/* Numbered as the processor encodes them. */
enum gpr {
	GPR_RAX,
	GPR_RCX,
	GPR_RDX,
	GPR_RBX,
	GPR_RSP,
	GPR_RBP,
	GPR_RSI,
	GPR_RDI,
	GPR_R8,
	GPR_R9,
	GPR_R10,
	GPR_R11,
	GPR_R12,
	GPR_R13,
	GPR_R14,
	GPR_R15,
	GPR_COUNT
};

/* The first six are numbered as the processor encodes them. */
enum segment_name { SEG_ES, SEG_CS, SEG_SS, SEG_DS, SEG_FS, SEG_GS, SEG_LDTR, SEG_TR, SEG_COUNT };

/*
 * attributes, as in the second dword of a descriptor shifted right by 8:
 * 3:0 type, 4 S, 6:5 DPL, 7 present, 12 AVL, 13 L, 14 D/B, 15 G.
 * A segment that is not present is what VMX calls unusable. limit is in bytes, G already applied.
 */
struct segment {
	uint64_t base;
	uint32_t limit;
	uint16_t selector;
	uint16_t attributes;
};

#define SEG_ATTR_PRESENT 0x0080u
#define SEG_ATTR_S 0x0010u
#define SEG_ATTR_L 0x2000u
#define SEG_ATTR_DB 0x4000u
#define SEG_ATTR_G 0x8000u
#define SEG_ATTR_DPL(a) (((a) >> 5) & 3u)

struct table_register {
	uint64_t base;
	uint16_t limit;
};

/* Register groups. */
#define REGS_RFLAGS 0x01u  /* rflags */
#define REGS_RSP 0x02u     /* gpr[GPR_RSP] */
#define REGS_CONTROL 0x04u /* cr0 cr3 cr4 efer pdpte[]; cr2 is plain data on SVM and VMX alike */
#define REGS_OTHERS 0x08u  /* segment[] but CS, SS, DS and ES; gdtr, idtr */
#define REGS_DEBUG 0x10u   /* dr7 and debugctl (dr0-3, dr6 stand in dr[]) */
#define REGS_SYSTEM 0x20u  /* sysenter_*, pat, spec_ctrl, and the syscall MSRs star..kernel_gs_base */
#define REGS_SHADOW 0x40u  /* interrupt_shadow, nmi_blocked */
#define REGS_CODE 0x80u    /* segment[SEG_CS], segment[SEG_SS] */
#define REGS_DATA 0x100u   /* segment[SEG_DS], segment[SEG_ES] */
#define REGS_SEGMENTS (REGS_CODE | REGS_DATA | REGS_OTHERS)
#define REGS_ALL 0x1ffu

/* The group that a segment register belongs to. */
#define REGS_OF_SEGMENT(segment)                                                                                       \
	((segment) == SEG_CS || (segment) == SEG_SS   ? REGS_CODE                                                      \
	 : (segment) == SEG_DS || (segment) == SEG_ES ? REGS_DATA                                                      \
						      : REGS_OTHERS)
