/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Turning the mode on, and the proof on a running machine that it holds: every mapping of the shared
 * address space is looked at, whatever it was made for, and none may lead to a chunk of a guest's or to a free one.
 */
#include "mm/secret_free.h"

#include "arch/x86_64/window.h"
#include "lib/format.h"
#include "mm/chunk.h"

#define TOLD_MOST 16u

bool chunk_in_direct(const struct chunk *chunk)
{
	switch (chunk->kind) {
	case CHUNK_LARGE: return chunk->owner == OWNER_HOST;
	case CHUNK_FREE:
	case CHUNK_SPLIT: return false;
	default: return true; /* not ours, or the kernel's */
	}
}

enum status secret_free_start(unsigned max_mapped_chunks, unsigned cpus)
{
	enum status status = OK;

	for (uint64_t i = 0; i < chunks.count && status == OK; i++)
		if (chunks.table[i].present == PAGES_PER_BLOCK)
			status = direct_prepare(chunk_frame(&chunks.table[i], 0));
	if (status != OK)
		return status;
	chunk_map_bound(max_mapped_chunks, cpus);
	TRY(chunk_map_open());
	HOLD(&chunk_lock);
	secret_free = true;
	for (uint64_t i = 0; i < chunks.count; i++)
		if (!chunk_in_direct(&chunks.table[i]))
			direct_set(chunk_frame(&chunks.table[i], 0), false);
	return OK;
}

struct check {
	void (*report)(void *context, const char *line);
	void *context;
	unsigned findings;
};

static void found(struct check *check, uint64_t where, const struct chunk *chunk)
{
	char line[120];

	if (++check->findings > TOLD_MOST || !check->report)
		return;
	format_string(line, sizeof(line), "chunk %llu of kind %u is mapped at 0x%llx",
		      (unsigned long long)(chunk - chunks.table), chunk->kind, (unsigned long long)where);
	check->report(check->context, line);
}

/* The chunk may change its kind just now: under the lock, both it and the mapping stand still. */
static void visit(void *context, uint64_t where, hpa_t from, uint64_t size)
{
	for (uint64_t at = 0; at < size; at += BLOCK_SIZE) {
		hpa_t frame = hpa(from.v + at);
		struct chunk *chunk = chunk_of(frame);

		if (frame.v >> BLOCK_SHIFT >= chunks.count)
			return;
		HOLD(&chunk_lock);
		if (!chunk_in_direct(chunk) && mapping_is(where + at, frame))
			found(context, where + at, chunk);
	}
}

unsigned secret_free_check(void (*report)(void *context, const char *line), void *context)
{
	struct check check = { .report = report, .context = context };

	if (secret_free)
		mappings_each(visit, &check);
	return check.findings;
}
