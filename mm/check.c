/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Integrity of what mm keeps. Each chunk is looked at under one short hold of the chunk lock: its
 * own numbers, its records, its free list. Then what the records say that each owner holds is compared
 * with the accounts. That comparison needs a moment without allocations: counts of changes taken
 * before and after tell whether there was one. A CPU that is between its charge and its frame is
 * done long before the next attempt; so only what all attempts find is reported. Last, the host's own mappings.
 */
#include <stdarg.h>

#include "lib/format.h"
#include "mm/chunk.h"
#include "mm/secret_free.h"

#define ATTEMPTS 3u

enum compare { COMPARE_NOT, COMPARE_SILENT, COMPARE_REPORT };

/* What the records say of each owner. Not from the heap: the check is wanted most when there's no memory. One at a time. */
static struct owned {
	uint64_t pages[ACCOUNT_KINDS];
} owned[MAX_OWNERS];
static uint32_t busy; /* atomic */

struct checker {
	void (*report)(void *context, const char *line);
	void *context;
	unsigned findings;
	uint64_t chunks_seen[CHUNK_KINDS];
	uint64_t pages_seen;
	uint64_t changes;
	uint64_t references, shared, sharers; /* of shared frames: as recorded; the frames; as the accounts say */
	unsigned mismatches;
	enum compare compare;
};

__attribute__((format(printf, 2, 3))) static void finding(struct checker *checker, const char *format, ...)
{
	char line[200];
	va_list args;

	va_start(args, format);
	format_string_v(line, sizeof(line), format, args);
	va_end(args);
	checker->findings++;
	if (checker->report)
		checker->report(checker->context, line);
}

static unsigned long long number(const struct chunk *chunk)
{
	return (unsigned long long)(chunk - chunks.table);
}

/* How many frames the ring has, and of these that aren't known to be zero; free + 1 when it is broken: these have to stand last. */
static unsigned ring_length(const struct chunk *chunk, unsigned *dirty)
{
	unsigned length = 0, index = chunk->head;

	*dirty = 0;
	if (index == NO_FRAME)
		return 0;
	do {
		frame_record record = index < PAGES_PER_BLOCK ? record_load(&chunk->records[index]) : FRAME_ABSENT;
		unsigned next = record_next(record);

		if (record_state(record) != FRAME_FREE || ++length > PAGES_PER_BLOCK || next >= PAGES_PER_BLOCK ||
		    record_previous(record_load(&chunk->records[next])) != index || (*dirty && record & RECORD_ZERO))
			return PAGES_PER_BLOCK + 1;
		*dirty += !(record & RECORD_ZERO);
		index = next;
	} while (index != chunk->head);
	return length;
}

/* Is this record possible in a chunk of this kind, and whose is the frame? */
static bool record_fits(struct checker *checker, const struct chunk *chunk, frame_record record)
{
	bool kernel = chunk->kind == CHUNK_KERNEL;
	owner_t owner = record_owner(record);

	switch ((unsigned)record_state(record)) {
	case FRAME_FREE:
	case RECORD_HELD: return true;
	case FRAME_RETIRED: return chunk->broken;
	case FRAME_ABSENT: return chunk->present < PAGES_PER_BLOCK;
	case FRAME_KERNEL: return kernel;
	case FRAME_SHARED:
		checker->references += record_references(record);
		checker->shared++;
		return !kernel && record_references(record);
	case FRAME_TABLE:
	case FRAME_PRIVATE:
		if ((record_state(record) == FRAME_TABLE) != kernel || owner >= MAX_OWNERS ||
		    (owner && !accounts[owner]) || record_kind(record) >= ACCOUNT_KINDS ||
		    (record_kind(record) == ACCOUNT_TABLE) != kernel)
			return false;
		owned[owner].pages[record_kind(record)]++;
		return true;
	default: return false;
	}
}

static void check_records(struct checker *checker, const struct chunk *chunk)
{
	unsigned free = 0, absent = 0, dirty, length = ring_length(chunk, &dirty);

	for (unsigned i = 0; i < PAGES_PER_BLOCK; i++) {
		frame_record record = record_load(&chunk->records[i]);

		free += record_state(record) == FRAME_FREE;
		absent += record_state(record) == FRAME_ABSENT;
		if (!record_fits(checker, chunk, record))
			finding(checker, "chunk %llu frame %u: impossible record 0x%llx", number(chunk), i,
				(unsigned long long)record);
	}
	if (free != chunk->free || absent + chunk->present != PAGES_PER_BLOCK)
		finding(checker, "chunk %llu: %u frames free and %u absent, its record says %u and %u", number(chunk),
			free, absent, chunk->free, PAGES_PER_BLOCK - chunk->present);
	if (length != free || dirty != chunk->dirty)
		finding(checker, "chunk %llu: its free list has %u frames, %u of them to be cleared, not %u and %u",
			number(chunk), length, dirty, free, chunk->dirty);
}

