/* SPDX-License-Identifier: Apache-2.0 */
/* What machine.c (the list of machines), machine/start.c and machine/end.c share. Nobody else includes it. */
#pragma once

#include "pgm/slat/tables.h"
#include "vm/machine.h"

/* machine/start.c: the guest's files into fresh or reset memory. Boot CPU, no vcpu inside. why: see load_guest(). */
enum status machine_load(struct machine *m, char *why, size_t size) must_check;
/* machine/start.c: a start or reset failed: is it for what pressure may get back, and to be tried again at m->again_at? */
bool machine_postpone(struct machine *m, enum status status);
/* machine/end.c: gives back all that a machine holds, at once. Boot CPU, no vcpu inside. */
void machine_take_apart(struct machine *m);
/* machine/fuse.c: whose pages may be this machine's, by name; 0: nobody's. */
uint16_t fuse_group(const struct machine *m);
/* At boot, before the first machine: what all remember is the host's own, and not promised to any. */
void fuse_open(const struct quire_config *config);
bool fuse_is_due(void);
/* In the worker's turn. */
void fuse_idle_step(void);
/* May pages be looked for, but for a person who says `now`? */
bool fuse_is_on(void);
/* machine/pressure.c: some balloon may hold what it needn't. */
void pressure_lent(void);
/* machine/balloon.c: so many pages are to be in it, by nobody's word. */
void machine_balloon_set(struct machine *m, uint64_t pages);
/* machine/compact.c: compaction is due, or shall be at once; the second in the worker's turn. */
bool compact_is_due(void);
void compact_soon(void);
void compact_idle_step(void);
/* machine/flush.c: PGM's flushes end here. Any CPU, any lock held. */
void machine_sync_flush(struct flush_domain *domain, uint64_t generation);
