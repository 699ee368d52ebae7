/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Events between the neutral form and EVENTINJ / EXITINTINFO. Pure. AMD APM vol. 2 sections 15.7.2, 15.20.
 *
 * Soft events (INT n, INT3, INTO) push a RIP behind their instruction; run.c sees to that. When the delivery of one
 * that the guest itself executed breaks off, RIP still stands at the instruction: running it again delivers it
 * again, so there is nothing to inject.
 */
#include "svm/svm.h"

#include "arch/x86_64/registers.h"

#define LAST_EXCEPTION 31u

_Static_assert(((INJECT_TYPE_MASK | INJECT_VALID) & INJECT_ERROR_VALID) == 0, "EVENTINJ bits");

static const uint8_t types[] = {
	[EVENT_INTERRUPT] = INJECT_INTERRUPT,
	[EVENT_NMI] = INJECT_NMI,
	[EVENT_EXCEPTION] = INJECT_EXCEPTION,
	[EVENT_SOFT_INTERRUPT] = INJECT_SOFT_INTERRUPT,
};

const char *svm_event_refused(const struct hv_event *event)
{
	if (event->kind > EVENT_SOFT_INTERRUPT)
		return "event of no known kind";
	if (event->kind != EVENT_EXCEPTION)
		return NULL;
	/* VMRUN refuses vector 2 and those above 31; QEMU 31 too, which no processor raises. */
	if (event->vector == VECTOR_NMI || event->vector >= LAST_EXCEPTION)
		return "exception with a vector that is no exception's";
	return NULL;
}

uint64_t svm_event_encode(const struct hv_event *event)
{
	uint64_t info = INJECT_VALID | event->vector | (uint64_t)types[event->kind] << INJECT_TYPE_SHIFT;

	if (event->kind == EVENT_NMI)
		info = (info & ~UINT64_C(0xff)) | VECTOR_NMI;
	if (event->kind == EVENT_EXCEPTION && event->has_error_code)
		info |= INJECT_ERROR_VALID | (uint64_t)event->error_code << INJECT_ERROR_SHIFT;
	return info;
}

static void decode_exception(uint64_t info, struct hv_event *event, bool *soft)
{
	if (event->vector > LAST_EXCEPTION) {
		/* A virtual interrupt under QEMU's name for it. */
		event->kind = EVENT_INTERRUPT;
		return;
	}
	event->kind = EVENT_EXCEPTION;
	event->soft = *soft = event->vector == VECTOR_BP || event->vector == VECTOR_OF;
	event->has_error_code = info & INJECT_ERROR_VALID;
	if (event->has_error_code)
		event->error_code = (uint32_t)(info >> INJECT_ERROR_SHIFT);
}

void svm_event_decode(uint64_t info, struct hv_event *event, bool *soft)
{
	*event = (struct hv_event){ .kind = EVENT_NONE, .vector = (uint8_t)info };
	*soft = false;
	if (!(info & INJECT_VALID))
		return;
	switch ((info & INJECT_TYPE_MASK) >> INJECT_TYPE_SHIFT) {
	case INJECT_INTERRUPT: event->kind = EVENT_INTERRUPT; break;
	case INJECT_NMI:
		event->kind = EVENT_NMI;
		event->vector = VECTOR_NMI;
		break;
	case INJECT_EXCEPTION: decode_exception(info, event, soft); break;
	case INJECT_SOFT_INTERRUPT:
		event->kind = EVENT_SOFT_INTERRUPT;
		*soft = true;
		break;
	default: break; /* reserved types: nothing that could be repeated */
	}
}