static void check_links(struct checker *checker, const struct chunk *chunk)
{
	bool wanted = chunk->kind != CHUNK_LARGE && chunk->kind != CHUNK_RETIRED && chunk->free && !chunk->busy &&
		      !chunk->closed;

	if (wanted != (chunk->set != SET_NONE))
		finding(checker, "chunk %llu of kind %u with %u frames free stands in set %u", number(chunk),
			chunk->kind, chunk->free, chunk->set);
	if (chunk->set == SET_NONE)
		return;
	if (chunk->bucket != (chunk->set == SET_OWNED ? 0 : chunk->free >> BUCKET_SHIFT))
		finding(checker, "chunk %llu with %u frames free stands in bucket %u", number(chunk), chunk->free,
			chunk->bucket);
	if ((chunk->next && chunk->next->previous != chunk) ||
	    (chunk->previous ? chunk->previous->next : *chunk_list(chunk, chunk->set, chunk->bucket)) != chunk)
		finding(checker, "chunk %llu: its links are broken", number(chunk));
}

static void check_chunk(struct checker *checker, const struct chunk *chunk)
{
	if (chunk->kind == CHUNK_ABSENT)
		return;
	checker->chunks_seen[chunk->kind]++;
	checker->pages_seen += chunk->present;
	if (chunk->present < PAGES_PER_BLOCK && chunk->kind != CHUNK_KERNEL)
		finding(checker, "chunk %llu of kind %u isn't whole", number(chunk), chunk->kind);
	check_links(checker, chunk);
	if ((chunk->kind == CHUNK_SPLIT || chunk->kind == CHUNK_KERNEL) && !chunk->busy)
		check_records(checker, chunk);
	if (chunk->kind != CHUNK_LARGE)
		return;
	if (chunk->owner >= MAX_OWNERS || (chunk->owner && !accounts[chunk->owner]))
		finding(checker, "chunk %llu belongs to machine %u, which doesn't exist", number(chunk), chunk->owner);
	else
		owned[chunk->owner].pages[ACCOUNT_BASE] += PAGES_PER_BLOCK;
}

static void compare_account(struct account *account, void *context)
{
	struct checker *checker = context;

	HOLD(&account->lock);
	checker->changes += account->changes;
	checker->sharers += account->shared_pages;
	for (unsigned kind = 0; checker->compare != COMPARE_NOT && kind < ACCOUNT_KINDS; kind++) {
		/* Shared frames have no owner: they are charged to base. */
		uint64_t shared = kind == ACCOUNT_BASE ? account->shared_pages : 0;
		uint64_t charged = account->allocated[kind], found = owned[account->owner].pages[kind] + shared;

		if (charged == found)
			continue;
		checker->mismatches++;
		if (checker->compare == COMPARE_REPORT)
			finding(checker, "machine %u: account %u is charged %llu pages, its records say %llu",
				account->owner, kind, (unsigned long long)charged, (unsigned long long)found);
	}
}

/* The sum of all accounts' changes; compares them with the records on the way if it's told to. */
static uint64_t changes(struct checker *checker, enum compare compare)
{
	checker->compare = compare;
	checker->changes = checker->sharers = 0;
	account_each(compare_account, checker);
	if (compare != COMPARE_NOT &&
	    (checker->references != checker->sharers || checker->shared != chunks.shared_frames)) {
		checker->mismatches++;
		if (compare == COMPARE_REPORT)
			finding(checker, "%llu references to %llu shared frames, the accounts say %llu to %llu",
				(unsigned long long)checker->references, (unsigned long long)checker->shared,
				(unsigned long long)checker->sharers, (unsigned long long)chunks.shared_frames);
	}
	return checker->changes;
}

static void check_chunks(struct checker *checker)
{
	__builtin_memset(owned, 0, sizeof(owned));
	checker->pages_seen = checker->references = checker->shared = 0;
	for (unsigned i = 0; i < CHUNK_KINDS; i++)
		checker->chunks_seen[i] = 0;
	for (uint64_t i = 0; i < chunks.count; i++) {
		HOLD(&chunk_lock);
		check_chunk(checker, &chunks.table[i]);
	}
}

unsigned frame_check(void (*report)(void *context, const char *line), void *context)
{
	struct checker checker = { .report = report, .context = context };

	while (__atomic_exchange_n(&busy, 1, __ATOMIC_ACQUIRE))
		spin_pause();
	for (unsigned attempt = 1; attempt <= ATTEMPTS && !checker.findings; attempt++) {
		uint64_t before = changes(&checker, COMPARE_NOT);
		bool still;

		check_chunks(&checker);
		checker.mismatches = 0;
		still = changes(&checker, COMPARE_SILENT) == before;
		if (still && !checker.mismatches)
			break;
		if (still && attempt == ATTEMPTS)
			changes(&checker, COMPARE_REPORT);
	}
	if (checker.pages_seen != chunks.pages)
		finding(&checker, "%llu frames in all chunks, %llu were handed in",
			(unsigned long long)checker.pages_seen, (unsigned long long)chunks.pages);
	__atomic_store_n(&busy, 0, __ATOMIC_RELEASE);
	return checker.findings + secret_free_check(report, context);
}
