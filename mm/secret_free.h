/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Host mode "secret-free": of memory only what is the kernel's own stands in the direct map. Which that is follows from
 * a chunk's kind and owner alone (chunk_in_direct), and chunk_set_kind() keeps the map in step.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "lib/status.h"

/*
 * Turns the mode on, with this many chunks mapped at most on so many CPUs: takes all other chunks out of the direct map. Once,
 * on the boot CPU while it is the only one; each other CPU calls chunk_map_open() before its first frame_map(). NO_MEMORY: as before.
 */
enum status secret_free_start(unsigned max_mapped_chunks, unsigned cpus) must_check;

/*
 * Walks the host's own tables for a chunk that stands where it mustn't: part of frame_check(), whose way of telling it
 * shares. Nothing is found in mode "direct".
 */
unsigned secret_free_check(void (*report)(void *context, const char *line), void *context);
