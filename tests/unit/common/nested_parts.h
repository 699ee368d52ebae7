/* SPDX-License-Identifier: Apache-2.0 */
/* hv_nested_env's parts by its read and write, for a fake of L1's memory. */
#pragma once

#include <assert.h>

#include "arch/x86_64/hv_nested.h"

static inline enum status parts_by(const struct hv_nested_env *env, void *context, gpa_t page, void *copy,
				   const struct hv_nested_part *parts, unsigned count, bool write)
{
	enum status status = OK;

	for (unsigned i = 0; i < count && status == OK; i++) {
		gpa_t where = gpa(page.v + parts[i].at);
		uint8_t *at = (uint8_t *)copy + parts[i].at;

		assert(!((parts[i].at | parts[i].size) & 7));
		status = write ? env->write(context, where, at, parts[i].size)
			       : env->read(context, where, at, parts[i].size);
	}
	return status;
}
