/* SPDX-License-Identifier: Apache-2.0 */
/* lib/memory.h over the C library, for unit tests: zeroed and aligned as the kernel's heap is. */
#include <stdlib.h>
#include <string.h>

#include "lib/memory.h"

void *heap_alloc(size_t size)
{
	void *pointer;

	if (posix_memalign(&pointer, size >= 4096 ? 4096 : 16, size ? size : 1))
		return NULL;
	return memset(pointer, 0, size);
}

void heap_free(void *pointer, size_t size)
{
	free(pointer);
}
