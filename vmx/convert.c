/* SPDX-License-Identifier: Apache-2.0 */
/* See convert.h. */
#include "vmx/convert.h"

#define TYPE_MASK 0x000fu
#define TYPE_ACCESSED 0x1u
#define TYPE_LDT 0x2u
#define TYPE_TSS_16_BUSY 0x3u
#define TYPE_TSS_BUSY 0xbu

_Static_assert((RIGHTS_DEFINED & RIGHTS_UNUSABLE) == 0, "unusable stands above the descriptor's bits");
_Static_assert((RIGHTS_DEFINED & 0x0f00u) == 0, "bits 11:8 hold the limit in a descriptor and are reserved here");

/* Vectors whose delivery pushes an error code, SDM vol. 3 table 6-1; entry refuses a word that differs. */
#define ERROR_CODE_VECTORS                                                                                             \
	(BIT(VECTOR_DF) | BIT(VECTOR_TS) | BIT(VECTOR_NP) | BIT(VECTOR_SS) | BIT(VECTOR_GP) | BIT(VECTOR_PF) |         \
	 BIT(VECTOR_AC))

uint32_t vmx_event_word(const struct hv_event *event, bool protected_mode)
{
	uint32_t type, error = 0;

	switch (event->kind) {
	case EVENT_INTERRUPT: type = EVENT_TYPE_INTERRUPT; break;
	case EVENT_NMI: return EVENT_VALID | EVENT_TYPE_NMI << EVENT_TYPE_SHIFT | VECTOR_NMI;
	case EVENT_SOFT_INTERRUPT: type = EVENT_TYPE_SOFT_INTERRUPT; break;
	case EVENT_EXCEPTION:
		if (event->soft) {
			type = event->vector == VECTOR_DB ? EVENT_TYPE_PRIVILEGED_SOFT_EXCEPTION
							  : EVENT_TYPE_SOFT_EXCEPTION;
			break;
		}
		type = EVENT_TYPE_HARDWARE_EXCEPTION;
		if (protected_mode && event->vector < 32 && (ERROR_CODE_VECTORS & BIT(event->vector)))
			error = EVENT_HAS_ERROR;
		break;
	default: return 0;
	}
	return EVENT_VALID | error | type << EVENT_TYPE_SHIFT | event->vector;
}

bool vmx_event_has_length(uint32_t word)
{
	return EVENT_TYPE(word) >= EVENT_TYPE_SOFT_INTERRUPT && EVENT_TYPE(word) <= EVENT_TYPE_SOFT_EXCEPTION;
}

struct hv_event vmx_event_from_word(uint32_t word, uint32_t error_code, uint32_t length)
{
	struct hv_event event = { .kind = EVENT_NONE };

	if (!(word & EVENT_VALID))
		return event;
	event.vector = EVENT_VECTOR(word);
	switch (EVENT_TYPE(word)) {
	case EVENT_TYPE_INTERRUPT: event.kind = EVENT_INTERRUPT; return event;
	case EVENT_TYPE_NMI: event.kind = EVENT_NMI; return event;
	case EVENT_TYPE_SOFT_INTERRUPT:
		event.kind = EVENT_SOFT_INTERRUPT;
		event.length = (uint8_t)length;
		return event;
	case EVENT_TYPE_PRIVILEGED_SOFT_EXCEPTION:
	case EVENT_TYPE_SOFT_EXCEPTION:
		event.kind = EVENT_EXCEPTION;
		event.soft = true;
		event.length = (uint8_t)length;
		return event;
	default:
		event.kind = EVENT_EXCEPTION;
		event.has_error_code = word & EVENT_HAS_ERROR;
		event.error_code = event.has_error_code ? error_code : 0;
		return event;
	}
}

uint64_t vmx_msr_value(uint64_t value, uint64_t mask, unsigned linear_bits)
{
	value &= mask;
	return linear_bits ? sign_extend(value, linear_bits) : value;
}

/* The checks want G clear when any of limit 11:0 is 0, set when any of 31:20 is 1; else it may be either. */
static uint32_t fitting_granularity(uint32_t rights, uint32_t limit)
{
	if (limit >> 20)
		return rights | SEG_ATTR_G;
	return (limit & 0xfff) == 0xfff ? rights : rights & ~SEG_ATTR_G;
}

static uint32_t fitting_type(enum segment_name name, uint32_t rights, bool long_mode)
{
	uint32_t type = rights & TYPE_MASK;

	if (name == SEG_LDTR)
		return (rights & ~(TYPE_MASK | SEG_ATTR_S)) | TYPE_LDT;
	if (name == SEG_TR) {
		type = !long_mode && (type | 2) == TYPE_TSS_16_BUSY ? TYPE_TSS_16_BUSY : TYPE_TSS_BUSY;
		return (rights & ~(TYPE_MASK | SEG_ATTR_S)) | type | SEG_ATTR_PRESENT;
	}
	return rights | TYPE_ACCESSED | SEG_ATTR_S;
}

struct vmx_segment vmx_segment_pack(enum segment_name name, const struct segment *segment, bool long_mode)
{
	uint32_t rights = segment->attributes & RIGHTS_DEFINED, limit = segment->limit;

	/* An unusable SS still carries CPL in its DPL, so the rights stay. CS and TR are always usable. */
	if (!(rights & SEG_ATTR_PRESENT) && name != SEG_TR && name != SEG_CS) {
		rights |= RIGHTS_UNUSABLE;
	} else {
		rights = fitting_type(name, rights | SEG_ATTR_PRESENT, long_mode);
		/* A limit that only page granularity can express ends with a whole page. */
		if (limit >> 20)
			limit |= 0xfff;
		rights = fitting_granularity(rights, limit);
	}
	return (struct vmx_segment){ segment->base, limit, rights, segment->selector };
}
