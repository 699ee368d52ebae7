/* SPDX-License-Identifier: Apache-2.0 */
/*
 * lib/memory.h over malloc, for tests of everything above mm: sanitizers then see each object. Weak, so that tests
 * of mm itself link the real one. heap_live counts bytes in use; heap_budget, when not negative, is how many
 * allocations succeed before they fail.
 */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "lib/memory.h"

long heap_live;
long heap_budget = -1;

__attribute__((weak)) void *heap_alloc(size_t size)
{
	void *pointer;

	if (size > (size_t)2 << 20)
		return NULL;
	if (__atomic_load_n(&heap_budget, __ATOMIC_RELAXED) >= 0 &&
	    __atomic_sub_fetch(&heap_budget, 1, __ATOMIC_RELAXED) < 0) {
		__atomic_store_n(&heap_budget, 0, __ATOMIC_RELAXED);
		return NULL;
	}
	/* The exact size, so that a sanitizer sees a write one byte past the end. */
	if (posix_memalign(&pointer, size >= 4096 ? 4096 : 16, size ? size : 1))
		return NULL;
	memset(pointer, 0, size);
	__atomic_add_fetch(&heap_live, (long)size, __ATOMIC_RELAXED);
	return pointer;
}

__attribute__((weak)) void heap_free(void *pointer, size_t size)
{
	if (!pointer)
		return;
	__atomic_sub_fetch(&heap_live, (long)size, __ATOMIC_RELAXED);
	free(pointer);
}
