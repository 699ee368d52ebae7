/* SPDX-License-Identifier: Apache-2.0 */
/* Texts of the status codes; made from the one list in status.h. */
#include "lib/status.h"

static const char *const texts[STATUS_COUNT] = {
#define STATUS_TEXT(name, text) [name] = text,
	STATUS_LIST(STATUS_TEXT)
#undef STATUS_TEXT
};

const char *status_text(enum status status)
{
	return (unsigned)status < STATUS_COUNT ? texts[status] : "unknown status";
}
