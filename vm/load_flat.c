/* SPDX-License-Identifier: Apache-2.0 */
/* Flat binaries: bytes at an address, started there in real or in 64-bit mode. For tests. */
#include "vm/load_internal.h"

enum status load_flat(struct loader *l)
{
	enum status status = loader_write(l, l->config->load_address, l->kernel->data, l->kernel->size, "flat image");

	if (status != OK)
		return status;
	if (l->config->flat_mode == FLAT_LONG)
		return loader_long(l, l->config->entry);
	if (l->config->entry >= MIB)
		return loader_fail(l, BAD_VALUE, "entry %#llx is beyond the first MiB: flat_mode = long reaches it",
				   (unsigned long long)l->config->entry);
	loader_real(l, l->config->entry);
	return OK;
}
