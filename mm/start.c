/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Opening the chunk allocator: the chunk table, and the ranges that go into it. A chunk of which all 512
 * frames are there becomes free; one with frames missing becomes a kernel chunk, with its records in
 * the first frame it has. The direct map must have its final place before mm_start().
 */
#include "mm/chunk.h"
#include "mm/intake.h"

#define LEAST_BYTES (16 * MIB)

/* A chunk that isn't whole: all frames absent but those that will be added, the first of which takes the records. */
static void start_ragged(struct chunk *chunk, unsigned first)
{
	hpa_t frame = chunk_frame(chunk, first);
	frame_record *records = direct_pointer(frame);

	clear_page(records);
	for (unsigned i = 0; i < PAGES_PER_BLOCK; i++)
		record_store(&records[i], FRAME_ABSENT);
	record_store(&records[first], record_kernel(0));
	chunk->records = records;
	chunk->head = NO_FRAME;
	chunk->present = 1;
	chunks.pages++;
	chunks.ragged_pages++;
	chunks.ragged++;
	chunk_set_kind(chunk, CHUNK_KERNEL);
}

/* One more frame of a ragged chunk; it may become whole by it. */
static void add_frame(struct chunk *chunk, unsigned index)
{
	if (record_state(record_load(&chunk->records[index])) != FRAME_ABSENT)
		return;
	chunk_push(chunk, index, false);
	chunk->present++;
	chunks.pages++;
	chunks.ragged_pages++;
	chunks.kernel_present++;
	if (chunk->present == PAGES_PER_BLOCK) {
		chunks.ragged_pages -= PAGES_PER_BLOCK;
		chunks.ragged--;
	}
}

/* Frames first .. first + count - 1 of one chunk. Under chunk_lock. */
static void add_to_chunk(struct chunk *chunk, unsigned first, unsigned count)
{
	if (chunk->kind == CHUNK_ABSENT && count == PAGES_PER_BLOCK) {
		chunk->present = PAGES_PER_BLOCK;
		chunks.pages += PAGES_PER_BLOCK;
		chunk_give_back(chunk, 0);
		return;
	}
	if (chunk->kind != CHUNK_ABSENT && chunk->kind != CHUNK_KERNEL) {
		log_line(LOG_WARNING "mm: memory at 0x%llx is there already",
			 (unsigned long long)chunk_frame(chunk, first).v);
		return;
	}
	if (chunk->kind == CHUNK_ABSENT)
		start_ragged(chunk, first);
	for (unsigned i = first; i < first + count; i++)
		add_frame(chunk, i);
	chunk_relist(chunk);
}

void mm_add_range(uint64_t base, uint64_t size)
{
	uint64_t end = align_down(base + size, PAGE_SIZE);
	uint64_t top = chunks.count << BLOCK_SHIFT;

	base = align_up(base, PAGE_SIZE);
	if (end > top) {
		log_line(LOG_WARNING "mm: memory above 0x%llx is left alone", (unsigned long long)top);
		end = top;
	}
	while (base < end) {
		uint64_t stop = min_u64(end, align_down(base, BLOCK_SIZE) + BLOCK_SIZE);

		lock_acquire(&chunk_lock);
		add_to_chunk(chunk_of(hpa(base)), frame_index(hpa(base)), (unsigned)((stop - base) >> PAGE_SHIFT));
		lock_release(&chunk_lock);
		base = stop;
	}
}

enum status mm_start(struct memory_layout *layout)
{
	uint64_t count = align_up(layout->top, BLOCK_SIZE) >> BLOCK_SHIFT, bytes = 0;
	hpa_t table = early_alloc(layout, align_up(count * sizeof(struct chunk), PAGE_SIZE), PAGE_SIZE);

	if (hpa_is_none(table))
		return NO_MEMORY;
	for (unsigned i = 0; i < layout->count; i++)
		bytes += layout->usable[i].size;
	if (bytes < LEAST_BYTES)
		return NO_MEMORY;
	chunks.table = direct_pointer(table);
	chunks.count = count;
	for (unsigned i = 0; i < layout->count; i++)
		mm_add_range(layout->usable[i].base, layout->usable[i].size);
	share_start();
	layout->count = 0; /* all handed over: early_alloc() has nothing left */
	return OK;
}
