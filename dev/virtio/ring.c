/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Split rings, from the device's side. The guest may write all of this at any time: each word is copied once, and only the copy is
 * checked and used. Work is bounded by the queue's size: a chain has no more segments than that, however its links run.
 *
 * Manual: VIRTIO 1.2 section 2.7.
 */
#include <linux/virtio_ring.h>

#include "dev/virtio/virtio.h"

enum { DESCRIPTORS, AVAILABLE, USED };

#define RING_HEADER 4u /* flags and index, before the entries of the rings */
#define INDEX_AT 2u

_Static_assert(sizeof(struct vring_desc) == 16 && sizeof(struct vring_used_elem) == 8, "as the guest sees them");

static enum status read_guest(struct virtio *v, uint64_t from, void *to, size_t length)
{
	return v->bus->memory_read(v->bus->context, gpa(from), to, length);
}

static enum status write_guest(struct virtio *v, uint64_t to, const void *from, size_t length)
{
	return v->bus->memory_write(v->bus->context, gpa(to), from, length);
}

static bool fits(uint64_t address, uint64_t length)
{
	return address <= VIRTIO_MAX_ADDRESS && length <= VIRTIO_MAX_ADDRESS - address;
}

bool virtio_ring_is_sound(const struct virtio_queue *q)
{
	return !(q->ring[DESCRIPTORS] % 16 || q->ring[AVAILABLE] % 2 || q->ring[USED] % 4) &&
	       fits(q->ring[DESCRIPTORS], PAGE_SIZE) && fits(q->ring[AVAILABLE], PAGE_SIZE) &&
	       fits(q->ring[USED], PAGE_SIZE);
}
_Static_assert(VIRTIO_QUEUE_SIZE * sizeof(struct vring_desc) <= PAGE_SIZE, "no ring is longer than a page");

static uint64_t available_at(const struct virtio_queue *q, uint16_t index)
{
	return q->ring[AVAILABLE] + RING_HEADER + sizeof(uint16_t) * (index % q->size);
}

static uint64_t used_at(const struct virtio_queue *q, uint16_t index)
{
	return q->ring[USED] + RING_HEADER + sizeof(struct vring_used_elem) * (index % q->size);
}

/* Behind the last entry: when the other side wants to hear. */
static uint64_t used_event_at(const struct virtio_queue *q)
{
	return q->ring[AVAILABLE] + RING_HEADER + sizeof(uint16_t) * q->size;
}

static uint64_t available_event_at(const struct virtio_queue *q)
{
	return q->ring[USED] + RING_HEADER + sizeof(struct vring_used_elem) * q->size;
}

static enum status waiting(struct virtio *v, const struct virtio_queue *q, uint16_t *count)
{
	uint16_t index;

	TRY(read_guest(v, q->ring[AVAILABLE] + INDEX_AT, &index, sizeof(index)));
	*count = (uint16_t)(index - q->next_available);
	return *count > q->size ? BAD_FORMAT : OK;
}

/* Nothing is there: the guest is told from which entry on to notify, and then it may have put one there after all. */
static enum status ask_to_notify(struct virtio *v, const struct virtio_queue *q, uint16_t *count)
{
	if (!virtio_has(v, VIRTIO_RING_F_EVENT_IDX))
		return OK;
	TRY(write_guest(v, available_event_at(q), &q->next_available, sizeof(q->next_available)));
	__atomic_thread_fence(__ATOMIC_SEQ_CST);
	return waiting(v, q, count);
}

static enum status add_segment(struct virtio_chain *chain, const struct vring_desc *d, unsigned limit)
{
	bool writable = d->flags & VRING_DESC_F_WRITE;

	if (chain->count >= limit || !d->len || !fits(d->addr, d->len) ||
	    (!writable && chain->readable != chain->count))
		return BAD_FORMAT;
	chain->segment[chain->count++] = (struct virtio_segment){ d->addr, d->len };
	chain->readable += !writable;
	return OK;
}

static enum status walk(struct virtio *v, const struct virtio_queue *q, uint16_t head, struct virtio_chain *chain)
{
	uint64_t table = q->ring[DESCRIPTORS], entries = q->size, at = head;
	bool indirect = false;
	struct vring_desc d;

