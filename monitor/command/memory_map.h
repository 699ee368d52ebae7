/* SPDX-License-Identifier: Apache-2.0 */
/* Guest memory shown: the map of blocks, one page. Boot CPU only. */
#pragma once

#include "monitor/text/output.h"
#include "pgm/pgm.h"

struct machine;

const char *memory_block_name(enum block_kind kind);
/* Runs of 2 MiB blocks of one kind in the machines' RAM and ROM: a table "blocks", bounded in rows and in blocks looked at. */
void memory_map_show(struct output *out, struct machine *const *machines, unsigned count);
/* The fields of `page`, also at the end of `walk`. */
void memory_page_show(struct output *out, struct machine *machine, gpa_t where);
