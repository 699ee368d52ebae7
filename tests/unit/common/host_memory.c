/* SPDX-License-Identifier: Apache-2.0 */
/* See the header: one file in memory, mapped several times. */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "arch/x86_64/percpu.h"
#include "arch/x86_64/window.h"
#include "common/host_memory.h"

#define ALIAS_AT UINT64_C(0x123400000000)

static int file = -1;
static uint64_t memory_size, fold = UINT64_MAX;
static uint8_t *direct, *all;
static struct {
	uint8_t *at;
	unsigned slots;
	hpa_t *blocks; /* what stands in each slot */
} windows[MAX_CPUS];
static bool *out; /* atomic: blocks that aren't in the direct map */
static hpa_t alias = { ~UINT64_C(0) };

static void must(bool condition, const char *what)
{
	if (condition)
		return;
	perror(what);
	abort();
}

static off_t offset_of(uint64_t where)
{
	return (off_t)(where < fold ? where : fold + (where & (BLOCK_SIZE - 1)));
}

static uint8_t *reserve(uint64_t size)
{
	uint8_t *raw = mmap(NULL, size + BLOCK_SIZE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

	must(raw != MAP_FAILED, "mmap");
	return (uint8_t *)align_up((uintptr_t)raw, BLOCK_SIZE);
}

static void place(uint8_t *at, uint64_t where, uint64_t size)
{
	must(mmap(at, size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED | MAP_NORESERVE, file, offset_of(where)) !=
		     MAP_FAILED,
	     "mmap");
}

static int new_file(void)
{
	int made = memfd_create("host memory", 0);

	must(made >= 0 && ftruncate(made, (off_t)memory_size) == 0, "memfd");
	return made;
}

/* A child of the test's goes on with memory of its own, as it is in common life. */
static void after_fork(void)
{
	int shared = file;

	file = new_file();
	must(pwrite(file, all, min_u64(memory_size, fold), 0) >= 0, "pwrite");
	close(shared);
	place(all, 0, memory_size);
	for (uint64_t at = 0; at < memory_size; at += BLOCK_SIZE) {
		place(direct + at, at, BLOCK_SIZE);
		direct_set(hpa(at), !out[at >> BLOCK_SHIFT]);
	}
	for (unsigned cpu = 0; cpu < MAX_CPUS; cpu++)
		for (unsigned slot = 0; slot < windows[cpu].slots; slot++)
			if (!hpa_is_none(windows[cpu].blocks[slot]))
				place(windows[cpu].at + slot * BLOCK_SIZE, windows[cpu].blocks[slot].v, BLOCK_SIZE);
}

uint8_t *host_memory_make(uint64_t size)
{
	if (file < 0)
		must(pthread_atfork(NULL, NULL, after_fork) == 0, "pthread_atfork");
	else
		close(file);
	memory_size = align_up(size, BLOCK_SIZE);
	file = new_file();
	fold = UINT64_MAX;
	direct = reserve(memory_size);
	all = reserve(memory_size);
	place(direct, 0, memory_size);
	place(all, 0, memory_size);
	free(out);
	out = calloc(memory_size >> BLOCK_SHIFT, sizeof(*out));
	must(out != NULL, "calloc");
	return direct;
}

void host_memory_fold(uint64_t from)
{
	fold = from;
	for (uint64_t at = from; at < memory_size; at += BLOCK_SIZE) {
		place(direct + at, at, BLOCK_SIZE);
		place(all + at, at, BLOCK_SIZE);
	}
}

void *host_memory_at(hpa_t where)
{
	return all + where.v;
}

void host_memory_alias(hpa_t block)
{
	alias = block;
}

bool host_memory_is_direct(hpa_t block)
{
	return !__atomic_load_n(&out[block.v >> BLOCK_SHIFT], __ATOMIC_RELAXED);
}

/* ---- arch/x86_64/window.h ---- */

uint8_t *window_open(unsigned slots)
{
	unsigned cpu = cpu_index();

	windows[cpu].at = reserve(slots * BLOCK_SIZE);
	windows[cpu].slots = slots;
	windows[cpu].blocks = malloc(slots * sizeof(hpa_t));
	for (unsigned i = 0; i < slots; i++)
		windows[cpu].blocks[i] = HPA_NONE;
	return windows[cpu].at;
}

void window_set(unsigned slot, hpa_t block)
{
	windows[cpu_index()].blocks[slot] = block;
	place(windows[cpu_index()].at + slot * BLOCK_SIZE, block.v, BLOCK_SIZE);
}

void window_clear(unsigned cpu, unsigned slot)
{
	windows[cpu].blocks[slot] = HPA_NONE;
	must(mmap(windows[cpu].at + slot * BLOCK_SIZE, BLOCK_SIZE, PROT_NONE,
		  MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED | MAP_NORESERVE, -1, 0) != MAP_FAILED,
	     "mmap");
}

enum status direct_prepare(hpa_t block)
{
	return block.v < memory_size ? OK : BAD_ADDRESS;
}

void direct_set(hpa_t block, bool mapped)
{
	must(mprotect(direct + block.v, BLOCK_SIZE, mapped ? PROT_READ | PROT_WRITE : PROT_NONE) == 0, "mprotect");
	__atomic_store_n(&out[block.v >> BLOCK_SHIFT], !mapped, __ATOMIC_RELAXED);
}

bool mapping_is(uint64_t where, hpa_t from)
{
	if (where == ALIAS_AT)
		return from.v == alias.v;
	return where - (uintptr_t)direct == from.v && host_memory_is_direct(from);
}

void mappings_each(mapping_visit visit, void *context)
{
	for (uint64_t at = 0; at < memory_size; at += BLOCK_SIZE)
		if (host_memory_is_direct(hpa(at)))
			visit(context, (uintptr_t)direct + at, hpa(at), BLOCK_SIZE);
	if (!hpa_is_none(alias))
		visit(context, ALIAS_AT, alias, BLOCK_SIZE);
}
