/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Modules: memory to which a guest has given a name, under which other machines of its group have the same, it says. Fusion looks at such
 * memory first (fusion.h); contents decide, as ever, so a lie is of no use.
 */
#pragma once

#include "arch/x86_64/address.h"
#include "lib/status.h"

struct fusion;
struct pgm;

#define MODULES_MOST 2048u /* of a machine */
#define MODULE_REGIONS 32u
#define MODULE_PAGES (GIB / PAGE_SIZE) /* of a region */

struct module {
	uint64_t name;
	enum module_look { MODULE_SEEN, MODULE_WOKEN, MODULE_FRESH } look; /* not SEEN: it waits for fusion */
	struct {
		uint64_t page : 40, pages : 24; /* 0 pages: there is none here, and none behind it */
	} region[MODULE_REGIONS];
};

/* Under pgm->lock. */
struct modules {
	struct module *module; /* sorted by name */
	unsigned count, pages; /* pages: of the array, as long as the machine lives */
	unsigned waiting;      /* atomic */
};

/*
 * A region of the module of this name, whole pages in one range of RAM; one that begins there already gets this size. BAD_ADDRESS;
 * LIMIT; NO_MEMORY; NOT_SUPPORTED: the machine shares with nobody. Any CPU, no lock held.
 */
enum status pgm_module_add(struct pgm *pgm, uint64_t name, gpa_t base, uint64_t pages) must_check;
/* What is shared stays so. NOT_FOUND. */
enum status pgm_module_remove(struct pgm *pgm, uint64_t name) must_check;
/* Fills in the region of this name and index, or the first one behind it. false: there is none. */
struct module_region {
	uint64_t name, base, pages;
	unsigned index;
};
bool pgm_module_get(struct pgm *pgm, struct module_region *region);

/* For fusion: its next region there, which is the first of a module that waits when the last one's are through. false: nothing waits. */
bool modules_next(struct pgm *pgm, struct fusion *f);
/* This module, if there is one, waits. */
void modules_wake(struct pgm *pgm, uint64_t name);
/* At a reset: all names are gone. */
void modules_clear(struct pgm *pgm);