	chain->head = head;
	chain->count = chain->readable = 0;
	for (;;) {
		if (at >= entries)
			return BAD_FORMAT;
		TRY(read_guest(v, table + at * sizeof(d), &d, sizeof(d)));
		if (!(d.flags & VRING_DESC_F_INDIRECT)) {
			TRY(add_segment(chain, &d, q->size));
			if (!(d.flags & VRING_DESC_F_NEXT))
				return OK;
			at = d.next;
			continue;
		}
		if (indirect || !virtio_has(v, VIRTIO_RING_F_INDIRECT_DESC) || (d.flags & VRING_DESC_F_NEXT) ||
		    d.len % sizeof(d) || !fits(d.addr, d.len))
			return BAD_FORMAT;
		indirect = true;
		table = d.addr;
		entries = d.len / sizeof(d);
		at = 0;
	}
}

/* Where the answer will go gets its memory now: an answer can't be put off. */
static enum status prepare_answer(struct virtio *v, const struct virtio_queue *q, uint16_t head)
{
	struct vring_used_elem e = { .id = head };

	TRY(write_guest(v, used_at(q, q->next_used), &e, sizeof(e)));
	return write_guest(v, q->ring[USED] + INDEX_AT, &q->next_used, sizeof(q->next_used));
}

enum status virtio_ring_take(struct virtio *v, struct virtio_queue *q, struct virtio_chain *chain)
{
	uint16_t count, head;

	TRY(waiting(v, q, &count));
	if (!count)
		TRY(ask_to_notify(v, q, &count));
	if (!count)
		return NOT_FOUND;
	TRY(read_guest(v, available_at(q, q->next_available), &head, sizeof(head)));
	TRY(walk(v, q, head, chain));
	return prepare_answer(v, q, head);
}

enum status virtio_ring_give(struct virtio *v, struct virtio_queue *q, uint16_t head, uint32_t written)
{
	struct vring_used_elem e = { .id = head, .len = written };

	TRY(write_guest(v, used_at(q, q->next_used), &e, sizeof(e)));
	q->next_used++;
	__atomic_thread_fence(__ATOMIC_RELEASE); /* who sees the index sees the entry */
	return write_guest(v, q->ring[USED] + INDEX_AT, &q->next_used, sizeof(q->next_used));
}

bool virtio_ring_wants(struct virtio *v, struct virtio_queue *q)
{
	uint16_t old = q->told_used, word = 0;
	bool events = virtio_has(v, VIRTIO_RING_F_EVENT_IDX);

	if (q->next_used == old)
		return false;
	q->told_used = q->next_used;
	__atomic_thread_fence(
		__ATOMIC_SEQ_CST); /* the index first: the guest looks there after it has said what it wants */
	if (read_guest(v, events ? used_event_at(q) : q->ring[AVAILABLE], &word, sizeof(word)) != OK)
		return true; /* one too many does no harm */
	return events ? vring_need_event(word, q->next_used, old) : !(word & VRING_AVAIL_F_NO_INTERRUPT);
}

/* Copies between a buffer and the segments first..last of a chain. One of the two directions. */
static enum status copy(struct virtio *v, const struct virtio_segment *s, unsigned count, uint64_t offset, uint8_t *to,
			const uint8_t *from, size_t length, size_t *done)
{
	*done = 0;
	for (; count && *done < length; count--, s++) {
		size_t piece = offset < s->length ? min_u64(s->length - offset, length - *done) : 0;

		if (!piece) {
			offset -= s->length;
			continue;
		}
		if (to)
			TRY(read_guest(v, s->address + offset, to + *done, piece));
		else
			TRY(write_guest(v, s->address + offset, from + *done, piece));
		*done += piece;
		offset = 0;
	}
	return OK;
}

enum status virtio_read(struct virtio *v, const struct virtio_chain *chain, uint64_t offset, void *to, size_t length,
			size_t *done)
{
	return copy(v, chain->segment, chain->readable, offset, to, NULL, length, done);
}

enum status virtio_write(struct virtio *v, const struct virtio_chain *chain, uint64_t offset, const void *from,
			 size_t length, size_t *done)
{
	return copy(v, chain->segment + chain->readable, chain->count - chain->readable, offset, NULL, from, length,
		    done);
}
