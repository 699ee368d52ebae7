/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The kernel heap as lib, dev and vm see it. mm/heap.c provides it in the kernel;
 * unit tests provide it over malloc.
 */
#pragma once

#include <stddef.h>

/* size bytes, zeroed, 16-byte aligned (page-aligned from 4 KiB up); NULL when none is left. size up to 2 MiB. */
void *heap_alloc(size_t size) __attribute__((malloc, warn_unused_result));
/* NULL is allowed. size must be what was asked for. */
void heap_free(void *pointer, size_t size);
