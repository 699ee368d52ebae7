/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Single pages: what the tables may grant for a record, and its names.
 */
#include "pgm/internal.h"

unsigned page_rights_special(page_record r)
{
	enum page_type type = page_get_type(r);
	enum page_handler handler = page_hardware_handler(r);

	if (handler == HANDLER_ALL || type == PAGE_INVALID || type == PAGE_MMIO)
		return 0;
	if (page_get_state(r) == PAGE_ALLOCATED && handler < HANDLER_WRITE && type != PAGE_ROM &&
	    !(r.bits & PAGE_READ_ONLY))
		return ACCESS_READ | ACCESS_WRITE | ACCESS_EXECUTE;
	return ACCESS_READ | ACCESS_EXECUTE;
}

static const char *const state_names[PAGE_STATES] = { "zero", "allocated", "monitored", "shared", "ballooned" };
static const char *const type_names[PAGE_TYPES] = {
	"none", "RAM", "MMIO2", "MMIO2-alias-MMIO", "special-alias-MMIO", "ROM-shadow", "ROM", "MMIO",
};
static const char *const handler_names[] = { "none", "disabled", "write", "all" };

const char *page_state_name(enum page_state state)
{
	return (unsigned)state < PAGE_STATES ? state_names[state] : "?";
}

const char *page_type_name(enum page_type type)
{
	return (unsigned)type < PAGE_TYPES ? type_names[type] : "?";
}

const char *page_handler_name(enum page_handler handler)
{
	return (unsigned)handler < ARRAY_SIZE(handler_names) ? handler_names[handler] : "?";
}
