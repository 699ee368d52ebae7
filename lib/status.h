/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Errors are values. Every function that can fail returns an enum status, the
 * compiler refuses to let one be dropped, and each has a text for a person.
 */
#pragma once

#include <stdbool.h>

#define STATUS_LIST(X)                                                                                                 \
	X(OK, "success")                                                                                               \
	X(NO_MEMORY, "the host has no free memory left")                                                               \
	X(OVER_QUOTA, "the machine's memory account is used up")                                                       \
	X(BAD_ADDRESS, "address outside every range that allows this")                                                 \
	X(BAD_VALUE, "value out of range")                                                                             \
	X(BAD_FORMAT, "the data does not have the expected form")                                                      \
	X(BAD_STATE, "not possible in the present state")                                                              \
	X(CONFLICT, "already in use by something else")                                                                \
	X(NOT_FOUND, "no such thing")                                                                                  \
	X(NOT_SUPPORTED, "this processor or build cannot do that")                                                     \
	X(BUSY, "in use, try again")                                                                                   \
	X(LIMIT, "a stated limit was reached")                                                                         \
	X(DENIED, "the access rights forbid it")                                                                       \
	X(TRUNCATED, "the input ends too early")                                                                       \
	X(HANDLER, "an access handler covers the page")                                                                \
	X(GUEST_FAULT, "the guest's own tables refuse the access")                                                     \
	X(OUTER_FAULT, "the guest hypervisor's tables refuse the access")

enum status {
#define STATUS_ENUM(name, text) name,
	STATUS_LIST(STATUS_ENUM)
#undef STATUS_ENUM
		STATUS_COUNT
};

/* Functions returning enum status carry this; there is no way to drop one. */
#define must_check __attribute__((warn_unused_result))

/* In a function that returns an enum status (or another enum whose 0 is success): the failure of a step is its own. */
#define TRY(step)                                                                                                      \
	do {                                                                                                           \
		__typeof__(step) failure_ = (step);                                                                    \
		if (__builtin_expect(failure_ != 0, 0))                                                                \
			return failure_;                                                                               \
	} while (0)
_Static_assert(OK == 0, "TRY takes 0 for success");

/* Memory is short: the same may succeed later. */
static inline bool status_is_shortage(enum status status)
{
	return status == NO_MEMORY || status == OVER_QUOTA;
}

/* The text a person reads for a status; never NULL. */
const char *status_text(enum status status);
