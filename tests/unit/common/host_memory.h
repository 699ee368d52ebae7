/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A host's memory for tests, mapped as the kernel has it: a direct map, of which pieces can be taken out, and a window for
 * each CPU (arch/x86_64/window.h). A piece that is out, and an empty slot, fault. What isn't the kernel (the processor in a guest,
 * the test itself) reaches all of it by host_memory_at().
 */
#pragma once

#include "arch/x86_64/address.h"

/* Returns the direct map, aligned to 2 MiB. A second call makes another machine. */
uint8_t *host_memory_make(uint64_t size);
/* From here on every 2 MiB of memory is one and the same: a large fake memory that costs little. */
void host_memory_fold(uint64_t from);
void *host_memory_at(hpa_t where);
/* For tests of the check: the kernel maps this block once more, at an address of its own. HPA_NONE: no more. */
void host_memory_alias(hpa_t block);
/* Is the block in the direct map? */
bool host_memory_is_direct(hpa_t block);
