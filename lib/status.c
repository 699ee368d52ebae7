/* SPDX-License-Identifier: Apache-2.0 */
/* Names and texts of the status codes; made from the one list in status.h. */
#include "lib/status.h"

static const char *const texts[STATUS_COUNT] = {
#define STATUS_TEXT(name, text) [name] = text,
	STATUS_LIST(STATUS_TEXT)
#undef STATUS_TEXT
};

static const char *const names[STATUS_COUNT] = {
#define STATUS_NAME(name, text) [name] = #name,
	STATUS_LIST(STATUS_NAME)
#undef STATUS_NAME
};

const char *status_text(enum status status)
{
	return (unsigned)status < STATUS_COUNT ? texts[status] : "unknown status";
}

const char *status_name(enum status status)
{
	return (unsigned)status < STATUS_COUNT ? names[status] : "UNKNOWN";
}
