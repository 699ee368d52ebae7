/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Between the neutral forms of arch/x86_64/hv.h and the VMCS's: events, and segments in a shape that
 * the entry checks (Intel SDM vol. 3 section 27.3.1.2) accept. Pure.
 */
#pragma once

#include "arch/x86_64/hv.h"
#include "vmx/vmcs.h"

/*
 * The word for VM entry (section 25.8.3); 0 for EVENT_NONE. protected_mode: CR0.PE of the guest; without it no error
 * code may be delivered. The caller writes error code and length, which the word then refers to.
 */
uint32_t vmx_event_word(const struct hv_event *event, bool protected_mode);

/* Does the word refer to the entry's instruction length? */
bool vmx_event_has_length(uint32_t word);

/* From an exit's or vectoring's word (section 25.9); an invalid one gives EVENT_NONE. length: for soft events. */
struct hv_event vmx_event_from_word(uint32_t word, uint32_t error_code, uint32_t length);

/* What WRMSR takes without a fault: the bits of mask, as an address of linear_bits in canonical form; 0: not an address. */
uint64_t vmx_msr_value(uint64_t value, uint64_t mask, unsigned linear_bits);

/* A segment as the VMCS holds it. */
struct vmx_segment {
	uint64_t base;
	uint32_t limit, rights;
	uint16_t selector;
};

/*
 * Into the VMCS's shape. What software may leave open is put right: the accessed bit, S and P, reserved bits, a
 * granularity that fits the limit, TR's busy type. Nothing that a processor could have loaded itself is changed.
 */
struct vmx_segment vmx_segment_pack(enum segment_name name, const struct segment *segment, bool long_mode);
/* type, S, DPL, P, AVL, L, D/B, G: the others are reserved */
#define RIGHTS_DEFINED 0xf0ffu
/* Here, since each MMIO exit does it. */
static inline struct segment vmx_segment_unpack(const struct vmx_segment *raw)
{
	uint16_t attributes = raw->rights & RIGHTS_DEFINED;

	if (raw->rights & RIGHTS_UNUSABLE)
		attributes &= (uint16_t)~SEG_ATTR_PRESENT;
	return (struct segment){ raw->base, raw->limit, raw->selector, attributes };
}
