/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The two parts of the host's address space that change while it runs, for mm in host mode "secret-free": single
 * 2 MiB blocks of the direct map, which all CPUs share, and each CPU's window, which that CPU alone sees. Unit tests
 * supply their own (tests/unit/common/host_memory.c), where a stray access faults as it would here.
 */
#pragma once

#include "arch/x86_64/address.h"
#include "lib/status.h"

/*
 * Gives the calling CPU an address space of its own: the shared one, and in it a window of `slots` (1..65536) pieces of
 * 2 MiB. Returns where the window begins; NULL: no memory for tables. Once per CPU, no lock held.
 */
uint8_t *window_open(unsigned slots);
/* What stands in a slot of the calling CPU's window from now on. */
void window_set(unsigned slot, hpa_t block);
/*
 * Empties a slot of any CPU's window: on return no CPU can reach there what stood in it, which waits for that CPU if it's another one.
 * Any lock may be held: it answers by NMI. The caller orders calls for one window.
 */
void window_clear(unsigned cpu, unsigned slot);

/* The block's leaf in the direct map becomes one of its own; needed once before direct_set(). NO_MEMORY. No lock held. */
enum status direct_prepare(hpa_t block) must_check;
/*
 * Maps a block in the direct map, or takes it out: then no CPU can reach it there any more on return, which waits for
 * all others. Any lock may be held: they answer by NMI. The caller orders calls for one block.
 */
void direct_set(hpa_t block, bool mapped);

/* All that the shared address space maps (so no window): runs of bytes, at most 1 GiB each. */
typedef void (*mapping_visit)(void *context, uint64_t where, hpa_t from, uint64_t size);
void mappings_each(mapping_visit visit, void *context);
/* Whether it maps `where` to `from` now. */
bool mapping_is(uint64_t where, hpa_t from);
