/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The chunk table and its sets. Where a chunk stands follows from its kind, its free count
 * and its owner, in set_of() alone; everything else here moves it there.
 *
 * Chunks that come empty return to the free set. One empty chunk cut for guests and one cut for
 * the kernel are kept as spares, so that a page that comes and goes doesn't cut a chunk each
 * time; whoever wants a whole chunk and finds none gets the spares.
 */
#include "arch/x86_64/window.h"
#include "mm/chunk.h"
#include "mm/counters.h"

struct chunk_state chunks;
struct spinlock chunk_lock __attribute__((aligned(64))) = SPINLOCK(RANK_CHUNK, "chunks");
struct account *accounts[MAX_OWNERS];
struct mm_counters mm_counters __attribute__((aligned(64)));

static enum chunk_set set_of(const struct chunk *chunk)
{
	if (chunk->busy || chunk->closed || !chunk->free)
		return SET_NONE;
	switch (chunk->kind) {
	case CHUNK_FREE: return chunk->cleared == PAGES_PER_BLOCK ? SET_ZERO : SET_DIRTY;
	case CHUNK_SPLIT: return accounts[chunk->owner] ? SET_OWNED : SET_ORPHAN;
	case CHUNK_KERNEL: return SET_KERNEL;
	default: return SET_NONE;
	}
}

struct chunk **chunk_list(const struct chunk *chunk, enum chunk_set set, unsigned bucket)
{
	return set == SET_OWNED ? &accounts[chunk->owner]->partly_used : &chunks.bucket[set][bucket];
}

static void list_add(struct chunk *chunk, enum chunk_set set, unsigned bucket)
{
	struct chunk **head = chunk_list(chunk, set, bucket);

	chunk->set = (uint8_t)set;
	chunk->bucket = (uint8_t)bucket;
	chunk->previous = NULL;
	chunk->next = *head;
	if (*head)
		(*head)->previous = chunk;
	*head = chunk;
	chunks.filled[set] |= BIT(bucket);
	chunks.sets[set]++;
}

void chunk_unlist(struct chunk *chunk)
{
	struct chunk **head = chunk_list(chunk, chunk->set, chunk->bucket);

	if (chunk->set == SET_NONE)
		return;
	if (chunk->next)
		chunk->next->previous = chunk->previous;
	if (chunk->previous)
		chunk->previous->next = chunk->next;
	else
		*head = chunk->next;
	if (!*head)
		chunks.filled[chunk->set] &= ~BIT(chunk->bucket);
	chunks.sets[chunk->set]--;
	chunk->set = SET_NONE;
}

void chunk_relist(struct chunk *chunk)
{
	enum chunk_set set = set_of(chunk);
	unsigned bucket = set == SET_OWNED ? 0 : chunk->free >> BUCKET_SHIFT;

	if (chunk->set == set && (set == SET_NONE || chunk->bucket == bucket))
		return;
	chunk_unlist(chunk);
	if (set != SET_NONE)
		list_add(chunk, set, bucket);
}

/* A spare is one of its kind only: one that was used up and joined, say, may be free later, and isn't ours to dissolve. */
static void forget_spare(const struct chunk *chunk)
{
	if (chunks.guest_spare == chunk)
		chunks.guest_spare = NULL;
	if (chunks.kernel_spare == chunk)
		chunks.kernel_spare = NULL;
}

void chunk_set_kind(struct chunk *chunk, enum chunk_kind kind)
{
	bool ragged = chunk->present < PAGES_PER_BLOCK, direct = secret_free && chunk_in_direct(chunk);

	chunk_unlist(chunk);
	forget_spare(chunk);
	if (chunk->kind != CHUNK_ABSENT)
		chunks.kinds[chunk->kind]--;
	if (chunk->kind == CHUNK_KERNEL)
		chunks.kernel_present -= chunk->present;
	chunk->kind = (uint8_t)kind;
	chunks.kinds[kind]++;
	if (kind == CHUNK_KERNEL)
		chunks.kernel_present += chunk->present;
	panic_unless(!ragged || kind == CHUNK_KERNEL);
	if (unlikely(secret_free) && chunk_in_direct(chunk) != direct) {
		direct_set(chunk_frame(chunk, 0), !direct);
		mm_count(direct ? &mm_counters.direct_left : &mm_counters.direct_entered, 1);
	}
}

struct chunk *chunk_fullest(enum chunk_set set)
{
	if (!chunks.filled[set])
		return NULL;
	return chunks.bucket[set][__builtin_ctzll(chunks.filled[set])];
}

void chunk_give_back(struct chunk *chunk, unsigned cleared)
{
	chunk_set_kind(chunk, chunk->broken ? CHUNK_RETIRED : CHUNK_FREE);
	chunks.retired_frames += chunk->broken ? PAGES_PER_BLOCK : 0;
	chunk->records = NULL;
	chunk->owner = OWNER_HOST;
	chunk->free = PAGES_PER_BLOCK;
	chunk->cleared = (uint16_t)cleared;
	chunk->busy = false;
	chunk_relist(chunk);
}

