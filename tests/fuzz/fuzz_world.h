/* SPDX-License-Identifier: Apache-2.0 */
/* A small fake machine for fuzz targets above mm: mm over one mmap, and a PGM in it. */
#pragma once

#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "mm/intake.h"
#include "pgm/internal.h"

#define FUZZ_WORLD (64 * MIB)

__attribute__((unused)) static void must(bool condition)
{
	if (!condition)
		abort();
}

static void fuzz_sync(struct flush_domain *domain, uint64_t generation)
{
}

/* A machine with this much RAM; the world around it is made at the first call. */
__attribute__((unused)) static struct pgm *fuzz_pgm(uint64_t ram)
{
	struct pgm_config config = { .ram = ram,
				     .large_pages = true,
				     .slat = &pt_ept4,
				     .slat_2m = true,
				     .physical_bits = 40,
				     .max_access_handlers = 32 };
	static struct memory_layout layout;
	struct pgm *pgm = NULL;
	char why[200];

	if (!direct_map) {
		uint8_t *raw = mmap(NULL, FUZZ_WORLD + BLOCK_SIZE, PROT_READ | PROT_WRITE,
				    MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

		must(raw != MAP_FAILED);
		direct_map = (uint8_t *)align_up((uintptr_t)raw, BLOCK_SIZE);
		layout.count = 1;
		layout.usable[0] = (struct memory_range){ MIB, FUZZ_WORLD - MIB };
		layout.top = FUZZ_WORLD;
		must(mm_start(&layout) == OK);
		must(pgm_start() == OK);
	}
	must(pgm_create(&pgm, &config, fuzz_sync, NULL, why, sizeof(why)) == OK);
	return pgm;
}

/* All comes back, or the target fails. */
__attribute__((unused)) static void fuzz_end(struct pgm *pgm)
{
	enum status status;

	while ((status = pgm_destroy_step(pgm)) == BUSY)
		;
	must(status == OK);
}
