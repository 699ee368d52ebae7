/* SPDX-License-Identifier: Apache-2.0 */
/* The VMCB, as far as the test hypervisor uses it. APM vol. 2 appendix B. */
#pragma once

#include <stddef.h>
#include <stdint.h>

struct vmcb_segment {
	uint16_t selector, attributes;
	uint32_t limit;
	uint64_t base;
};

struct vmcb {
	uint32_t intercepts[6]; /* 0 CR, 1 DR, 2 exceptions, 3 and 4 instructions, 5 */
	uint8_t reserved_18[0x3c - 0x18];
	uint16_t pause_threshold, pause_count;
	uint64_t io_map, msr_map, tsc_offset;
	uint32_t asid;
	uint32_t tlb_control;
	uint64_t v_intr;
	uint64_t shadow;
	uint64_t exit_code, info1, info2, exit_event;
	uint64_t nested_paging;
	uint8_t reserved_98[0xa8 - 0x98];
	uint64_t inject;
	uint64_t nested_root;
	uint64_t lbr;
	uint32_t clean, reserved_c4;
	uint64_t next_rip;
	uint8_t reserved_d0[0x400 - 0xd0];
	struct vmcb_segment es, cs, ss, ds, fs, gs, gdtr, ldtr, idtr, tr;
	uint8_t reserved_4a0[0x4cb - 0x4a0];
	uint8_t cpl;
	uint32_t reserved_4cc;
	uint64_t efer;
	uint8_t reserved_4d8[0x548 - 0x4d8];
	uint64_t cr4, cr3, cr0, dr7, dr6, rflags, rip;
	uint8_t reserved_580[0x5d8 - 0x580];
	uint64_t rsp;
	uint8_t reserved_5e0[0x5f8 - 0x5e0];
	uint64_t rax, star, lstar, cstar, sfmask, kernel_gs_base, sysenter_cs, sysenter_esp, sysenter_eip, cr2;
	uint8_t reserved_648[0x668 - 0x648];
	uint64_t g_pat;
} __attribute__((aligned(4096)));

_Static_assert(offsetof(struct vmcb, io_map) == 0x40 && offsetof(struct vmcb, v_intr) == 0x60, "VMCB");
_Static_assert(offsetof(struct vmcb, exit_code) == 0x70 && offsetof(struct vmcb, inject) == 0xa8, "VMCB");
_Static_assert(offsetof(struct vmcb, nested_root) == 0xb0 && offsetof(struct vmcb, next_rip) == 0xc8, "VMCB");
_Static_assert(offsetof(struct vmcb, es) == 0x400 && offsetof(struct vmcb, cpl) == 0x4cb, "VMCB");
_Static_assert(offsetof(struct vmcb, efer) == 0x4d0 && offsetof(struct vmcb, rip) == 0x578, "VMCB");
_Static_assert(offsetof(struct vmcb, rax) == 0x5f8 && offsetof(struct vmcb, cr2) == 0x640, "VMCB");
_Static_assert(offsetof(struct vmcb, g_pat) == 0x668, "VMCB");

extern uint8_t svm_io_map[], svm_msr_map[];