/* An empty split or kernel chunk becomes a free one; a split one's records frame goes back to its kernel chunk. */
static void dissolve(struct chunk *chunk)
{
	hpa_t records = HPA_NONE;

	if (chunk->kind == CHUNK_SPLIT)
		records = direct_address(chunk->records);
	else
		chunks.kernel_free -= chunk->free;
	chunks.dirty_frames -= chunk->dirty;
	chunk->dirty = 0;
	chunk_give_back(chunk, 0);
	mm_count(&mm_counters.chunks_returned, 1);
	if (!hpa_is_none(records))
		chunk_return_frame(records, false);
}

static bool is_empty(const struct chunk *chunk)
{
	unsigned self = chunk->kind == CHUNK_KERNEL;

	return chunk->present == PAGES_PER_BLOCK && chunk->free + self == PAGES_PER_BLOCK;
}

/* The chunk came empty: the first one stays as the spare. A guests' spare belongs to nobody. */
static void let_go(struct chunk *chunk)
{
	struct chunk **spare = chunk->kind == CHUNK_KERNEL ? &chunks.kernel_spare : &chunks.guest_spare;

	if (*spare && *spare != chunk && is_empty(*spare)) {
		dissolve(chunk);
		return;
	}
	*spare = chunk;
	if (chunk->owner) {
		chunk_unlist(chunk);
		chunk->owner = OWNER_HOST;
		chunk_relist(chunk);
	}
}

void chunk_return_frame(hpa_t frame, bool zero)
{
	struct chunk *chunk = chunk_of(frame);

	if (unlikely(chunk->broken) && frame_retires(frame))
		return;
	chunk_push(chunk, frame_index(frame), zero);
	chunk->closed &= !is_empty(chunk);
	chunk_relist(chunk);
	if (unlikely(is_empty(chunk)))
		let_go(chunk);
}

/* A spare that was used meanwhile isn't one any more. */
static bool drop_spare(struct chunk **spare)
{
	struct chunk *chunk = *spare;

	*spare = NULL;
	if (!chunk || !is_empty(chunk))
		return false;
	dissolve(chunk);
	return true;
}

void chunk_drop_spares(void)
{
	drop_spare(&chunks.guest_spare);
	drop_spare(&chunks.kernel_spare);
}

/* Any one free chunk, taken out of its set; NULL when there is none. A spare is given up for it. */
static struct chunk *take_free(bool prefer_zero)
{
	static const enum chunk_set order[2][2] = { { SET_DIRTY, SET_ZERO }, { SET_ZERO, SET_DIRTY } };

	for (unsigned attempt = 0; attempt < 2; attempt++) {
		for (unsigned i = 0; i < 2; i++) {
			struct chunk *chunk = chunk_fullest(order[prefer_zero][i]);

			if (chunk) {
				chunk_unlist(chunk);
				return chunk;
			}
		}
		chunk_drop_spares();
	}
	return NULL;
}

/* How many free chunks the kernel will still want for tables and records that machines were promised. */
uint64_t chunk_kernel_headroom(void)
{
	uint64_t used = chunks.kernel_present - chunks.kernel_free;
	uint64_t grown = used > chunks.kernel_base ? used - chunks.kernel_base : 0;
	uint64_t at_hand = grown + chunks.kernel_free;

	if (chunks.kernel_promised <= at_hand)
		return 0;
	return (chunks.kernel_promised - at_hand + PAGES_PER_BLOCK - 2) / (PAGES_PER_BLOCK - 1);
}

/* Chunks that stay for machines of higher priority than this one's. */
static uint64_t kept_from(owner_t owner)
{
	unsigned priority = accounts[owner] ? accounts[owner]->priority : PRIORITY_HIGH;

	return priority == PRIORITY_LOW ? chunks.kept : priority == PRIORITY_NORMAL ? chunks.kept / 2 : 0;
}

bool chunk_guest_may_take(owner_t owner, uint64_t count)
{
	uint64_t wanted = chunk_kernel_headroom() + kept_from(owner) + count;

	if (likely(chunks.kinds[CHUNK_FREE] >= wanted))
		return true;
	drop_spare(&chunks.guest_spare);
	return chunks.kinds[CHUNK_FREE] >= wanted;
}

void chunk_become(struct chunk *chunk, owner_t owner, enum chunk_kind kind, gpa_t block)
{
	chunk_leave_windows(chunk);
	chunk->owner = owner;
	chunk_set_kind(chunk, kind);
	chunk->free = 0;
	chunk->busy = kind != CHUNK_LARGE;
	chunk->block = block.v >> PAGE_SHIFT;
}

/* *again: one is being cleared, so another look is worth while. */
static struct chunk *claim(owner_t owner, enum chunk_kind kind, gpa_t block, bool *again)
{
	struct chunk *chunk = NULL;

	HOLD(&chunk_lock);
	bool may = owner == OWNER_HOST || chunk_guest_may_take(owner, 1);
	if (may)
		chunk = take_free(kind != CHUNK_KERNEL);
	if (chunk)
		chunk_become(chunk, owner, kind, block);
	*again = may && !chunk && chunks.clearing;
	return chunk;
}

struct chunk *chunk_claim(owner_t owner, enum chunk_kind kind, gpa_t block)
{
	bool again;
	struct chunk *chunk = claim(owner, kind, block, &again);

	if (likely(!again))
		return chunk;
	chunk_clearing_hold();
	chunk = claim(owner, kind, block, &again);
	chunk_clearing_resume();
	return chunk;
}
