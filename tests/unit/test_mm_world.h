/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A small fake machine for tests of mm: its memory is that of common/host_memory.h, in both host modes. All of it
 * is filled with a pattern first, so that a frame handed out without being cleared shows.
 */
#pragma once

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "common/host_memory.h"
#include "lib/memory.h"
#include "mm/chunk.h"
#include "mm/counters.h"
#include "mm/gather.h"
#include "mm/inject.h"
#include "mm/intake.h"
#include "mm/secret_free.h"

#define WORLD_PATTERN 0x5a

/* CPUs that tests with threads give themselves. */
#define WORLD_CPUS 8u
/*
 * Of so many uses of guest memory each one is the last for now. Mapping is dear here: a program that maps a thousand times for each of its
 * deeds takes a prime number of which it has no multiple itself.
 */
#ifndef WORLD_STRICT
#define WORLD_STRICT 1u
#endif
/* What each of them may have mapped. */
#ifndef WORLD_CHUNKS
#define WORLD_CHUNKS 64u
#endif

extern __thread unsigned test_cpu;

/*
 * The host mode: with QUIRE_MAPPING=secret-free in the environment guest memory leaves the direct map once mm is open, and
 * whoever reaches for it there, or after its frame_unmap(), faults.
 */
__attribute__((unused)) static void world_mode(void)
{
	const char *mode = getenv("QUIRE_MAPPING");

	if (!mode || strcmp(mode, "secret-free"))
		return;
	chunk_map_strict = WORLD_STRICT;
	assert_int_equal(secret_free_start(WORLD_CPUS * WORLD_CHUNKS, WORLD_CPUS), OK);
	for (test_cpu = 1; test_cpu < WORLD_CPUS; test_cpu++) {
		assert_int_equal(chunk_map_open(), OK);
	}
	test_cpu = 0;
}

/*
 * Usable memory 1 MiB .. size, with the page below 3 MiB and the last 5 pages missing, so three chunks are ragged.
 * The chunk table reaches to top.
 */
__attribute__((unused)) static void world_start_below(uint64_t top, uint64_t size)
{
	static struct memory_layout layout;

	direct_map = host_memory_make(top);
	layout.count = 2;
	layout.usable[0] = (struct memory_range){ MIB, 2 * MIB - PAGE_SIZE };
	layout.usable[1] = (struct memory_range){ 3 * MIB, size - 3 * MIB - 5 * PAGE_SIZE };
	layout.top = top;
	memset(direct_map, WORLD_PATTERN, size);
	assert_int_equal(mm_start(&layout), OK);
	world_mode();
}

__attribute__((unused)) static void world_start(uint64_t size)
{
	world_start_below(size, size);
}

__attribute__((unused)) static bool is_zero(hpa_t frame, uint64_t size)
{
	const uint64_t *words = host_memory_at(frame);

	for (uint64_t i = 0; i < size / 8; i++) {
		if (words[i])
			return false;
	}
	return true;
}

__attribute__((unused)) static void soil(hpa_t frame)
{
	memset(host_memory_at(frame), 0xee, PAGE_SIZE);
}

__attribute__((unused)) static void print_finding(void *context, const char *line)
{
	(void)context;
	fprintf(stderr, "check: %s\n", line);
}

__attribute__((unused)) static struct account *open_account(uint64_t base, uint64_t table, uint64_t fixed)
{
	struct account *account = malloc(sizeof(*account));
	struct account_request request = { .pages = { base, table, fixed } };
	char why[256] = "";
	enum status status = account_open(account, &request, why, sizeof(why));

	if (status != OK)
		fprintf(stderr, "admission: %s\n", why);
	assert_int_equal(status, OK);
	return account;
}

__attribute__((unused)) static enum status account_resize(struct account *account, enum account_kind kind,
							  uint64_t pages)
{
	return account_adjust(account, kind, (int64_t)(pages - account->reserved[kind]));
}

__attribute__((unused)) static void close_account(struct account *account)
{
	assert_int_equal(account_close(account), OK);
	free(account);
}

__attribute__((unused)) static void free_one(struct account *account, hpa_t frame, enum account_kind kind)
{
	struct gather gather;

	gather_begin(&gather, NULL, account);
	gather_frame(&gather, frame, kind);
	gather_finish(&gather);
}

__attribute__((unused)) static void free_block(struct account *account, hpa_t block)
{
	struct gather gather;

	gather_begin(&gather, NULL, account);
	gather_block(&gather, block);
	gather_finish(&gather);
}

__attribute__((unused)) static struct frame_totals totals_now(void)
{
	struct frame_totals totals;

	frame_totals(&totals);
	return totals;
}
